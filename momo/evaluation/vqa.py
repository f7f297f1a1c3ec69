"""The answer normalisation of VQAv2's official evaluation."""

from __future__ import annotations

import re

_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_ARTICLES = {"a", "an", "the"}
# Words written without their apostrophe, as people type them.
_CONTRACTIONS = {
    written.replace("'", ""): written
    for written in re.findall(
        r"\S+",
        "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's "
        "how'd how'll how's I'm I've isn't it'd it'll ma'am might've mightn't must've mustn't "
        "needn't o'clock oughtn't shan't should've shouldn't somebody's someone's "
        "something's that'd that's there'd there're there's they'd they'll they're they've wasn't "
        "we've weren't what'll what're what's what've when's where'd where's where've who'd who'll "
        "who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've",
    )
}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_COMMA_IN_NUMBER = re.compile(r"(\d),(\d)")


def normalise_answer(answer: str) -> str:
    """Lower case, without articles and punctuation, number words as digits, apostrophes back.

    Follows the published evaluation: punctuation that stands beside a space, or in an answer with
    a comma in a number, is dropped, other punctuation becomes a space; periods go unless a
    digit follows.
    """
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    original = text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in original or f" {mark}" in original
        if beside_space or _COMMA_IN_NUMBER.search(original):
            text = text.replace(mark, "")
        else:
            text = text.replace(mark, " ")
    text = _PERIOD.sub("", text)
    words = [_NUMBERS.get(word, word) for word in text.lower().split()]
    kept = [word for word in words if word not in _ARTICLES]
    return " ".join(_CONTRACTIONS.get(word, word) for word in kept)
