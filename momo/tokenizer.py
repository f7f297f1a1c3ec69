"""WordPiece tokenizer, trained on the corpus with BERT's lower-casing rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import WordPieceTrainer

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4, as SpecialIds says


_ALPHABET = 500


def _new(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def train_wordpiece(texts: Iterable[str], vocab_size: int, min_frequency: int = 2) -> Tokenizer:
    """Learn a vocabulary of at most `vocab_size` pieces, the five special tokens first.

    Equal texts give an equal tokenizer. The library's trainer numbers the pieces `##a`, `##b`, …
    in the order of a hash map, which also decides between merges of equal count
    (huggingface/tokenizers#1794); they are given their numbers beforehand.
    """
    tokenizer = _new(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=64))
    texts = list(texts)
    assert tokenizer.normalizer is not None
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(tokenizer.normalizer.normalize_str(text))
    common = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))
    room = max(0, vocab_size - len(SPECIAL_TOKENS)) // 2
    inner = [f"##{c}" for c in sorted(common[: min(_ALPHABET, room)])]
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*SPECIAL_TOKENS, *inner],
        limit_alphabet=_ALPHABET,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # A new one, in which `##a` is a piece like others and no special token.
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    tokenizer = _new(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=64))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read `tokenizer.json`, without the cutting and filling that `transformers` keeps there of its
    last call. Raises `ValueError` when a special token has another id."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such tokenizer file; train or export one first")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return check_special_tokens(tokenizer, str(path))


def check_special_tokens(tokenizer: Tokenizer, source: str) -> Tokenizer:
    """Return `tokenizer` if ids 0 to 4 are the special tokens, else raise `ValueError`."""
    found = [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS]
    if found != list(range(len(SPECIAL_TOKENS))):
        raise ValueError(
            f"{source}: special tokens {list(SPECIAL_TOKENS)} have ids {found}, expected 0 to 4; "
            "train the tokenizer with momo.tokenizer.train_wordpiece"
        )
    return tokenizer


def token_ids(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> list[list[int]]:
    """Ids of each text, [CLS] … [SEP], `length` at most: truncated before [SEP]."""
    return [cut(ids, length) for ids in whole_ids(tokenizer, texts)]


def whole_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, [CLS] … [SEP], however many."""
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


def cut(ids: list[int], length: int) -> list[int]:
    """Of a text's ids `length` at most: truncated before [SEP]."""
    return ids if len(ids) <= length else ids[: length - 1] + ids[-1:]


def padded(ids: Sequence[Sequence[int]], length: int) -> np.ndarray:
    """Ids of texts, `length` at most of each → int64 [texts, length], padded with 0."""
    rows = np.zeros((len(ids), length), dtype=np.int64)
    for row, pieces in zip(rows, ids, strict=True):
        row[: len(pieces)] = pieces
    return rows


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> np.ndarray:
    """Ids int64 [texts, length], [CLS] … [SEP], truncated before [SEP], padded with 0."""
    return padded(token_ids(tokenizer, texts, length), length)


def encode_pairs(
    tokenizer: Tokenizer, first: Sequence[str], second: Sequence[str], length: int
) -> np.ndarray:
    """Ids int64 [pairs, length], [CLS] a [SEP] b [SEP]; the longer text of a pair that is too long
    is cut, padded with 0. Raises ValueError for lists of other lengths."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} first texts, but {len(second)} second ones: give as many")
    cutting = Tokenizer.from_str(tokenizer.to_str())
    cutting.enable_truncation(length, strategy="longest_first")
    pairs = list(zip(first, second, strict=True))
    return padded([encoding.ids for encoding in cutting.encode_batch_fast(pairs)], length)
