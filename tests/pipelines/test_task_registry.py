"""The table of tasks: patterns, availability, and which stages come of it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from momo.evaluation.metrics import METRICS
from momo_platform.stages import Stage, UserError, fingerprint
from pipelines.config import EvaluationConfig
from pipelines.evaluation.datasets import DATA_SETS, locate
from pipelines.evaluation.graph import build_suite
from pipelines.evaluation.loaders import loader_named
from pipelines.evaluation.protocols import protocol_named
from pipelines.evaluation.tasks import GROUPS, TASKS, choose
from pipelines.given_model import GivenModel, run_given_model

ROOT = Path(__file__).resolve().parents[2]
# As FLAVA's paper groups them (arXiv 2112.04482) and GLUE's defines its metrics (arXiv 1804.07461).
GLUE = {
    "cola": "matthews", "sst2": "accuracy", "mrpc": "accuracy_f1", "stsb": "pearson_spearman",
    "qqp": "accuracy_f1", "mnli": "accuracy", "qnli": "accuracy", "rte": "accuracy",
}  # fmt: skip
IMAGES = (
    "imagenet food101 cifar10 cifar100 cars aircraft dtd pets caltech101 flowers102 mnist stl10 "
    "eurosat gtsrb kitti pcam ucf101 clevr fer2013 sun397 rendered_sst2 country211"
)


def test_the_table_is_whole():
    for task in TASKS.values():
        assert task.data in DATA_SETS
        assert task.group in (*GROUPS, "diagnostic")
        assert protocol_named(task.protocol).name == task.protocol
        if task.protocol not in ("retrieval", "reranked"):
            assert task.metric in METRICS
    for data in DATA_SETS.values():
        assert callable(loader_named(data.loader))
        assert bool(data.needs) != bool(data.inputs)
        assert data.licence
        assert data.source
    assert {t.name for t in choose(["image"])} == {f"image/{n}" for n in IMAGES.split()}
    assert {t.name: t.metric for t in choose(["glue"])} == {f"glue/{n}": m for n, m in GLUE.items()}
    assert len(choose(["multimodal"])) == 3 + 8
    assert all(t.group == "text" for t in choose(["glue/*"]))


def test_patterns():
    assert choose(["demo/mnist"]) == (TASKS["demo/mnist"],)
    assert choose(["image,glue/*", "demo"]) == choose(["demo", "image", "glue"])
    assert [t.name for t in choose(["*/mnist"])] == ["demo/mnist", "image/mnist"]
    with pytest.raises(UserError, match="did you mean glue/mnli"):
        choose(["glue/mnil"])
    with pytest.raises(UserError, match="did you mean image"):
        choose(["imgae"])
    with pytest.raises(UserError, match="none named"):
        choose([","])


def test_what_is_missing_says_how_to_get_it(tmp_path):
    data = DATA_SETS["glue-sst2"]
    assert "--data" in locate(data, "")
    reason = locate(data, str(tmp_path))
    assert "glue/sst2 not in the folder of --data" in reason
    assert "datasets.load_dataset('nyu-mll/glue', 'sst2')" in reason
    (tmp_path / "glue" / "sst2").mkdir(parents=True)
    place = locate(data, str(tmp_path))
    (tmp_path / "glue" / "sst2" / "train.parquet").write_bytes(b"x")
    assert locate(data, str(tmp_path)).digest != place.digest


def test_every_file_that_is_read_is_needed(tmp_path):
    for name in ("hateful_memes", "snli_ve", "vqav2", "imagenet", "kitti"):
        data = DATA_SETS[name]
        for need in data.needs:
            place = tmp_path / name / need
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("x") if "." in place.name else place.mkdir(exist_ok=True)
        first = locate(data, str(tmp_path / name))
        for need in data.needs:
            place = tmp_path / name / need
            (place / "new.jpg" if place.is_dir() else place).write_text("more")
            second = locate(data, str(tmp_path / name))
            assert second.digest != first.digest, need
            first = second


def suite(tasks, tmp_path, **changes):
    model = Stage("model-x", run_given_model, GivenModel("abc", "/somewhere"))
    evaluation = replace(EvaluationConfig(), data=str(tmp_path), **changes)
    return build_suite(model, "x", choose(tasks), evaluation, {})


def test_a_missing_data_set_is_named_and_the_rest_runs(tmp_path):
    (tmp_path / "mnist" / "MNIST").mkdir(parents=True)
    found = suite(["image/mnist", "image/dtd", "demo/mnist"], tmp_path)
    assert set(found.nodes) == {"image/mnist"}
    assert "dtd/dtd not in" in found.missing["image/dtd"]
    assert "corpora" in found.missing["demo/mnist"]


def test_features_are_computed_once_and_rows_of_one_result_share_it(tmp_path):
    (tmp_path / "coco" / "val2014").mkdir(parents=True)
    (tmp_path / "coco" / "dataset_coco.json").write_text("{}")
    (tmp_path / "cifar10" / "cifar-10-batches-py").mkdir(parents=True)
    found = suite(["*/coco*", "*/cifar10"], tmp_path)
    assert len(found.nodes) == 6
    assert sorted(found.stages) == [
        "linear-probe-cifar10-x",
        "retrieval-coco-x",
        "zero-shot-cifar10-x",
    ]
    alone = suite(["image/cifar10"], tmp_path).nodes["image/cifar10"].inputs["features"]
    assert alone == found.nodes["image/cifar10"].inputs["features"]  # a task more changes nothing
    features = {id(s.inputs["features"]) for s in found.stages.values()}
    assert len(features) == 2
    probe = found.nodes["image/cifar10"].inputs["features"]
    assert probe is found.nodes["zero_shot/cifar10"].inputs["features"]
    assert probe.config.embeddings


def test_moving_the_data_or_more_cores_changes_nothing_the_seed_does(tmp_path):
    (tmp_path / "a" / "mnist" / "MNIST").mkdir(parents=True)
    (tmp_path / "a").rename(tmp_path / "b")

    def print_of(**changes):
        stage = suite(["image/mnist"], tmp_path / "b", **changes).nodes["image/mnist"]
        return fingerprint(stage, {})

    first = print_of()
    assert print_of(threads=4, cpus=4.0, gpus=1.0) == first
    assert print_of(seed=1) != first
    assert print_of(limit=10) != first
    assert print_of(precision="bf16") != first


def test_a_task_takes_a_gpu_where_its_stage_asked_for_one_and_only_there(tmp_path):
    (tmp_path / "mnist" / "MNIST").mkdir(parents=True)
    glue = tmp_path / "glue" / "rte"
    glue.mkdir(parents=True)
    for gpus, device in ((0.0, "cpu"), (0.25, "cuda")):
        nodes = suite(["image/mnist", "glue/rte"], tmp_path, gpus=gpus, precision="tf32").nodes
        features = nodes["image/mnist"].inputs["features"]
        for stage in (features, nodes["glue/rte"]):  # those that run the model
            assert stage.resources.num_gpus == gpus
            assert (stage.config.device, stage.config.precision) == (device, "tf32")
        probe = nodes["image/mnist"]
        assert (probe.resources.num_gpus, probe.config.device) == (0, "cpu")


def test_the_registry_and_the_plan_need_no_torch():
    code = (
        "import sys; sys.path[:0] = ['.', 'platform']; import pipelines.evaluate; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'ray', 'datasets', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
