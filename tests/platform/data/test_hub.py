"""Hugging Face data sets without a network: local folders and what `save_to_disk` writes."""

import builtins
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from preparing import Folder

from momo_platform.data.config import PrepareConfig
from momo_platform.data.digests import FILES, blocks_to_hash, hash_files
from momo_platform.data.images import ImageConfig
from momo_platform.data.listing import ROW_SCHEMA
from momo_platform.data.readers import hub, hub_files
from momo_platform.data.readers.hub import Hub, HubName
from momo_platform.data.rows import PrepareImages, PrepareText
from momo_platform.data.sources import SourceConfig, identify, list_rows, text_places
from momo_platform.stages import UserError
from pipelines.modalities import IMAGE, MODALITIES, PAIR, TEXT
from pipelines.modalities.pair import run_prepare_pair
from pipelines.modalities.text import run_prepare_text

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    hub.splits_of.cache_clear()


def picture(number):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 16), (number, 0, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def table(*numbers):
    return pa.table(
        {
            "image": [{"bytes": picture(n), "path": f"{n}.png"} for n in numbers],
            "sentences": [[f"picture {n}", "another"] for n in numbers],
            "label": list(numbers),
        }
    )


def prepared(uri, kind="pair"):
    found = list(list_rows(SourceConfig("s", uri), uri, MODALITIES[kind].kind))
    schema = ROW_SCHEMA.append(pa.field("reason", pa.string()))
    block = pa.Table.from_pylist(found, schema=schema)
    return pa.concat_tables(
        PrepareImages(ImageConfig(size_cap=8), kind == "pair")(block)
    ).to_pylist()


def documents(uri):
    places = [{"source": "s"} | place for place in text_places(uri, TEXT.kind)]
    return [
        row
        for place in places
        for block in PrepareText(3)(pa.Table.from_pylist([place]))
        for row in block.to_pylist()
    ]


def test_names():
    assert HubName.of("hf://wikimedia/wikipedia:20231101.en@train[:1%]") == HubName(
        "wikimedia/wikipedia", "20231101.en", "train[:1%]"
    )
    assert HubName.of("hf:///data/x").folder == "/data/x"
    assert HubName.of("hf://a/b").folder is None
    with pytest.raises(UserError, match="no data set named"):
        HubName.of("hf://")


def test_a_local_folder_of_parquet_keeps_its_splits(tmp_path):
    folder = tmp_path / "x"
    (folder / "data").mkdir(parents=True)
    pq.write_table(table(1, 2, 3), folder / "data" / "train-00000-of-00001.parquet")
    pq.write_table(table(4), folder / "data" / "validation-00000-of-00001.parquet")
    found = {row["key"]: row for row in prepared(f"hf://{folder}")}
    second = found["data/train-00000-of-00001.parquet:000000002"]
    assert (second["captions"], second["label"]) == (["picture 2", "another"], "2")
    assert found["data/validation-00000-of-00001.parquet:000000001"]["split"] == "valid"
    assert len(found) == 4
    assert {row["split"] for row in found.values()} == {"train", "valid"}
    assert not [*(tmp_path / "cache").rglob("*.arrow")]  # nothing is copied
    both = prepared(f"hf://{folder}@train+validation")
    assert [row["split"] for row in both] == [""] * 4
    assert all(row["image"][:4] == b"\x89PNG" for row in found.values())
    one = prepared(f"hf://{folder}@train[:2]")
    assert len(one) == 2
    assert {row["split"] for row in one} == {""}  # held out by hash, as any other source


def test_an_image_folder_is_read_from_its_files(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(picture(i))
    (folder / "cut.png").write_bytes(picture(9)[:50])
    found = prepared(f"hf://{folder}", "image")
    assert sum(row["reason"] is None for row in found) == 3
    assert sum("truncated" in (row["reason"] or "") for row in found) == 1
    (folder / "2.png").unlink()
    again = prepared(f"hf://{folder}", "image")
    assert sum("can't be opened" in (row["reason"] or "") for row in again) == 1


@pytest.mark.parametrize("as_uri", [False, True])
def test_what_save_to_disk_wrote(tmp_path, as_uri):
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    values = {
        "image": [{"bytes": picture(i), "path": None} for i in range(3)] + [None],
        "caption": ["one", "two", "", "four"],
    }
    data = datasets.Dataset.from_dict(values, features=features)
    datasets.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(tmp_path / "s")
    data.save_to_disk(tmp_path / "one")
    uri = f"hf://{tmp_path}/s" if as_uri else f"{tmp_path}/s"
    assert Hub().takes(uri)
    found = prepared(uri)
    assert [row["split"] for row in found] == ["train"] * 4 + ["test"]
    assert [bool(row["reason"]) for row in found] == [False, False, True, True, False]
    assert "names no picture" in found[3]["reason"]
    assert len(prepared(f"{tmp_path}/one")) == 4
    hashed = [hash_files(b) for b in blocks_to_hash(SourceConfig("s", uri), uri, PAIR.kind)]
    assert sorted(t.to_pylist()[0]["path"] for t in hashed)[0].endswith(".arrow")
    before = identify(uri, "--pair.source", PAIR.kind)
    assert identify(uri, "--pair.source", PAIR.kind) == before
    data.select([1]).save_to_disk(tmp_path / "s" / "test")
    assert identify(uri, "--pair.source", PAIR.kind) != before


def test_through_ray(ray_local, tmp_path):
    values = {"caption": ["a cat", "", "a dog"], "text": ["a document of its own"] * 2 + ["short"]}
    data = datasets.Dataset.from_dict(values | {"image": [{"bytes": picture(i)} for i in range(3)]})
    data.save_to_disk(tmp_path / "s")
    sources = (SourceConfig("s", f"hf://{tmp_path}/s"),)
    for run, kept in ((run_prepare_pair, 2), (run_prepare_text, 1)):
        out = Folder(tmp_path / run.__name__)
        metrics = run(PrepareConfig(sources), {}, out.context)
        assert (metrics["kept"], metrics["quarantined"]) == (kept, 1)
        (file,) = pq.read_table(out.path / FILES).to_pylist()
        assert file["path"].endswith(".arrow")


def test_text_comes_in_shares(tmp_path, monkeypatch):
    for module in (hub, hub_files):
        monkeypatch.setattr(module, "_DOCUMENTS", 4)
    texts = [f"document {i}" for i in range(9)] + [None]
    folder = tmp_path / "x"
    folder.mkdir()
    data = pa.table({"text": texts, "id": range(10)})
    pq.write_table(data, folder / "train.parquet", row_group_size=3)
    datasets.Dataset(data).save_to_disk(tmp_path / "saved")
    for uri, stops, name in (
        (f"hf://{folder}", [6, 10], "train.parquet"),  # whole row groups
        (f"hf://{tmp_path}/saved", [4, 8, 10], "all"),
    ):
        assert [p["stop"] for p in text_places(uri, TEXT.kind)] == stops
        found = documents(uri)
        assert [row["text"] for row in found[:9]] == texts[:9]
        assert [row["key"] for row in found] == [f"{name}:{n}" for n in range(1, 11)]
        assert found[9]["reason"] == "the row has no text"


def test_missing_columns_and_splits_are_named(tmp_path):
    (tmp_path / "x").mkdir()
    pq.write_table(pa.table({"words": ["a"]}), tmp_path / "x" / "train.parquet")
    uri = f"hf://{tmp_path}/x"
    with pytest.raises(UserError, match="no column with the text in split train; it has 'words'"):
        text_places(uri, TEXT.kind)
    with pytest.raises(UserError, match="train.parquet: no column with the picture"):
        list(list_rows(SourceConfig("s", uri), uri, IMAGE.kind))
    with pytest.raises(UserError, match="can't be loaded.*nope.*there are train"):
        text_places(f"{uri}@nope", TEXT.kind)
    with pytest.raises(UserError, match="no such file"):
        identify("hf:///none/such", "--text.source", TEXT.kind)


def test_a_remote_set_is_known_by_its_revision(monkeypatch):
    class Builder:
        config_id, hash = "default", "abc"
        info = datasets.DatasetInfo(version="1.0.0")

    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_: Builder)
    before = identify("hf://a/b", "--text.source", TEXT.kind)
    assert len(before) == 16
    assert identify("hf://a/b@train", "--text.source", TEXT.kind) != before
    Builder.hash = "def"
    assert identify("hf://a/b", "--text.source", TEXT.kind) != before


def test_without_the_library_the_remedy_is_named(monkeypatch):
    original = builtins.__import__

    def without(name, *rest, **options):
        if name == "datasets":
            raise ImportError(name)
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install datasets"):
        text_places("hf://a/b", TEXT.kind)
