"""The words that a source brings: its tokenizer, with the special tokens where MoMo has them.

MoMo's tokenizers begin with [PAD], [UNK], [CLS], [SEP] and [MASK]. BERT's has them elsewhere: they
are moved to the front, in the tokenizer and in the rows of the word embeddings alike.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from momo.initialise.layouts import bert, layout_of
from momo.initialise.source import Source, find_source

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def words_of(source: str | os.PathLike[str]) -> str:
    """The tokenizer JSON of a source that brings one (an export of MoMo, BERT), ready for
    `momo.tokenizer.load_tokenizer`. Equal texts give the source's own tokens.

    Raises ValueError for a source without words of its own, FileNotFoundError without it.
    """
    found = find_source(source)
    layout = layout_of(found)
    if layout.whole:
        text = found.text("tokenizer.json")
        if text is None:
            raise ValueError(f"{found.name} holds no tokenizer.json: export the model again")
        return _without_lengths(text)
    if layout is not bert.LAYOUT:
        raise ValueError(f"{found.name} ({layout.kind}) brings no words: it has no text half here")
    return json.dumps(_in_our_order(_tokenizer(found), word_order(found)), ensure_ascii=False)


def _without_lengths(text: str) -> str:
    """Without the cutting and filling that `transformers` keeps of its last call."""
    document = json.loads(text)
    if document.get("truncation") is None and document.get("padding") is None:
        return text
    return json.dumps({**document, "truncation": None, "padding": None}, ensure_ascii=False)


def word_order(source: Source) -> list[int]:
    """The source's id of each of our ids: the special tokens first, the rest as it stood.

    Raises ValueError for a tokenizer that is not BERT's kind.
    """
    vocabulary = _vocabulary(_tokenizer(source))
    if absent := [token for token in SPECIAL_TOKENS if token not in vocabulary]:
        raise ValueError(
            f"{source.name}: its tokenizer has no {', '.join(absent)}: it is not BERT's"
        )
    first = [vocabulary[token] for token in SPECIAL_TOKENS]
    rows = source.config.get("vocab_size", bert.DEFAULTS["vocab_size"])
    if max(vocabulary.values()) >= rows:
        raise ValueError(
            f"{source.name}: its tokenizer has ids up to {max(vocabulary.values())}, its model "
            f"{rows} words: they don't belong together"
        )
    return [*first, *(i for i in range(rows) if i not in set(first))]


def _vocabulary(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or ()}
    return {**tokenizer["model"]["vocab"], **added}


def _tokenizer(source: Source) -> dict[str, Any]:
    """From tokenizer.json, else made of vocab.txt as BERT's is."""
    found = source.json("tokenizer.json")
    if not found:
        words = source.text("vocab.txt")
        if words is None:
            raise ValueError(
                f"{source.name} holds neither tokenizer.json nor vocab.txt: save the model's "
                "tokenizer there too (tokenizer.save_pretrained)"
            )
        found = _from_vocabulary(words, source.json("tokenizer_config.json"))
    kind = found.get("model", {}).get("type")
    if kind != "WordPiece":
        raise ValueError(f"{source.name}: its tokenizer is {kind}, BERT's is WordPiece")
    return found


def _from_vocabulary(words: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    lines = words.splitlines()
    vocabulary = {word: number for number, word in enumerate(lines)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if token in vocabulary])
    return json.loads(tokenizer.to_str())


def _in_our_order(tokenizer: Mapping[str, Any], order: list[int]) -> dict[str, Any]:
    place = {old: new for new, old in enumerate(order)}
    vocabulary = {word: place[old] for word, old in tokenizer["model"]["vocab"].items()}
    added = [{**t, "id": place[t["id"]]} for t in tokenizer.get("added_tokens") or ()]
    ends = {
        token: {"id": token, "ids": [SPECIAL_TOKENS.index(token)], "tokens": [token]}
        for token in ("[CLS]", "[SEP]")
    }
    return {
        **tokenizer,
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(added, key=lambda token: token["id"]),
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_special("[CLS]"), _sequence("A"), _special("[SEP]")],
            "pair": [
                *(_special("[CLS]"), _sequence("A"), _special("[SEP]")),
                *(_sequence("B", 1), _special("[SEP]", 1)),
            ],
            "special_tokens": ends,
        },
        "model": {
            **tokenizer["model"],
            "vocab": dict(sorted(vocabulary.items(), key=lambda item: item[1])),
        },
    }


def _special(token: str, kind: int = 0) -> dict[str, Any]:
    return {"SpecialToken": {"id": token, "type_id": kind}}


def _sequence(name: str, kind: int = 0) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": kind}}
