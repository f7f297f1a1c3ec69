"""Pictures from shards to the model's pixels: cropped by readers, on the device, and resident."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from prepared_rows import mixed, prepared

from momo.config import ModelConfig, TaskConfig
from momo.decoding import EncodedPicture
from momo.model import build_model
from momo.tasks import MoMoTask
from momo.tokenizer import train_wordpiece
from momo_platform.cores import readers_from_cores
from momo_platform.data.artifacts import Mixture
from momo_platform.data.dataset import ShardDataset, open_rows
from momo_platform.data.resident import ResidentShards
from momo_platform.stages.errors import UserError
from momo_platform.training.config import LoggingConfig, ScalingConfig, TrainConfig
from momo_platform.training.feed import Feed
from momo_platform.training.loop import Trainer
from momo_platform.training.task import TrainingSetup
from pipelines.artifacts import TokenizerFile
from pipelines.build import build_loaders
from pipelines.training import TrainingInputs

MODEL = ModelConfig(
    image_size=32, patch_size=8, vocab_size=120, width=32, depth=1, heads=2, decoder_width=16,
    decoder_heads=2, embed_dim=16,
)  # fmt: skip
TASK = TaskConfig(modalities=("image", "pair"))
CPU = torch.device("cpu")
ROWS, STEPS = 100, 6


def encoded(g, number):
    shape = [(40, 60, 3), (64, 64, 3), (33, 90, 3), (90, 41, 4)][number % 4]
    coarse = Image.fromarray(g.integers(0, 256, (4, 5, shape[2]), dtype=np.uint8))
    image = coarse.resize((shape[1], shape[0]))
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if number % 2 else "JPEG", **({} if number % 2 else {"quality": 90}))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    g = np.random.default_rng(0)
    words = ["red", "blue", "green", "apple", "tree", "house", "river", "cloud", "with", "without"]
    captions = [[" ".join(g.choice(words, 5)), str(g.choice(words))] for _ in range(ROWS)]
    for name in ("image", "pair"):
        columns = {"image": pa.array([encoded(g, i) for i in range(ROWS)], pa.binary())}
        if name == "pair":
            columns |= {"captions": pa.array(captions), "group": [str(i // 2) for i in range(ROWS)]}
        rows = prepared(folder / f"{name}-rows", columns, row_group=16)
        mixed(folder / name, rows, [*columns])
    (folder / "tokenizer").mkdir()
    train_wordpiece([c for options in captions for c in options] * 3, 110).save(
        str(folder / "tokenizer" / "tokenizer.json")
    )
    roles = ("image", "pair", "image-rows", "pair-rows")
    rows = {role: Mixture(folder / role) for role in roles}
    return TrainingInputs(tokenizer=TokenizerFile(folder / "tokenizer"), mixed=rows)


def rows_of(inputs, name):
    return open_rows(inputs.mixed[name], inputs.prepared(name))


def train_config(**scaling):
    return TrainConfig(
        steps=STEPS,
        batch_sizes={"image": 24, "pair": 16},
        scaling=ScalingConfig(**scaling),
        logging=LoggingConfig(every_steps=2, checkpoint_every_steps=3, tensorboard=False),
    )


def loaders_of(inputs, rank=0, world_size=1, cores=None, **scaling):
    return build_loaders(
        TASK.modalities, inputs, train_config(**scaling), MODEL, 12, rank, world_size, cores
    )


@pytest.fixture(scope="module")
def task():
    return MoMoTask(build_model(MODEL, 0), TASK)


def fed(task, loaders, steps=STEPS):
    """Batches as the model takes them, before words are masked."""
    bare = torch.nn.Module()
    bare.on_device = task.on_device
    used = dict.fromkeys(loaders, 0)
    one = Feed(bare, loaders, CPU, lambda _: tuple(loaders), used, 0, steps)
    found = [one.next().device for _ in range(steps)]
    one.close()
    for loader in loaders.values():
        loader.close()
    return found


def whole(parts):
    """One global batch from those of all ranks."""
    return {
        modality: {name: torch.cat([part[modality][name] for part in parts]) for name in batch}
        for modality, batch in parts[0].items()
    }


def assert_equal_batches(first, second):
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for modality, batch in one.items():
            assert batch.keys() == other[modality].keys()
            for name, value in batch.items():
                assert torch.equal(value, other[modality][name]), (modality, name)


@pytest.fixture(scope="module")
def expected(task, inputs):
    return fed(task, loaders_of(inputs, crop="device"))


def test_crops_on_the_device_are_the_readers_to_half_a_level(task, inputs, expected):
    host = fed(task, loaders_of(inputs))
    for one, other in zip(host, expected, strict=True):
        for modality, batch in one.items():
            assert list(batch) == list(other[modality])
            for name, value in batch.items():
                if name == "pixels":
                    error = (value.float() - other[modality][name]).abs()
                    assert error.mean() < 0.5
                    assert error.max() <= 3
                else:
                    assert torch.equal(value, other[modality][name])


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("scaling", [{"crop": "device"}, {"resident": True}], ids=str)
def test_the_global_batch_is_the_same_for_any_number_of_workers(
    task, inputs, expected, world_size, scaling
):
    parts = [
        fed(task, loaders_of(inputs, rank, world_size, **scaling)) for rank in range(world_size)
    ]
    assert_equal_batches([whole(step) for step in zip(*parts, strict=True)], expected)


@pytest.mark.parametrize(
    "scaling",
    [
        {"resident": True},
        {"crop": "device", "reader_processes": 2},
        {"resident": True, "reader_processes": 1},
        {"crop": "device", "decode": "nvjpeg", "reader_processes": 1},  # here torchvision's on CPU
    ],
    ids=str,
)
def test_every_way_to_read_gives_the_same_bits(task, inputs, expected, scaling):
    assert_equal_batches(fed(task, loaders_of(inputs, **scaling)), expected)


@pytest.mark.slow
def test_ray_gives_the_same_bits(ray_local, task, inputs, expected):
    for scaling in ({"crop": "device"}, {"resident": True}):
        loaders = {"image": loaders_of(inputs, ingest="ray", **scaling)["image"]}
        found = fed(task, loaders, 2)
        assert_equal_batches(found, [{"image": step["image"]} for step in expected[:2]])


def test_a_resident_batch_carries_no_pictures(inputs):
    for name, loader in loaders_of(inputs, resident=True).items():
        with pytest.raises(ValueError, match="not loaded"):
            loader.batch(0)
        said = []
        flat = loader.resident(CPU, said.append)["flat"]
        assert "100 of 100 pictures" in said[-1]
        assert flat.nbytes > 100 * 3 * 33 * 60
        batch = loader.batch(0)
        assert not {"flat", "pixels", "encoded"} & batch.keys()
        arrays = [v for v in batch.values() if isinstance(v, np.ndarray)]
        assert sum(a.nbytes for a in arrays) < 24 * 1000, name


def test_rows_are_read_without_the_column_of_pictures(inputs, monkeypatch):
    dataset = rows_of(inputs, "pair")
    rows = np.array([99, 0, 17])
    assert dataset.read(rows, ["captions"]).column_names == ["captions"]
    assert dataset.read(rows, ["captions"]).to_pylist() == [
        {"captions": row["captions"]} for row in dataset.read(rows).to_pylist()
    ]
    resident = ResidentShards(dataset, EncodedPicture.of)
    resident.load(CPU)
    asked = []
    read = ShardDataset.read
    monkeypatch.setattr(
        ShardDataset,
        "read",
        lambda self, rows, columns=None: asked.append(columns) or read(self, rows, columns),
    )
    assert set(resident.read(rows).column_names) == {
        "start",
        "height",
        "width",
        "captions",
        "group",
    }
    assert asked == [["captions", "group"]]


def test_a_corpus_too_large_for_the_device_says_so_before_it_is_decoded(inputs, monkeypatch):
    monkeypatch.setattr(EncodedPicture, "pixels", lambda self: pytest.fail("decoded"))
    rows = rows_of(inputs, "image")
    for free, word in ((1_000_000, r"takes 0\.00 GB"), (1000, "takes more than")):
        monkeypatch.setattr("momo_platform.data.resident.free_bytes", lambda _, free=free: free)
        with pytest.raises(UserError, match=rf"{word}.*scaling\.resident to false"):
            ResidentShards(rows, EncodedPicture.of, 0.5).load(CPU)


@pytest.mark.parametrize("scaling", [{"crop": "device"}, {"resident": True}], ids=str)
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, inputs, scaling):
    def run(folder, steps=STEPS):
        config = replace(train_config(**scaling), steps=steps)
        loaders = build_loaders(TASK.modalities, inputs, config, MODEL, 12, 0, 1)
        setup = TrainingSetup(MoMoTask(build_model(MODEL, 0), TASK), loaders, lambda *_: None)
        trainer = Trainer(setup, config, tmp_path / folder)
        return trainer, trainer.run()

    first, record = run("whole")
    assert record["seconds_waiting_for_data"] > 0

    class Stop(Exception):
        pass

    config = train_config(**scaling)
    loaders = build_loaders(TASK.modalities, inputs, config, MODEL, 12, 0, 1)
    setup = TrainingSetup(MoMoTask(build_model(MODEL, 0), TASK), loaders, lambda *_: None)
    cut = Trainer(setup, config, tmp_path / "cut")
    update = cut._update

    def stopping(step, *arguments, **options):
        if step == 4:
            raise Stop
        return update(step, *arguments, **options)

    cut._update = stopping  # type: ignore[method-assign]
    with pytest.raises(Stop):
        cut.run()
    second, _ = run("cut")
    assert second.start_step == 3
    for a, b in zip(first.task.parameters(), second.task.parameters(), strict=True):
        assert torch.equal(a, b)


def test_crop_and_readers_follow_the_machine():
    assert not ScalingConfig().crops_on_device
    assert ScalingConfig(gpus_per_worker=1).crops_on_device
    assert not ScalingConfig(gpus_per_worker=1, crop="host").crops_on_device
    with pytest.raises(ValueError, match=r"scaling\.resident"):
        ScalingConfig(resident=True, crop="host")
    with pytest.raises(ValueError, match=r"scaling\.decode"):
        ScalingConfig(decode="nvjpeg")
    assert readers_from_cores(8, 1, cores=192) == 22
    assert readers_from_cores(1, 2, cores=16) == 7
    assert readers_from_cores(4, 1, cores=4) == 1


def test_readers_are_of_pictures_only(inputs, monkeypatch):
    monkeypatch.setattr(
        "pipelines.build.readers_from_cores", lambda workers, pictured: 10 * workers + pictured
    )
    loaders = loaders_of(inputs, 0, 4, reader_processes=-1)
    assert {n: loader._processes for n, loader in loaders.items()} == {"image": 42, "pair": 42}
    resident = loaders_of(inputs, 0, 4, reader_processes=-1, resident=True)
    assert {loader._processes for loader in resident.values()} == {0}


def test_readers_take_the_workers_part_of_its_machine(inputs):
    """Four of eight workers on a machine of 64 cores: 16 each, two of them train and feed."""
    loaders = loaders_of(inputs, 0, 8, cores=16, reader_processes=-1)
    assert {n: loader._processes for n, loader in loaders.items()} == {"image": 7, "pair": 7}
