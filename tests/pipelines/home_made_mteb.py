"""Tasks in mteb's format with data of their own: nothing is fetched. `test_mteb_tasks.py` runs
them."""

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from mteb.abstasks import AbsTaskClassification, AbsTaskClustering, AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification
from PIL import Image as Pillow

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "yellow": (230, 220, 30),
    "black": (10, 10, 10),
}
COUNT = 25


def described(name, kind, main, category, modalities):
    return TaskMetadata(
        name=name,
        description="Made here.",
        reference=None,
        dataset={"path": "here", "revision": "1"},
        type=kind,
        category=category,
        modalities=modalities,
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main,
        date=("2026-01-01", "2026-01-02"),
        domains=["Written"],
        task_subtypes=[],
        license="cc0-1.0",
        annotations_creators="derived",
        dialect=[],
        sample_creation="created",
        bibtex_citation="",
    )


def words():
    names = list(COLOURS)
    return [f"a {names[i % 5]} thing, number {i}" for i in range(COUNT)]


def pictures():
    draw = np.random.default_rng(0)
    kinds = list(COLOURS.values())
    return [
        Pillow.fromarray(
            np.clip(draw.normal(kinds[i % 5], 25, (40, 30, 3)), 0, 255).astype(np.uint8)
        )
        for i in range(COUNT)
    ]


class Found(AbsTaskRetrieval):
    """Pictures of the colour that a text names."""

    metadata = described("HomeFound", "Any2AnyRetrieval", "ndcg_at_10", "t2i", ["text", "image"])

    def load_data(self, **_):
        if self.data_loaded:
            return
        ids = [str(i) for i in range(COUNT)]
        corpus = Dataset.from_dict(
            {"id": [f"d{i}" for i in ids], "image": pictures()},
            features=Features({"id": Value("string"), "image": Image()}),
        )
        queries = Dataset.from_dict({"id": [f"q{i}" for i in ids], "text": words()})
        relevant = {
            f"q{i}": {f"d{j}": 1 + (i == j) for j in range(COUNT) if i % 5 == j % 5}
            for i in range(COUNT)
        }
        part = {"corpus": corpus, "queries": queries, "relevant_docs": relevant}
        self.dataset = {"default": {"test": part | {"top_ranked": None}}}
        self.data_loaded = True


class Alike(AbsTaskSTS):
    metadata = described("HomeAlike", "STS", "cosine_spearman", "t2t", ["text"])
    min_score, max_score = 0, 5

    def load_data(self, **_):
        texts = words()
        other = texts[3:] + texts[:3]
        score = [i * 5 / COUNT for i in range(COUNT)]
        self.dataset = DatasetDict(
            {"test": Dataset.from_dict({"sentence1": texts, "sentence2": other, "score": score})}
        )
        self.data_loaded = True


class Classes(AbsTaskClassification):
    metadata = described("HomeClasses", "Classification", "accuracy", "t2c", ["text"])
    samples_per_label, n_experiments = 3, 4

    def load_data(self, **_):
        rows = {"text": words(), "label": [i % 5 for i in range(COUNT)]}
        self.dataset = DatasetDict(
            {"train": Dataset.from_dict(rows), "test": Dataset.from_dict(rows)}
        )
        self.data_loaded = True


class Named(AbsTaskZeroShotClassification):
    """The colour of a picture, by its name."""

    metadata = described(
        "HomeNamed", "ZeroShotClassification", "accuracy", "i2t", ["image", "text"]
    )
    input_column_name, label_column_name = "image", "label"

    def get_candidate_labels(self):
        return [f"a {name} thing" for name in COLOURS]

    def load_data(self, **_):
        features = Features({"image": Image(), "label": ClassLabel(names=list(COLOURS))})
        rows = {"image": pictures(), "label": [i % 5 for i in range(COUNT)]}
        self.dataset = DatasetDict({"test": Dataset.from_dict(rows, features=features)})
        self.data_loaded = True


class Groups(AbsTaskClustering):
    """Its score is of all examples together: there is none for each."""

    metadata = described("HomeGroups", "Clustering", "v_measure", "t2c", ["text"])
    max_fraction_of_documents_to_embed = None
    max_document_to_embed = COUNT
    n_clusters = 2

    def load_data(self, **_):
        rows = {"sentences": words(), "labels": [i % 5 for i in range(COUNT)]}
        self.dataset = DatasetDict({"test": Dataset.from_dict(rows)})
        self.data_loaded = True
