"""Every loader on a tiny copy in the real format, and the protocols on what it gives."""

import io
import json
import pickle
import struct
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
from PIL import Image
from torchvision.datasets import cifar, fer2013, flowers102, imagenet, stl10

from momo.config import ModelConfig
from momo.export import save
from momo.model import build_model
from momo.tokenizer import train_wordpiece
from momo_platform.stages import Context, UserError
from pipelines.config import EvaluationConfig
from pipelines.evaluation import run
from pipelines.evaluation.configs import FeaturesConfig, ProtocolConfig
from pipelines.evaluation.datasets import DATA_SETS, Roots, locate
from pipelines.evaluation.items import Captioned, Labelled, LazyPixels, Pictures, carve, evenly
from pipelines.evaluation.loaders import load_items
from pipelines.evaluation.protocol import OnFeatures
from pipelines.evaluation.protocols import protocol_named
from pipelines.evaluation.tasks import TASKS

G = np.random.default_rng(0)
METRICS = ("r@1", "mrr", "median_rank")  # of retrieval, each way


def picture(shade=None, size=(24, 20)):
    shade = G.integers(0, 255) if shade is None else shade
    noise = G.integers(0, 40, (size[1], size[0], 3))
    return Image.fromarray(np.clip(noise + shade, 0, 255).astype(np.uint8))


def write_picture(file, shade=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(shade).save(file)


def folders(root, parts, classes=("a", "b_c"), count=6, suffix="jpg"):
    for part in parts:
        for number, name in enumerate(classes):
            for i in range(count):
                write_picture(root / part / name / f"{i}.{suffix}", 40 + 150 * number)


def cifar_files(folder, names, meta, label, classes):
    folder.mkdir(parents=True)
    for name in names:
        labels = [i % classes for i in range(20)]
        rows = np.stack([np.full(3072, 20 + 200 * (y % 2), dtype=np.uint8) for y in labels])
        (folder / name).write_bytes(pickle.dumps({"data": rows, label: labels}))
    key = "label_names" if label == "labels" else "fine_label_names"
    (folder / meta).write_bytes(pickle.dumps({key: [f"class_{i}" for i in range(classes)]}))


def cifar10(root):
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    cifar_files(root / "cifar-10-batches-py", names, "batches.meta", "labels", 10)
    return 120, 10


def cifar100(root):
    cifar_files(root / "cifar-100-python", ["train", "test"], "meta", "fine_labels", 100)
    return 40, 100


def mnist(root):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 30), ("t10k", 10)):
        pictures = G.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        head = struct.pack(">IIII", 0x803, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + pictures.tobytes())
        labels = np.arange(count, dtype=np.uint8) % 10
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, count) + labels.tobytes()
        )
    return 40, 10


def food101(root):
    base = root / "food-101"
    folders(base, ["images"], count=8)
    (base / "meta").mkdir()
    for part, rows in (("train", range(6)), ("test", range(6, 8))):
        names = {c: [f"{c}/{i}" for i in rows] for c in ("a", "b_c")}
        (base / "meta" / f"{part}.json").write_text(json.dumps(names))
    return 16, 2


def dtd(root):
    base = root / "dtd" / "dtd"
    folders(base, ["images"], count=6)
    (base / "labels").mkdir()
    for part, rows in (("train1", (0, 1, 2)), ("val1", (3,)), ("test1", (4, 5))):
        lines = [f"{c}/{i}.jpg" for c in ("a", "b_c") for i in rows]
        (base / "labels" / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return 12, 2


def pets(root):
    base = root / "oxford-iiit-pet"
    for part, rows in (("trainval", range(6)), ("test", range(6, 8))):
        lines = []
        for number, name in enumerate(("Big_Cat", "dog")):
            for i in rows:
                write_picture(base / "images" / f"{name}_{i}.jpg")
                lines.append(f"{name}_{i} {number + 1} {number + 1} 1")
        (base / "annotations" / "trimaps").mkdir(parents=True, exist_ok=True)
        (base / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return 16, 2


def aircraft(root):
    base = root / "fgvc-aircraft-2013b" / "data"
    base.mkdir(parents=True)
    (base / "variants.txt").write_text("707-320\nA300\n")
    number = 0
    for part, count in (("train", 6), ("val", 2), ("test", 4)):
        lines = []
        for i in range(count):
            write_picture(base / "images" / f"{number:07d}.jpg")
            lines.append(f"{number:07d} {('707-320', 'A300')[i % 2]}")
            number += 1
        (base / f"images_variant_{part}.txt").write_text("\n".join(lines) + "\n")
    return 12, 2


def cars(root):
    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    fields = [("bbox_x1", "O"), ("class", "O"), ("fname", "O")]
    for part, count in (("train", 10), ("test", 4)):
        rows = np.zeros(count, dtype=fields)
        for i in range(count):
            write_picture(base / f"cars_{part}" / f"{i}.jpg")
            rows[i] = (1, i % 2 + 1, f"{i}.jpg")
        place = base / "devkit" / "cars_train_annos.mat"
        if part == "test":
            place = base / "cars_test_annos_withlabels.mat"
        scipy.io.savemat(place, {"annotations": rows})
    names = np.array(["AM General", "Acura"], dtype=object)
    scipy.io.savemat(base / "devkit" / "cars_meta.mat", {"class_names": names})
    return 14, 2


def caltech101(root):
    base = root / "caltech101"
    for name in ("a", "b_c"):
        for i in range(1, 11):
            write_picture(base / "101_ObjectCategories" / name / f"image_{i:04d}.jpg")
    (base / "Annotations").mkdir()
    write_picture(base / "101_ObjectCategories" / "BACKGROUND_Google" / "0.jpg")  # no class
    return 20, 2


def flowers(root):
    base = root / "flowers-102"
    for i in range(1, 13):
        write_picture(base / "jpg" / f"image_{i:05d}.jpg")
    scipy.io.savemat(base / "imagelabels.mat", {"labels": [[1 + i % 2 for i in range(12)]]})
    parts = {"trnid": [[1, 2, 3, 4]], "valid": [[5, 6]], "tstid": [[7, 8, 9, 10, 11, 12]]}
    scipy.io.savemat(base / "setid.mat", parts)
    return 12, 102


def stl10_files(root):
    base = root / "stl10_binary"
    base.mkdir(parents=True)
    (base / "class_names.txt").write_text("airplane\nbird\n")
    for part, count in (("train", 20), ("test", 8)):
        G.integers(0, 255, (count, 3, 96, 96), dtype=np.uint8).tofile(base / f"{part}_X.bin")
        (np.arange(count, dtype=np.uint8) % 2 + 1).tofile(base / f"{part}_y.bin")
    return 28, 2


def eurosat(root):
    folders(root / "eurosat" / "2750", ["."], count=10)
    return 20, 2


def gtsrb(root):
    base = root / "gtsrb"
    for label in range(2):
        for i in range(8):
            write_picture(base / "GTSRB" / "Training" / f"{label:05d}" / f"{i}.ppm")
    lines = ["Filename;Width;ClassId"]
    for i in range(4):
        write_picture(base / "GTSRB" / "Final_Test" / "Images" / f"{i:05d}.ppm")
        lines.append(f"{i:05d}.ppm;24;{i % 2}")
    (base / "GT-final_test.csv").write_text("\n".join(lines) + "\n")
    return 20, 0


def clevr(root):
    base = root / "clevr" / "CLEVR_v1.0"
    (base / "scenes").mkdir(parents=True)
    for part, count in (("train", 10), ("val", 4)):
        scenes = []
        for i in range(count):
            write_picture(base / "images" / part / f"CLEVR_{part}_{i:06d}.png")
            scenes.append(
                {"image_filename": f"CLEVR_{part}_{i:06d}.png", "objects": [0] * (3 + i % 2)}
            )
        (base / "scenes" / f"CLEVR_{part}_scenes.json").write_text(json.dumps({"scenes": scenes}))
    return 14, 0


def fer(root):
    base = root / "fer2013"
    base.mkdir(parents=True)
    lines = ["emotion,pixels,Usage"]
    for i in range(20):
        usage = "Training" if i < 14 else "PrivateTest"
        lines.append(f'{i % 7},"{" ".join(["90"] * 2304)}",{usage}')
    (base / "fer2013.csv").write_text("\n".join(lines) + "\n")
    return 20, 0


def sun397(root):
    base = root / "SUN397"
    for name in ("abbey", "zoo"):
        for i in range(10):
            write_picture(base / name[0] / name / f"sun_{i}.jpg")
    (base / "ClassName.txt").write_text("/a/abbey\n/z/zoo\n")
    return 20, 2


def rendered(root):
    folders(
        root / "rendered-sst2", ["train", "valid", "test"], ("negative", "positive"), suffix="png"
    )
    return 36, 2


def country(root):
    folders(root / "country211", ["train", "valid", "test"], ("AD", "ZW"))
    return 36, 2


def imagenet_files(root):
    folders(root, ["train", "val"], ("n01440764", "n01443537"), suffix="JPEG")
    import torch

    torch.save(
        ({"n01440764": ("tench", "Tinca"), "n01443537": ("goldfish",)}, ["n01440764"]),
        root / "meta.bin",
    )
    return 24, 2


def kitti(root):
    folders(root, ["train", "test"], count=12)
    return 48, 2


IMAGES = {
    "cifar10": cifar10, "cifar100": cifar100, "mnist": mnist, "food101": food101, "dtd": dtd,
    "pets": pets, "aircraft": aircraft, "cars": cars, "caltech101": caltech101,
    "flowers102": flowers, "stl10": stl10_files, "eurosat": eurosat, "gtsrb": gtsrb,
    "clevr": clevr, "fer2013": fer, "sun397": sun397, "rendered_sst2": rendered,
    "country211": country, "imagenet": imagenet_files, "kitti": kitti, "ucf101": kitti,
}  # fmt: skip


@pytest.fixture
def no_checksums(monkeypatch):
    """The tiny copies are in the real format, but not the real bytes."""
    for module in (cifar, flowers102, stl10, fer2013):
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: Path(path).is_file())
    monkeypatch.setattr(stl10.STL10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(imagenet, "check_integrity", lambda path, md5=None: Path(path).is_file())


@pytest.mark.parametrize("name", IMAGES)
def test_picture_sets(name, tmp_path, no_checksums):
    count, classes = IMAGES[name](tmp_path / name)
    data = DATA_SETS[name]
    assert not isinstance(locate(data, str(tmp_path)), str)  # what it needs is what lies there
    items = load_items(name, Roots(tmp_path))
    assert isinstance(items, Labelled)
    assert len(items.pictures) == len(items.labels) == len(items.split) == count
    assert set(items.split) == {"train", "valid", "test"}
    assert items.pictures.pixels([0, count - 1], 16).shape == (2, 3, 16, 16)
    if classes:
        assert len(items.class_names) == classes
        assert not any("_" in n for n in items.class_names)
    again = load_items(name, Roots(tmp_path))
    assert (again.split == items.split).all()


def test_pcam(tmp_path):
    base = tmp_path / "pcam" / "pcam"
    base.mkdir(parents=True)
    for part in ("train", "valid", "test"):
        with h5py.File(base / f"camelyonpatch_level_2_split_{part}_x.h5", "w") as file:
            file["x"] = G.integers(0, 255, (4, 96, 96, 3), dtype=np.uint8)
        with h5py.File(base / f"camelyonpatch_level_2_split_{part}_y.h5", "w") as file:
            file["y"] = np.array([0, 1, 0, 1]).reshape(4, 1, 1, 1)
    items = load_items("pcam", Roots(tmp_path))
    assert len(items.pictures) == 12


def test_a_damaged_copy_names_the_folder_and_the_way_to_get_it(tmp_path):
    (tmp_path / "cifar10" / "cifar-10-batches-py").mkdir(parents=True)
    with pytest.raises(UserError, match=r"cifar10 is not what .*CIFAR10.* reads .*download=True"):
        load_items("cifar10", Roots(tmp_path))
    (tmp_path / "kitti" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="lay pictures out"):
        load_items("kitti", Roots(tmp_path))


COLUMNS = {
    "cola": ["sentence"], "sst2": ["sentence"], "mrpc": ["sentence1", "sentence2"],
    "stsb": ["sentence1", "sentence2"], "qqp": ["question1", "question2"],
    "mnli": ["premise", "hypothesis"], "qnli": ["question", "sentence"],
    "rte": ["sentence1", "sentence2"],
}  # fmt: skip


def glue_table(name, rows):
    classes = 3 if name == "mnli" else 2
    labels = [i * 5 / rows if name == "stsb" else i % classes for i in range(rows)]
    columns = {c: [f"{c} number {i}" for i in range(rows)] for c in COLUMNS[name]}
    return pa.table({**columns, "label": labels, "idx": list(range(rows))})


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("saved", ["save_to_disk", "parquet"])
def test_glue(name, saved, tmp_path):
    folder = tmp_path / "glue" / name
    tests = ["validation_matched", "validation_mismatched"] if name == "mnli" else ["validation"]
    tables = {"train": glue_table(name, 40), **{t: glue_table(name, 12) for t in tests}}
    if saved == "parquet":
        folder.mkdir(parents=True)
        for split, table in tables.items():
            pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    else:
        from datasets import Dataset, DatasetDict

        DatasetDict({s: Dataset(t) for s, t in tables.items()}).save_to_disk(str(folder))
    items = load_items(f"glue-{name}", Roots(tmp_path))
    assert len(items.texts) == 40 + 12 * len(tests)
    assert (items.second is not None) == (len(COLUMNS[name]) == 2)
    assert (items.split == "valid").sum() == 4  # of the training rows
    assert (items.split == "test").sum() == 12 * len(tests)
    assert items.classes == {"stsb": 1, "mnli": 3}.get(name, 2)
    assert items.labels.dtype == (np.float32 if name == "stsb" else np.int64)


def test_glue_without_a_split_or_column(tmp_path):
    folder = tmp_path / "glue" / "rte"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"sentence1": ["a"], "label": [0]}), folder / "train-0.parquet")
    with pytest.raises(UserError, match="no column sentence2"):
        load_items("glue-rte", Roots(tmp_path))
    pq.write_table(glue_table("rte", 3), folder / "train-0.parquet")
    with pytest.raises(UserError, match="no split validation"):
        load_items("glue-rte", Roots(tmp_path))


def vqav2(root):
    base = root / "vqav2"
    for year, pictures in (("train2014", 30), ("val2014", 6)):
        questions, annotations = [], []
        for i in range(2 * pictures):
            shade = (40, 200)[i // 2 % 2]
            write_picture(base / year / f"COCO_{year}_{i // 2:012d}.jpg", shade)
            questions.append(
                {"question_id": i, "image_id": i // 2, "question": f"is it dark {i % 2}?"}
            )
            given = [{"answer": "Yes." if shade == 40 else "no"} for _ in range(10)]
            annotations.append({"question_id": i, "image_id": i // 2, "answers": given})
        name = base / f"v2_OpenEndedQuestions_mscoco_{year}_questions.json"
        name.write_text(json.dumps({"questions": questions}))
        name = base / f"v2_mscoco_{year}_annotations.json"
        name.write_text(json.dumps({"annotations": annotations}))


def snli_ve(root):
    (root / "snli_ve").mkdir(parents=True)
    for i in range(5):
        write_picture(root / "flickr30k" / "flickr30k-images" / f"{i}.jpg")
    for part in ("train", "dev", "test"):
        rows = [
            {"gold_label": label, "sentence2": f"a thing {i}", "Flickr30K_ID": str(i % 5)}
            for i, label in enumerate(["entailment", "neutral", "contradiction", "-"] * 5)
        ]
        text = "".join(json.dumps(r) + "\n" for r in rows)
        (root / "snli_ve" / f"snli_ve_{part}.jsonl").write_text(text)


def hateful_memes(root):
    base = root / "hateful_memes"
    for part, count in (("train", 20), ("dev_seen", 8), ("test_seen", 8)):
        rows = []
        for i in range(count):
            write_picture(base / "img" / f"{part}{i}.png")
            rows.append(
                {"id": i, "img": f"img/{part}{i}.png", "label": i % 2, "text": f"words {i}"}
            )
        (base / f"{part}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def karpathy(root, name, below):
    rows = []
    for i in range(12):
        sentences = [{"raw": f"caption {k} of {i}"} for k in range(5)]
        row = {"filename": f"{i}.jpg", "split": ("test", "train")[i % 2], "sentences": sentences}
        if name == "coco":
            row["filepath"] = below
        write_picture(root / name / below / f"{i}.jpg")
        rows.append(row)
    (root / name / f"dataset_{name}.json").write_text(json.dumps({"images": rows}))


def test_multimodal_sets(tmp_path):
    vqav2(tmp_path)
    snli_ve(tmp_path)
    hateful_memes(tmp_path)
    karpathy(tmp_path, "flickr30k", "flickr30k-images")
    karpathy(tmp_path, "coco", "val2014")
    roots = Roots(tmp_path)
    for name in ("vqav2", "snli_ve", "hateful_memes", "flickr30k", "coco"):
        assert not isinstance(locate(DATA_SETS[name], str(tmp_path)), str)
    items = load_items("vqav2", roots)
    assert items.answers == ("no", "yes")  # the commoner one first
    assert (items.split == "test").sum() == 12
    assert (items.split == "valid").sum() == 6  # pictures 0, 10 and 20
    held = {int(p) for p, s in zip(items.picture, items.split, strict=True) if s == "valid"}
    assert not held & {
        int(p) for p, s in zip(items.picture, items.split, strict=True) if s == "train"
    }
    assert len(items.pictures) == 36
    assert items.references[0] == ["Yes."] * 10
    dark = items.pictures.pixels(items.picture[:4], 8).mean(axis=(1, 2, 3))
    assert (dark[:2] < 100).all()
    assert (dark[2:] > 150).all()

    items = load_items("snli_ve", roots)
    assert len(items.texts) == 45  # without "-"
    assert items.classes == 3
    assert set(items.split) == {"train", "valid", "test"}
    assert len(items.pictures) == 5

    items = load_items("hateful_memes", roots)
    assert (items.split == "valid").sum() == 8

    for name in ("flickr30k", "coco"):
        items = load_items(name, roots)
        assert isinstance(items, Captioned)
        assert len(items.pictures) == 6
        assert len(items.captions) == 30
        assert (items.text_groups == np.repeat(np.arange(6), 5)).all()

    (tmp_path / "hateful_memes" / "train.jsonl").write_text('{"img": "a.png", "text": "x"}\n')
    with pytest.raises(UserError, match=r"train\.jsonl:1: no field label"):
        load_items("hateful_memes", roots)


class Made:
    """What a stage reads of an artifact."""

    def __init__(self, path, metrics=None):
        self.path, self.metrics = path, metrics or {}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    words = train_wordpiece(["is it dark a thing words caption of number 1 2 3 4 yes no"] * 3, 90)
    config = ModelConfig(width=32, depth=2, heads=2, image_size=32, vocab_size=90, embed_dim=16)
    save(build_model(config), folder / "model", words.to_str())
    return Made(folder)


def run_task(name, model, root, tmp_path, **changes):
    """As the graph does, without Ray."""
    task = TASKS[name]
    place = locate(DATA_SETS[task.data], str(root))
    evaluation = EvaluationConfig(learning_rate=3e-3, **changes)

    def context(folder):
        output = tmp_path / folder
        output.mkdir()
        return Context(output, output, name, "f", "a")

    protocol = protocol_named(task.protocol)
    config = ProtocolConfig(
        task.protocol, task.metric, place, 0, evaluation.limit, protocol.tuning(task, evaluation)
    )
    if not isinstance(protocol, OnFeatures):
        return run.on_model(config, {"model": model}, context("out"))
    features = context("features")
    wanted = FeaturesConfig(place, evaluation.limit, task.protocol != "linear_probe")
    made = Made(features.output, run.features(wanted, {"model": model}, features))
    return run.on_features(config, {"features": made}, context("out"))


@pytest.mark.parametrize(
    "name",
    ["image/food101", "image/pets", "zero_shot/food101", "multimodal/vqav2", "multimodal/snli_ve",
     "multimodal/hateful_memes", "multimodal/coco_image_to_text_r1", "glue/stsb", "glue/mrpc"],
)  # fmt: skip
def test_a_task_from_files_to_a_value_with_its_interval(name, model, tmp_path):
    data = TASKS[name].data
    {
        "food101": lambda r: food101(r / "food101"), "pets": lambda r: pets(r / "pets"),
        "vqav2": vqav2, "snli_ve": snli_ve, "hateful_memes": hateful_memes,
        "coco": lambda r: karpathy(r, "coco", "val2014"),
    }.get(data, lambda _: None)(tmp_path)  # fmt: skip
    if data.startswith("glue"):
        folder = tmp_path / "glue" / data.removeprefix("glue-")
        folder.mkdir(parents=True)
        for split, rows in (("train", 40), ("validation", 16)):
            pq.write_table(glue_table(folder.name, rows), folder / f"{split}-0.parquet")
    found = run_task(name, model, tmp_path, tmp_path)
    value = found["values"][TASKS[name].metric]
    assert -1.0 <= value["low"] <= value["value"] <= value["high"] <= 1.0
    assert (found["seed"], found["limit"]) == (0, 0)
    if name == "multimodal/vqav2":
        assert value["value"] > 0.9  # brightness answers it
    if name == "image/food101":
        assert value["value"] == 1.0
    if name.startswith("multimodal/coco"):
        # Of six pictures R@5 and R@10 would say nothing.
        ranked = {f"{d}_{m}" for d in ("image_to_text", "text_to_image") for m in METRICS}
        assert set(found["values"]) == {"mrr", *ranked}
        assert found["n"] == 6


def test_a_model_that_cannot_says_so(tmp_path):
    import transformers as hf

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2, "image_size": 32, "patch_size": 8}  # fmt: skip
    hf.ViTModel(hf.ViTConfig(**small)).save_pretrained(tmp_path / "vit" / "model")
    hf.ViTImageProcessor().save_pretrained(tmp_path / "vit" / "model")
    vqav2(tmp_path)
    karpathy(tmp_path, "coco", "val2014")
    model = Made(tmp_path / "vit")
    for name, word in (
        ("multimodal/vqav2", "pairs"),
        ("multimodal/coco_text_to_image_r5", "space"),
    ):
        folder = tmp_path / word
        folder.mkdir()
        assert word in run_task(name, model, tmp_path, folder)["not_available"]


def test_limits_and_lazy_pictures(tmp_path, monkeypatch):
    split = np.array(["train"] * 100 + ["valid"] * 10 + ["test"] * 30, dtype=object)
    kept = evenly(split, 20)
    assert [int((split[kept] == p).sum()) for p in ("train", "valid", "test")] == [20, 10, 15]
    assert len(evenly(split, 0)) == 140
    assert (carve(split) == split).all()
    files = []
    for i in range(3):
        buffer = io.BytesIO()
        picture(i * 100).save(buffer, "png")
        files.append(buffer.getvalue())
    pictures = Pictures(files, lambda raw: Image.open(io.BytesIO(raw)))
    held = LazyPixels(pictures, 16)
    monkeypatch.setattr("pipelines.evaluation.items._HELD_PIXELS", 0)
    lazy = LazyPixels(pictures, 16)
    assert lazy.held is None
    assert held.held is not None
    np.testing.assert_array_equal(lazy[np.array([2, 0])], held[np.array([2, 0])])
    np.testing.assert_array_equal(lazy[1:3], held[1:3])
    np.testing.assert_array_equal(pictures.pixels([2, 0, 1], 16, threads=3), held[[2, 0, 1]])
