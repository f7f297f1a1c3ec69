"""Sequences of unequal length, one after another without padding.

Shapes: B rows of a batch, T tokens of its longest text, S tokens of all sequences together, D
width. How many tokens there are is always known on the host; which they are is worked out where
the tokens lie, so that nothing here waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

try:  # torch 2.11 and newer
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # pragma: no cover - older torch takes the padded path
    varlen_attn = None

Runs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Sequences:
    """Where sequences begin and end among tokens [S, D].

    `offsets` int32 [n + 1], on the tokens' device; `longest`: tokens of the longest one, or more.
    `runs`: (rows, length) of neighbours of equal length, where the host knows them: each run is
    then a batch without padding. `read`: the tokens that are attended to, where not all are.
    """

    offsets: Tensor
    longest: int
    runs: Runs | None = None
    read: Read | None = None

    @classmethod
    def equal(cls, rows: int, length: int, device: torch.device) -> Sequences:
        """`rows` sequences of `length` tokens."""
        offsets = torch.arange(rows + 1, device=device, dtype=torch.int32) * length
        return cls(offsets, length, ((rows, length),))

    def then(self, other: Sequences) -> Sequences:
        """These and behind them the others."""
        offsets = torch.cat([self.offsets, other.offsets[1:] + self.offsets[-1]])
        runs = None if self.runs is None or other.runs is None else self.runs + other.runs
        return Sequences(offsets, max(self.longest, other.longest), runs)

    def hiding(self, hidden: Tensor, total: int, runs: Runs | None) -> Sequences:
        """The same, where nobody attends to the tokens `hidden`, int64 [n], of `total`. `runs`: of
        the tokens that are left."""
        shown = torch.ones(total, dtype=torch.int64, device=hidden.device).scatter(0, hidden, 0)
        tokens = (1 - shown).argsort(stable=True)[: total - hidden.shape[0]]
        before = torch.nn.functional.pad(shown.cumsum(0), (1, 0))
        offsets = before[self.offsets.long()].int()
        return replace(self, read=Read(tokens, Sequences(offsets, self.longest, runs)))


@dataclass(frozen=True)
class Read:
    """`tokens` int64 [R] of S, and which of `sequences` each of these belongs to."""

    tokens: Tensor
    sequences: Sequences


def attend(
    query: Tensor, key: Tensor, value: Tensor, queries: Sequences, keys: Sequences
) -> Tensor:
    """Attention inside each sequence: `query` [Q, heads, d] of the same sequences as `key` and
    `value` [S, heads, d] → [Q, heads · d].

    Runs of equal length are batches. Else, in half precision on a GPU, it is torch's
    variable-length attention; elsewhere sequences are padded for the attention alone.
    """
    if queries.runs is not None and keys.runs is not None:
        return _attend_runs(query, key, value, queries.runs, _divided(keys.runs, queries.runs))
    if has_kernel(query):
        limits = (queries.offsets, keys.offsets, queries.longest, keys.longest)
        kernel: Any = varlen_attn
        # As wide as the longest sequence, so no window at all; but with one torch stays with flash
        # attention: cuDNN's kernel, which it may take on Hopper, can't do empty sequences.
        window = max(queries.longest, keys.longest)
        return kernel(query, key, value, *limits, window_size=(window, window)).flatten(1)
    return attend_padded(query, key, value, queries, keys)


def has_kernel(query: Tensor) -> bool:
    """Whether torch's variable-length attention takes such tensors."""
    half = query.dtype in (torch.bfloat16, torch.float16)
    width = query.shape[-1]  # of a head
    fits = width % 8 == 0 and width <= 256
    return varlen_attn is not None and query.is_cuda and half and fits


def _divided(runs: Runs, like: Runs) -> Runs:
    """`runs` with the rows of `like`, of which several may lie in one of them."""
    if len(runs) == len(like):
        return runs
    found: list[tuple[int, int]] = []
    rest = iter(runs)
    left, length = 0, 0
    for rows, _ in like:
        if not left:
            left, length = next(rest)
        found.append((rows, length))
        left -= rows
    return tuple(found)


def _attend_runs(query: Tensor, key: Tensor, value: Tensor, queries: Runs, keys: Runs) -> Tensor:
    asked = query.split([rows * length for rows, length in queries])
    seen = [part.split([rows * length for rows, length in keys]) for part in (key, value)]
    found = []
    for (rows, _), q, k, v in zip(queries, asked, *seen, strict=True):
        batch = (t.unflatten(0, (rows, -1)).transpose(1, 2) for t in (q, k, v))
        found.append(scaled_dot_product_attention(*batch).transpose(1, 2).flatten(2).flatten(0, 1))
    return found[0] if len(found) == 1 else torch.cat(found)


def attend_padded(
    query: Tensor, key: Tensor, value: Tensor, queries: Sequences, keys: Sequences
) -> Tensor:
    """`attend` with every sequence padded to the longest: the reference for the other ways."""
    asked, _ = _padded_index(queries, query.shape[0])
    seen, present = _padded_index(keys, key.shape[0])
    batch = [
        embedding(index, t.flatten(1)).unflatten(2, t.shape[1:]).transpose(1, 2)
        for index, t in ((asked, query), (seen, key), (seen, value))
    ]
    # A sequence without keys has no queries that count: it sees what lies there.
    mask = (present | ~present.any(dim=1, keepdim=True))[:, None, None, :]
    found = scaled_dot_product_attention(*batch, attn_mask=mask).transpose(1, 2).flatten(2)
    row, place = rows_and_places(queries.offsets, query.shape[0])
    return embedding(row * queries.longest + place, found.flatten(0, 1))


def _padded_index(sequences: Sequences, total: int) -> tuple[Tensor, Tensor]:
    """Where the tokens of each sequence lie, int64 [n, longest], and which are its own, bool."""
    steps = torch.arange(sequences.longest, device=sequences.offsets.device)
    start, end = sequences.offsets[:-1, None].long(), sequences.offsets[1:, None].long()
    index = start + steps
    return index.clamp_max(total - 1), index < end


def rows_and_places(offsets: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """`offsets` [n + 1], the last of which is `total` → of each token its sequence and its place
    in it, int64 [S]."""
    lengths = (offsets[1:] - offsets[:-1]).long()
    rows = torch.arange(lengths.shape[0], device=offsets.device)
    row = torch.repeat_interleave(rows, lengths, output_size=total)
    return row, torch.arange(total, device=offsets.device) - offsets[:-1].long()[row]


def offsets_of(lengths: Tensor) -> Tensor:
    """int64 [n] → int32 [n + 1]: 0 and the sums up to each."""
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()


@dataclass(frozen=True)
class Layout:
    """Texts of a batch as one row of S tokens.

    `row`, `place` int64 [S]: the text of each token and its position there; `start` int64 [B]:
    where each text begins; `lengths` int64 [B].
    """

    row: Tensor
    place: Tensor
    start: Tensor
    lengths: Tensor
    sequences: Sequences

    def padded(self, tokens: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """[S, D] → [B, `length`, D] in the batch's order, and bool [B, `length`], True for tokens;
        what stands elsewhere has no meaning."""
        steps = torch.arange(length, device=self.start.device)
        present = steps < self.lengths[:, None]
        index = torch.where(present, self.start[:, None] + steps, self.start[:, None])
        return embedding(index, tokens), present


def lay_out(lengths: Tensor, known: Sequence[int], *, group: bool) -> Layout:
    """Texts of `lengths` int64 [B], which are `known` on the host, one after another.

    `group`: texts of equal length come together, so that they make runs; for CPUs, where attention
    of unequal sequences has no kernel.
    """
    rows, longest = len(known), max(known)
    if not group or min(known) == longest:
        offsets = offsets_of(lengths)
        row, place = rows_and_places(offsets, sum(known))
        sequences = Sequences(offsets, longest, ((rows, longest),) if group else None)
        return Layout(row, place, offsets[:-1].long(), lengths, sequences)
    order = lengths.argsort(stable=True)
    offsets = offsets_of(lengths[order])
    row, place = rows_and_places(offsets, sum(known))
    start = torch.empty_like(lengths).scatter_(0, order, offsets[:-1].long())
    sequences = Sequences(offsets, longest, runs_of(lengths[order]))
    return Layout(order[row], place, start, lengths, sequences)


def runs_of(lengths: Tensor) -> Runs:
    """Neighbours of equal length of `lengths` [n], on the CPU: (rows, length)."""
    values, counts = lengths.unique_consecutive(return_counts=True)
    return tuple(zip(counts.tolist(), values.tolist(), strict=True))


@dataclass(frozen=True)
class JointLayout:
    """Pairs as one row of tokens, each its picture's and then its text's, and which of them a last
    block has to make.

    `index` int64 [S] into the pictures' tokens and then the texts'. `queries` int64 [Q] into S,
    with `asked`, their sequences. Into Q: `pictures` int64 [B, P], the first tokens of the true
    pairs' pictures, `words` int64 [M], their masked words, and `others` int64 [F], the [CLS] of the
    false pairs.
    """

    index: Tensor
    sequences: Sequences
    queries: Tensor
    asked: Sequences
    pictures: Tensor
    words: Tensor
    others: Tensor


@dataclass(frozen=True)
class Words:
    """Masked words by text and place in it, int64 [M], in the order of texts and places."""

    row: Tensor
    place: Tensor


def lay_out_pairs(
    texts: Layout,
    words: Words,
    image_length: int,
    image_rows: Tensor,
    text_rows: Tensor,
    *,
    known: Sequence[int],
    pictures_wanted: int,
    group: bool,
    class_attention: bool = False,
) -> JointLayout:
    """The pairs (`image_rows`, `text_rows`) int64 [n]: the B true ones in order, then the false.

    `known`: how many tokens each text has; it ends before the pairs whose text the host does not
    know. Those get room for the longest text, whose rest is a sequence that nobody reads. `group`:
    as in `lay_out`, and then all must be known. `pictures_wanted`: P, from [CLS] on.
    `class_attention`: no token attends to [CLS].
    """
    device, longest = texts.start.device, texts.sequences.longest
    true, pairs, unknown = texts.start.shape[0], len(text_rows), len(text_rows) - len(known)
    lengths = texts.lengths[text_rows]
    room, whole = lengths, image_length + lengths
    if unknown:
        room = torch.cat([lengths[: len(known)], lengths.new_full((unknown,), longest)])
    word_start = torch.searchsorted(words.row, torch.arange(true + 1, device=device))
    asked = torch.ones_like(lengths)
    asked[:true] = pictures_wanted + word_start.diff()

    order = torch.arange(pairs, device=device)
    if group:
        order = (lengths * (image_length + longest + 1) + asked).argsort(stable=True)
    tokens = offsets_of((image_length + room)[order])
    total = pairs * image_length + sum(known) + unknown * longest
    start, pair, place = _placed(order, tokens, total)
    text_place = (place - image_length).minimum(lengths[pair] - 1).clamp_min(0)
    source = torch.where(
        place < image_length,
        image_rows[pair] * image_length + place,
        true * image_length + texts.start[text_rows[pair]] + text_place,
    )

    begin, pair, nth = _queries(order, asked, words, word_start, pictures_wanted, image_length)
    own = torch.arange(words.row.shape[0], device=device) - word_start[words.row]
    rests = room[order] - lengths[order]
    keys, queries = _sequences(whole[order], rests, asked[order], len(known))
    runs = _runs_of_both(whole[order], asked[order]) if group else (None, None)
    sequences = Sequences(keys, image_length + longest, runs[0])
    if class_attention:
        left = runs[0] and tuple((rows, length - 1) for rows, length in runs[0])
        sequences = sequences.hiding(start, total, left)
    return JointLayout(
        source,
        sequences,
        start[pair] + nth,
        Sequences(queries, pictures_wanted + longest, runs[1]),
        begin[:true, None] + torch.arange(pictures_wanted, device=device),
        begin[words.row] + pictures_wanted + own,
        begin[true:],
    )


def _queries(
    order: Tensor, asked: Tensor, words: Words, word_start: Tensor, pictures: int, image_length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Where each pair's queries begin, int64 [n] by its own number, and of each query, int64 [Q],
    its pair and which of the pair's tokens it is: the first `pictures`, then its masked words."""
    found, true = words.row.shape[0], len(word_start) - 1
    count = true * pictures + found + len(order) - true
    start, pair, nth = _placed(order, offsets_of(asked[order]), count)
    if not found:
        return start, pair, nth
    nth_word = (word_start[pair.clamp_max(true - 1)] + nth - pictures).clamp(0, found - 1)
    return start, pair, torch.where(nth < pictures, nth, image_length + words.place[nth_word])


def _runs_of_both(lengths: Tensor, asked: Tensor) -> tuple[Runs, Runs]:
    """Of `lengths` [n], as `runs_of`, and of the queries `asked` [n], in runs of equal length and
    equal queries: each lies in one of the first, which all blocks but the last have."""
    both = torch.stack([lengths, asked], dim=1)
    values, counts = both.unique_consecutive(dim=0, return_counts=True)
    of_queries = tuple(zip(counts.tolist(), values[:, 1].tolist(), strict=True))
    return runs_of(lengths), of_queries


def _placed(order: Tensor, offsets: Tensor, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where each pair begins, int64 [n] by its own number, and of each token its pair and place."""
    row, place = rows_and_places(offsets, total)
    start = torch.empty_like(order).scatter_(0, order, offsets[:-1].long())
    return start, order[row], place


def _sequences(lengths: Tensor, rests: Tensor, asked: Tensor, known: int) -> tuple[Tensor, Tensor]:
    """Offsets of keys and of queries; behind each pair from `known` on, its unread rest."""

    def with_rests(own: Tensor, rest: Tensor) -> Tensor:
        last = torch.stack([own[known:], rest[known:]], dim=1).flatten()
        return offsets_of(torch.cat([own[:known], last]))

    return with_rests(lengths, rests), with_rests(asked, torch.zeros_like(asked))
