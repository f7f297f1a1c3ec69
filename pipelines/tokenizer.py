"""The stage that trains the WordPiece vocabulary on the training text and captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from momo_platform.data.sink import DATA
from momo_platform.stages import Artifact, Context, UserError


@dataclass(frozen=True)
class TokenizerConfig:
    """`vocab_size` is an upper bound; `max_documents` and `max_captions` bound the time."""

    vocab_size: int
    max_documents: int = 1_000_000
    max_captions: int = 1_000_000


def _texts(config: TokenizerConfig, inputs: Mapping[str, Artifact]) -> Iterator[str]:
    import pyarrow.parquet as pq

    count = 0
    for batch in pq.ParquetFile(inputs["text"].path / DATA).iter_batches(
        1024, columns=["text", "split"]
    ):
        for row in batch.to_pylist():
            if row["split"] == "train" and (count := count + 1) <= config.max_documents:
                yield row["text"]
    count = 0
    columns = ["captions", "split"]
    for batch in pq.ParquetFile(inputs["pairs"].path / DATA).iter_batches(1024, columns=columns):
        for row in batch.to_pylist():
            if row["split"] == "train" and (count := count + 1) <= config.max_captions:
                yield from row["captions"]


def run_tokenizer(
    config: TokenizerConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: prepared text and pairs → `tokenizer.json`. Held-out captions stay unseen."""
    from momo.tokenizer import train_wordpiece

    tokenizer = train_wordpiece(_texts(config, inputs), config.vocab_size)
    if tokenizer.get_vocab_size() > config.vocab_size:
        raise UserError(
            f"model.vocab_size={config.vocab_size} is too small: the corpus' alphabet alone needs "
            f"{tokenizer.get_vocab_size()}; raise it"
        )
    tokenizer.save(str(context.output / "tokenizer.json"))
    return {"vocabulary": tokenizer.get_vocab_size()}
