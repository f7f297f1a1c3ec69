"""Reading emoji names, splitting by concept, stripping wiki markup."""

import pytest

from pipelines.demo.emoji import captions_for, code_points, concept_of, split_of
from pipelines.demo.prose import plain_text


@pytest.mark.parametrize(
    "a, b",
    [
        ("1f468-1f3fd-200d-2708-fe0f", "1F9D1-200D-2708-FE0F"),  # man, medium skin → person
        ("1f3c3-200d-2640-fe0f", "1F3C3"),  # woman running → running
        ("1f3c3-200d-2642-fe0f-200d-27a1-fe0f", "1F3C3"),  # … facing right
        ("2764-fe0f", "2764"),
    ],
)
def test_variants_share_a_concept(a, b):
    assert concept_of(code_points(a)) == concept_of(code_points(b))


def test_different_things_are_different_concepts():
    assert concept_of(code_points("1f34e")) != concept_of(code_points("1f34f"))


def test_splits_depend_on_concept_and_seed_only():
    concepts = [f"{i:X}" for i in range(0x1F300, 0x1F700)]
    splits = [split_of(c, "Objects", 0) for c in concepts]
    assert splits == [split_of(c, "Objects", 0) for c in concepts]
    assert 0.15 < splits.count("test") / len(splits) < 0.25
    assert 0.05 < splits.count("valid") / len(splits) < 0.11
    assert {split_of(c, "Flags", 0) for c in concepts} == {"train"}


def test_captions():
    assert captions_for("red apple", ("fruit", "red apple")) == ("red apple", "red apple, fruit")
    assert captions_for(None, ("x",)) == ()


def test_wiki_markup_goes():
    text = (
        "{{Infobox|a={{b}}}}'''Anarchism''' is a [[political philosophy|philosophy]] that "
        "advocates <ref>x</ref>self-governed societies based on voluntary institutions.\n== See =="
    )
    assert plain_text(text) == [
        "Anarchism is a philosophy that advocates self-governed societies based on voluntary "
        "institutions."
    ]
