"""The stage that trains the WordPiece vocabulary on the training text and captions, or on a random
sample of them: the first rows of each source, which lie in the order of their digests."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from momo_platform.data.artifacts import PreparedRows
from momo_platform.stages import Context, UserError, by_role
from pipelines.artifacts import ModelFolder, TokenizerFile
from pipelines.modalities import MODALITIES


@dataclass(frozen=True)
class TokenizerConfig:
    """`vocab_size` is an upper bound; `max_documents` and `max_captions` (rows of them) bound the
    time."""

    vocab_size: int
    max_documents: int = 1_000_000
    max_captions: int = 1_000_000


def _texts(config: TokenizerConfig, prepared: Mapping[str, PreparedRows]) -> Iterator[str]:
    from momo_platform.data.prepared import iterate_rows, proportional

    def rows(name: str, column: str, most: int) -> Iterator[Any]:
        for source, limit in proportional(prepared[name], most).items():
            for table in iterate_rows(prepared[name], [column], ("train",), limit, source=source):
                yield from table[column].to_pylist()

    for name, modality in MODALITIES.items():
        most = config.max_captions if modality.captioned else config.max_documents
        if modality.texts and name in prepared:
            for found in rows(name, modality.texts, most):
                yield from found if modality.captioned else [found]
    if not prepared:  # pictures only: characters, until a stage with words learns its own
        yield from string.printable


@by_role
def run_tokenizer(
    config: TokenizerConfig, context: Context, *, prepared: Mapping[str, PreparedRows]
) -> dict[str, Any]:
    """Stage: prepared text and pairs, those that there are → `tokenizer.json`. Held-out rows stay
    unseen."""
    from momo.tokenizer import train_wordpiece

    tokenizer = train_wordpiece(_texts(config, prepared), config.vocab_size)
    if tokenizer.get_vocab_size() > config.vocab_size:
        raise UserError(
            f"model.vocab_size={config.vocab_size} is too small: the corpus' alphabet alone needs "
            f"{tokenizer.get_vocab_size()}; raise it"
        )
    tokenizer.save(str(TokenizerFile(context.output).path))
    return {"vocabulary": tokenizer.get_vocab_size()}


@dataclass(frozen=True)
class GivenTokenizer:
    """`vocab_size`: what the model has room for."""

    vocab_size: int


@by_role
def run_given_tokenizer(
    config: GivenTokenizer, context: Context, *, model: ModelFolder
) -> dict[str, Any]:
    """Stage: the tokenizer of the model that training starts from → `tokenizer.json`."""
    import shutil

    from tokenizers import Tokenizer

    file = model.tokenizer.path
    count = Tokenizer.from_file(str(file)).get_vocab_size()
    if count > config.vocab_size:
        raise UserError(
            f"model.vocab_size={config.vocab_size} is smaller than the {count} words of the model "
            "that training starts from: give --model.vocab-size so many"
        )
    shutil.copyfile(file, TokenizerFile(context.output).path)
    return {"vocabulary": count}
