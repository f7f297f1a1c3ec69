"""An index finds the same whichever way its vectors are stored, and says what made it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from momo_platform.serving import state
from momo_platform.serving.config import ServingConfig
from momo_platform.serving.index import Index, read_index, write_index
from momo_platform.serving.stored_vectors import ExactVectors

N, E, K = 3000, 32, 10


@pytest.fixture(scope="module")
def vectors():
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((60, E))
    found = centres[draw.integers(0, 60, N)] + 0.7 * draw.standard_normal((N, E))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


ENTRIES = [{"caption": str(i)} for i in range(N)]


def int8_of(vectors):
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    step, middle = (high - low) / 254, (low + high) / 2
    return np.rint((vectors - middle) / step).astype(np.int8), np.stack([step, middle])


def found_by(index, query):
    scores, entries = zip(*index.search(query, K), strict=True)
    return scores, [int(entry["caption"]) for entry in entries]


def hits(index, vectors, rows):
    """Share of the exact K nearest that the index finds, over queries near `rows`; its cosines are
    right."""
    total = 0
    for row in rows:
        query = vectors[row] + 0.05
        query /= np.linalg.norm(query)
        cosines = vectors @ query
        scores, places = found_by(index, query)
        assert list(scores) == sorted(scores, reverse=True)
        np.testing.assert_allclose(scores, cosines[places], atol=0.01)
        total += len({*places} & {*np.argsort(-cosines)[:K].tolist()})
    return total / K / len(rows)


def test_float32_is_exact(vectors, tmp_path):
    write_index(tmp_path, vectors, ENTRIES, "m", "fp32")
    index = read_index(tmp_path)
    assert (index.model, index.precision, len(index.vectors)) == ("m", "fp32", N)
    assert hits(index, vectors, range(50)) == 1.0


def test_int8_is_a_quarter_as_large_and_finds_nearly_all(vectors, tmp_path):
    codes, ranges = int8_of(vectors)
    write_index(tmp_path / "small", codes, ENTRIES, "m", "int8", ranges=ranges)
    write_index(tmp_path / "whole", vectors, ENTRIES, "m", "int8")
    index = read_index(tmp_path / "small")
    assert hits(index, vectors, range(50)) > 0.9
    sizes = [(tmp_path / name / "vectors.npy").stat().st_size for name in ("small", "whole")]
    assert 3.8 < sizes[1] / sizes[0] < 4.2


def test_a_graph_finds_nearly_all(vectors, tmp_path):
    pytest.importorskip("usearch")
    write_index(tmp_path, vectors, ENTRIES, "m", "fp32", graph=True)
    assert hits(read_index(tmp_path), vectors, range(50)) > 0.95
    (tmp_path / "two").mkdir()
    write_index(tmp_path / "two", vectors[:2], ENTRIES[:2], "m", "fp32", graph=True)
    assert len(read_index(tmp_path / "two").search(vectors[0], K)) == 2


def test_a_graph_without_its_package_says_what_to_install(vectors, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "usearch.index", None)
    with pytest.raises(ImportError, match="pip install usearch"):
        write_index(tmp_path, vectors, ENTRIES, "m", graph=True)
    write_index(tmp_path, vectors, ENTRIES, "m")
    facts = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps(facts | {"vectors": "usearch"}))
    with pytest.raises(ValueError, match="pip install usearch"):
        read_index(tmp_path)


def test_earlier_and_unknown_indexes(vectors, tmp_path):
    write_index(tmp_path, vectors[:3], ENTRIES[:3], "m")
    (tmp_path / "index.json").write_text(json.dumps({"model": "m"}))  # as they were written before
    index = read_index(tmp_path)
    assert (index.precision, isinstance(index.vectors, ExactVectors)) == ("", True)
    (tmp_path / "index.json").write_text(json.dumps({"model": "m", "vectors": "int4"}))
    with pytest.raises(ValueError, match="'int4', which this version does not know"):
        read_index(tmp_path)


class FakeProcess:
    """In the model process's place: no model is needed to compare names."""

    def __init__(self, load, folder, threads, device, precision):
        self.name, self.precision, self.dimensions = "m", precision, E

    def texts(self, texts):
        return np.zeros((len(texts), E), np.float32)


class Reader:
    def counted(self, texts):
        return [([1], 1)] * len(texts)


def test_an_index_of_another_precision_is_refused(vectors, tmp_path, monkeypatch):
    monkeypatch.setattr(state, "ModelProcess", FakeProcess)
    loaders = state.Loaders(encoder=None, reader=lambda folder: Reader())
    write_index(tmp_path, vectors, ENTRIES, "m", "fp32")
    found = state.load_state(loaders, "model", str(tmp_path), 1, "cpu", "fp32").index
    assert isinstance(found, Index)
    with pytest.raises(
        ValueError, match=r"made in fp32, the model is served in int8: .*fp32.*int8"
    ):
        state.load_state(loaders, "model", str(tmp_path), 1, "cpu", "int8")


def test_an_index_of_another_width_is_refused(vectors, tmp_path, monkeypatch):
    monkeypatch.setattr(state, "ModelProcess", FakeProcess)
    loaders = state.Loaders(encoder=None, reader=lambda folder: Reader())
    write_index(tmp_path, vectors[:, :8], ENTRIES, "m", "fp32")
    assert read_index(tmp_path).width == 8
    with pytest.raises(ValueError, match=rf"vectors of 8 numbers, .* m have {E}: make an index"):
        state.load_state(loaders, "model", str(tmp_path), 1, "cpu", "fp32")


def test_captions_keep_every_kind_of_line_break(tmp_path):
    entries = [{"caption": "a\u2028b\u2029c\u0085d\x1ce\nf"}, {"caption": "g"}]
    write_index(tmp_path, np.eye(2, dtype=np.float32), entries, "m")
    assert read_index(tmp_path).entries == entries


def test_int8_on_a_gpu_is_refused():
    config = ServingConfig("model", precision="int8")
    with pytest.raises(ValueError, match=r"precision='int8' is for CPUs, but gpus=1"):
        replace(config, gpus=1.0)
