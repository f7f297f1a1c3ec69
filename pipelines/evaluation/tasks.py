"""All tasks, a line each. Imports neither torch nor datasets.

Groups are FLAVA's (arXiv 2112.04482), whose averages the paper compares; `diagnostic` enters none.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from momo_platform.stages import UserError
from pipelines.bundled import BUNDLES
from pipelines.evaluation.datasets import DATA_SETS, DataSet
from pipelines.modalities import MODALITIES

GROUPS = ("image", "text", "multimodal")
KINDS = tuple(MODALITIES)
MTEB = "mteb/"
"""Begins the names of mteb's tasks, which are not in the table (`mteb_tasks.py`)."""
AUTO = "auto"
"""Stands for the tasks on the user's own sources, and those that come with bundled corpora."""


@dataclass(frozen=True)
class EvaluationTask:
    """One row of the table. `protocol`: a file of `pipelines/evaluation/protocols/`. `baseline` names
    the trivial method, where one is measured. `given`: the data set of a task from the command
    line; others are in DATA_SETS. `epochs`, `batch_size` and `dropout` are of fine-tunings;
    `set_by`: which fields of the tuning options of `EvaluationConfig` set instead."""

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
    set_by: tuple[tuple[str, str], ...] = field(default=(), metadata={"absent_at": ()})

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


_PROBE, _TUNE, _PER_CLASS = "linear_probe", "fine_tune", "mean_per_class_accuracy"
TASKS = {
    task.name: task
    for task in (
        EvaluationTask("own/labels", "image", "own-labels", _PROBE, baseline="raw pixels"),
        EvaluationTask("own/retrieval", "multimodal", "own-pair", "retrieval", "mrr", baseline="chance"),
        EvaluationTask("own/labels_zero_shot", "diagnostic", "own-labels", "zero_shot", baseline="majority"),
        EvaluationTask("own/matching", "diagnostic", "own-pair", "matching", baseline="chance"),
        EvaluationTask("own/masked_words", "diagnostic", "own-text", "masked_words", baseline="commonest word"),
        EvaluationTask("demo/mnist", "image", "demo-mnist", _PROBE, baseline="raw pixels"),
        EvaluationTask("demo/emoji_category", "image", "demo-emoji", _PROBE, baseline="raw pixels"),
        EvaluationTask("demo/movie_sentiment", "text", "demo-reviews", _TUNE, dropout=0.3, baseline="TF-IDF", set_by=(("epochs", "sentiment_epochs"),)),
        EvaluationTask("demo/image_to_text", "multimodal", "demo-pair", "retrieval", "image_to_text_r@10", baseline="chance"),
        EvaluationTask("demo/text_to_image", "multimodal", "demo-pair", "retrieval", "text_to_image_r@10", baseline="chance"),
        EvaluationTask("demo/easy_vqa", "multimodal", "demo-questions", _TUNE, epochs=1, batch_size=128, baseline='always "yes"', set_by=(("epochs", "question_epochs"), ("limit", "question_limit"))),
        EvaluationTask("demo/mnist_knn", "diagnostic", "demo-mnist", "knn", baseline="raw pixels"),
        EvaluationTask("demo/category_zero_shot", "diagnostic", "demo-emoji", "zero_shot", baseline="majority"),
        EvaluationTask("demo/image_to_text_matching", "diagnostic", "demo-pair", "reranked", "image_to_text_r@10", baseline="chance"),
        EvaluationTask("demo/text_to_image_matching", "diagnostic", "demo-pair", "reranked", "text_to_image_r@10", baseline="chance"),
        EvaluationTask("demo/matching", "diagnostic", "demo-pair", "matching", baseline="chance"),
        EvaluationTask("demo/masked_words", "diagnostic", "demo-reviews", "masked_words", baseline="commonest word"),
        EvaluationTask("icons/style", "image", "icons-styles", _PROBE, baseline="raw pixels"),
        EvaluationTask("icons/gloss_class", "text", "icons-glosses", _TUNE, epochs=2, baseline="TF-IDF"),
        EvaluationTask("icons/gloss_class_probe", "text", "icons-glosses", _PROBE, baseline="TF-IDF"),
        *(
            EvaluationTask(f"icons/{prefix}{way}", "multimodal", f"icons-{data}", "retrieval", f"{way}_r@10", baseline="chance")
            for prefix, data in (("", "concepts"), ("unseen_style_", "unseen-style"), ("unseen_both_", "unseen-both"))
            for way in ("image_to_text", "text_to_image")
        ),
        EvaluationTask("icons/naming", "multimodal", "icons-named", "zero_shot", baseline="chance"),
        EvaluationTask("icons/style_knn", "diagnostic", "icons-styles", "knn", baseline="raw pixels"),
        EvaluationTask("icons/matching", "diagnostic", "icons-concepts", "matching", baseline="chance"),
        EvaluationTask("icons/masked_words", "diagnostic", "icons-glosses", "masked_words", baseline="commonest word"),
        *(EvaluationTask(f"image/{n}", "image", n, _PROBE) for n in ("imagenet", "food101", "cifar10", "cifar100", "cars", "dtd", "mnist", "stl10", "eurosat", "gtsrb", "kitti", "pcam", "ucf101", "clevr", "fer2013", "sun397", "rendered_sst2", "country211")),
        *(EvaluationTask(f"image/{n}", "image", n, _PROBE, _PER_CLASS) for n in ("aircraft", "pets", "caltech101", "flowers102")),
        *(EvaluationTask(f"zero_shot/{n}", "diagnostic", n, "zero_shot") for n in ("imagenet", "food101", "cifar10", "cifar100", "pets", "caltech101")),
        EvaluationTask("glue/cola", "text", "glue-cola", _TUNE, "matthews", epochs=10),
        EvaluationTask("glue/sst2", "text", "glue-sst2", _TUNE),
        EvaluationTask("glue/mrpc", "text", "glue-mrpc", _TUNE, "accuracy_f1", epochs=10),
        EvaluationTask("glue/stsb", "text", "glue-stsb", _TUNE, "pearson_spearman", epochs=10),
        EvaluationTask("glue/qqp", "text", "glue-qqp", _TUNE, "accuracy_f1"),
        EvaluationTask("glue/mnli", "text", "glue-mnli", _TUNE),
        EvaluationTask("glue/qnli", "text", "glue-qnli", _TUNE),
        EvaluationTask("glue/rte", "text", "glue-rte", _TUNE, epochs=10),
        EvaluationTask("multimodal/vqav2", "multimodal", "vqav2", _TUNE, "vqa_accuracy", epochs=5),
        EvaluationTask("multimodal/snli_ve", "multimodal", "snli_ve", _TUNE, epochs=5),
        EvaluationTask("multimodal/hateful_memes", "multimodal", "hateful_memes", _TUNE, "roc_auc", epochs=10),
        *(EvaluationTask(f"multimodal/{n}_{d}_r{k}", "multimodal", n, "retrieval", f"{d}_r@{k}") for n in ("flickr30k", "coco") for d in ("image_to_text", "text_to_image") for k in (1, 5)),
    )
}  # fmt: skip


def choose(
    patterns: Sequence[str],
    own: Collection[str] = (),
    bundled: Mapping[str, str] = MappingProxyType(dict.fromkeys(KINDS, "demo")),
    given: Sequence[EvaluationTask] = (),
) -> tuple[EvaluationTask, ...]:
    """Tasks whose name or suite matches a shell pattern, in the registry's order, then the `given`.

    `auto` stands for the tasks on the corpora that are the user's `own`, and those that come with
    the `bundled` ones (kind → bundle): where these are of several bundles, without those that want
    one alone. Entries with an equals sign name the given ones. Raises UserError with the nearest
    name for a pattern that matches nothing.
    """
    patterns = [e for entry in patterns if "=" not in entry for e in entry.split(",")]
    patterns = [p.strip() for p in patterns if p.strip() and not p.strip().startswith(MTEB)]
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
        mixed = len(set(bundled.values())) > 1
        for task in TASKS.values():
            kind = task.data_set.kind
            bundle = BUNDLES[bundled[kind]] if kind in bundled else None
            wanted = (*(bundle.tasks if bundle else ()), *(("own",) if kind in own else ()))
            spoilt = bundle.alone if bundle and mixed else ()
            if any(_matches(task, p) for p in wanted) and not any(
                _matches(task, p) for p in spoilt
            ):
                found.append(task)
    names = {task.name for task in found}
    return (*(t for t in TASKS.values() if t.name in names), *given)


def suites() -> tuple[str, ...]:
    """Names of the suites, in order."""
    return tuple(dict.fromkeys(task.suite for task in TASKS.values()))


def _matches(task: EvaluationTask, pattern: str) -> bool:
    return fnmatch.fnmatchcase(task.name, pattern) or fnmatch.fnmatchcase(task.suite, pattern)
