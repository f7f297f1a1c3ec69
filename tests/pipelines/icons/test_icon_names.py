"""Folding names to concepts, cutting words of style, dividing concepts into parts."""

import pytest

from pipelines.icons.names import (
    caption_of,
    endings_of,
    folded,
    identity,
    is_named,
    split_of,
    words_of,
)


@pytest.mark.parametrize(
    ("name", "concept"),
    [
        ("arrow-left", "arrow left"),
        ("arrows-left-bold-24", "arrow left"),
        ("Arrow_Left-Outline", "arrow left"),
        ("arrow-left-20-filled", "arrow left"),
        ("heart-two-tone", "heart"),
        ("outline-heart", "heart"),
        ("heart-alt-2", "heart"),
        ("play3", "play"),
        ("cherries", "cherry"),
        ("boxes", "box"),
        ("glass", "glass"),
        ("bus", "bus"),
        ("bell-off", "bell off"),
        ("user-circle", "user circle"),
        ("bold", "bold"),  # a name is not cut to nothing
        ("24", "24"),
    ],
)
def test_a_name_is_folded_to_what_it_shows(name, concept):
    assert folded(name) == concept


def test_a_sets_prefixes_are_no_part_of_the_concept():
    assert folded("round-star-half", ("round", "sharp")) == "star half"
    assert folded("round", ("round",)) == "round"
    assert caption_of("twotone-star-half", endings_of([]), ("twotone",)) == "star half"


def test_captions_lose_the_words_that_end_many_of_their_sets_names():
    of_sizes = [f"{name}-{end}" for name in ("bell", "car", "tree", "sun") for end in ("16", "24")]
    endings = endings_of([*of_sizes, *of_sizes])
    assert caption_of("traffic-light-16", endings) == "traffic light"
    # One name with such a word is no style of the set.
    assert caption_of("chart-line", endings_of(["chart-line", *"abcdefgh"])) == "chart line"
    assert caption_of("bell-outline", endings_of([])) == "bell"
    assert caption_of("bell-01", endings_of([])) == "bell"
    assert folded("traffic-light-16") == folded("traffic-lights")


def test_two_words_for_one_style_are_one():
    assert words_of("Sun-two-tone") == ["sun", "twotone"]


def test_spellings_and_orders_of_a_name_share_their_part():
    spellings = ("check-box", "checkbox", "box-check", "check-boxes", "checkbox-outline")
    assert len({identity(folded(name)) for name in spellings}) == 1
    for seed in range(40):
        assert len({split_of(folded(name), seed) for name in spellings}) == 1


def test_one_in_ten_concepts_is_tested_and_one_in_fifty_validated():
    parts = [split_of(f"concept {number}", 0) for number in range(20_000)]
    assert 0.095 < parts.count("test") / len(parts) < 0.105
    assert 0.016 < parts.count("valid") / len(parts) < 0.024
    assert parts != [split_of(f"concept {number}", 1) for number in range(20_000)]


def test_numbers_are_no_names():
    assert not is_named("4k")
    assert not is_named("1")
    assert is_named("letter a")
