"""Sequences without padding against the padded model, in every way that attention takes."""

import dataclasses

import pytest
import torch
from making_batches import CONFIG, make_batch

import momo.packing
from momo.config import TaskConfig
from momo.model import build_model
from momo.packing import Sequences, Words, attend, attend_padded, lay_out, lay_out_pairs
from momo.tasks import MoMoTask

WAYS = ["runs", "padded", "kernel"]


def reference_kernel(
    query, key, value, query_offsets, key_offsets, most_queries, most_keys, *, window_size
):
    """What variable-length attention promises, sequence by sequence; nothing may be left out."""
    assert min(window_size) >= max(most_queries, most_keys)
    found = torch.full_like(query, float("nan"))
    bounds = zip(*(o.unfold(0, 2, 1).tolist() for o in (query_offsets, key_offsets)), strict=True)
    for (a, b), (c, d) in bounds:
        assert b - a <= most_queries
        assert d - c <= most_keys
        if b > a:
            parts = (t.transpose(0, 1)[None] for t in (query[a:b], key[c:d], value[c:d]))
            seen = torch.nn.functional.scaled_dot_product_attention(*parts)
            found = found.index_copy(0, torch.arange(a, b), seen[0].transpose(0, 1))
    assert query_offsets[-1] == len(query)
    assert key_offsets[-1] == len(key)
    return found


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """As on a CPU (batches of equal length), as on a GPU without and with the kernel."""
    if request.param == "kernel":
        monkeypatch.setattr(momo.packing, "has_kernel", lambda query: True)
        monkeypatch.setattr(momo.packing, "varlen_attn", reference_kernel)
    return request.param


def task_in(way, config=None, model_config=CONFIG):
    task = MoMoTask(build_model(model_config, seed=1), config or TaskConfig())
    task.group_lengths = way == "runs"
    return task


def everything(task, modality, batch):
    """Losses and gradients by name."""
    losses = task(modality, batch)
    sum(loss.sum / loss.count for loss in losses.values()).backward()
    gradients = {n: p.grad for n, p in task.named_parameters() if p.grad is not None}
    return {n: loss.sum.detach() for n, loss in losses.items()} | gradients


def test_text_equals_the_padded_model(way):
    batch = make_batch("text", rows=9)
    found = everything(task_in(way, TaskConfig(modalities=("text",))), "text", batch)
    task = task_in(way)
    prepared = task.on_host("text", batch)
    mask = prepared["ids"] != 0
    tokens = task.model.encode_text(prepared["masked_ids"], mask)
    logits = task.model.word_logits(tokens[prepared["word_row"], prepared["word_place"]])
    loss = torch.nn.functional.cross_entropy(logits, prepared["targets"], reduction="sum")
    (loss / len(logits)).backward()
    torch.testing.assert_close(found["mlm"], loss, rtol=1e-5, atol=1e-5)
    for name, parameter in task.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        TaskConfig(),
        TaskConfig(contrastive_chunk=5),
        TaskConfig(shared_passes=False),
        TaskConfig(pair_mim=0.0),
        TaskConfig(pair_mlm=0.0, contrastive=0.0),
        TaskConfig(matching=0.0, matching_group=4),
    ],
    ids=["all", "chunk", "separate", "no-mim", "no-words", "no-matching"],
)
@pytest.mark.parametrize("shape", [{}, {"tower_depth": 1}, {"class_attention": True}], ids=str)
def test_pairs_are_equal_in_every_way(config, shape, monkeypatch):
    shape = dataclasses.replace(CONFIG, **shape)
    batch = make_batch("pair", rows=12)
    expected = everything(task_in("runs", config, shape), "pair", batch)
    for name in ("padded", "kernel"):
        if name == "kernel":
            monkeypatch.setattr(momo.packing, "has_kernel", lambda query: True)
            monkeypatch.setattr(momo.packing, "varlen_attn", reference_kernel)
        found = everything(task_in(name, config, shape), "pair", batch)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("class_attention", [False, True])
def test_joint_pass_equals_the_padded_model(way, class_attention):
    """The tokens of true and of false pairs, those that a text was drawn for among them."""
    shape = dataclasses.replace(CONFIG, class_attention=class_attention)
    task, batch = task_in(way, model_config=shape), make_batch("pair", rows=4)
    model, group = task.model, way == "runs"
    ids = batch["ids"]
    mask = ids != 0
    pixels = batch["pixels"].float() / 255
    known = tuple(mask.sum(dim=1).tolist())
    texts = lay_out(mask.sum(dim=1), known, group=group)
    text = model.text_embedding.packed(ids[texts.row, texts.place], texts.place)
    image = model.image_embedding(pixels)
    image_rows, text_rows = torch.tensor([0, 1, 2, 3, 2, 3]), torch.tensor([0, 1, 2, 3, 1, 0])
    words = Words(torch.tensor([0, 0, 2, 3]), torch.tensor([1, 3, 2, 1]))
    lengths = [known[row] for row in text_rows.tolist()]
    layout = lay_out_pairs(
        texts,
        words,
        image.shape[1],
        image_rows,
        text_rows,
        known=lengths if group else lengths[:5],
        pictures_wanted=image.shape[1],
        group=group,
        class_attention=class_attention,
    )
    tokens = torch.cat([image.flatten(0, 1), text])[layout.index]
    found = model.encode_packed(tokens, layout.sequences, None, layout.queries, layout.asked)
    seen, read = model.encode_pair(pixels[image_rows], ids[text_rows], mask[text_rows])
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(found[layout.pictures], seen[:4], **close)
    torch.testing.assert_close(found[layout.words], read[words.row, words.place], **close)
    torch.testing.assert_close(found[layout.others], seen[4:, 0], **close)


@torch.no_grad()
def test_with_class_attention_nobody_reads_cls(way):
    """Neither alone, nor beside texts in one product, nor in pairs; [CLS] itself reads."""
    shape = dataclasses.replace(CONFIG, class_attention=True)
    task, batch = task_in(way, model_config=shape), make_batch("pair", rows=6)
    model, ids, pixels = task.model, batch["ids"], batch["pixels"].float() / 255
    mask = ids != 0
    known = tuple(mask.sum(dim=1).tolist())
    texts = lay_out(mask.sum(dim=1), known, group=way == "runs")

    def tokens():
        text = model.text_embedding.packed(ids[texts.row, texts.place], texts.place)
        apart, read = model.encode_apart(model.image_embedding(pixels), text, texts)
        alone, (joint, words) = model.encode_image(pixels), model.encode_pair(pixels, ids, mask)
        torch.testing.assert_close(apart, alone, rtol=1e-5, atol=1e-5)
        return [alone[:, 1:], joint[:, 1:], words, read], [alone[:, 0], joint[:, 0]]

    before, cls_before = tokens()
    torch.nn.init.normal_(model.image_embedding.cls)
    after, cls_after = tokens()
    torch.testing.assert_close(after, before)
    for one, other in zip(cls_before, cls_after, strict=True):
        assert not torch.allclose(one, other, atol=1e-2)


def test_attention_of_runs_and_padded_agree_on_unequal_queries():
    generator = torch.Generator().manual_seed(0)
    lengths, asked = torch.tensor([2, 2, 5, 1]), torch.tensor([1, 1, 3, 1])

    def sequences(counts, runs):
        offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()
        return Sequences(offsets, int(counts.max()), runs)

    query = torch.randn(6, 2, 4, generator=generator)
    key, value = (torch.randn(10, 2, 4, generator=generator) for _ in range(2))
    queries = sequences(asked, ((2, 1), (1, 3), (1, 1)))
    keys = sequences(lengths, ((2, 2), (1, 5), (1, 1)))
    torch.testing.assert_close(
        attend(query, key, value, queries, keys), attend_padded(query, key, value, queries, keys)
    )


def test_runs_of_equal_keys_are_divided_where_queries_differ():
    generator = torch.Generator().manual_seed(0)
    lengths, asked = torch.tensor([3, 3, 3, 2, 2]), torch.tensor([1, 1, 2, 1, 2])

    def sequences(counts, runs):
        offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()
        return Sequences(offsets, int(counts.max()), runs)

    query = torch.randn(7, 2, 4, generator=generator)
    key, value = (torch.randn(13, 2, 4, generator=generator) for _ in range(2))
    queries = sequences(asked, ((2, 1), (1, 2), (1, 1), (1, 2)))
    keys = sequences(lengths, ((3, 3), (2, 2)))
    torch.testing.assert_close(
        attend(query, key, value, queries, keys), attend_padded(query, key, value, queries, keys)
    )


def test_half_of_the_tokens_were_padding_and_are_not_computed():
    task = task_in("runs", TaskConfig(modalities=("text",)))
    batch = make_batch("text", rows=9)
    real = int((batch["ids"] != 0).sum())
    assert real < 0.75 * batch["ids"].numel()
    seen = []
    task.model.blocks[0].mlp.fc1.register_forward_hook(
        lambda _, args, __: seen.append(len(args[0]))
    )
    task("text", batch)
    assert seen == [real]
    assert task.tokens("text", batch) == real


def test_a_batch_that_is_not_whole_groups_is_refused():
    with pytest.raises(ValueError, match="task.matching_group=8"):
        task_in("runs", TaskConfig(matching_group=8))("pair", make_batch("pair", rows=12))
