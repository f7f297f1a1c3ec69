"""Several sources of one modality: names, weights, fingerprints, and what comes of them."""

import io
import json
import tarfile
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from preparing import Folder

from momo_platform.data.artifacts import CARD, Mixture, PreparedRows
from momo_platform.data.dataset import open_rows
from momo_platform.data.order import SampleOrder
from momo_platform.stages import UserError, fingerprint, make_plan, open_storage
from pipelines import evaluate, full, index
from pipelines.commands import api
from pipelines.config import SourceOptions
from pipelines.epochs import source_epochs
from pipelines.graph import build_graph
from pipelines.modalities.pair import run_mix_pair, run_prepare_pair
from pipelines.option_names import with_whole_names
from pipelines.report.corpora import read_corpus

STAGE = ["--preset", "smoke", "--stages", "stage3-pair", "--plan"]


def picture(number):
    pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def corpora(tmp_path):
    """A table of 40 pairs beside its pictures, and two tars of 60 each."""
    rows = ["image,caption"]
    for number in range(40):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
        rows.append(f"{number}.png,a caption of {number}")
    (tmp_path / "own.csv").write_text("\n".join(rows))
    (tmp_path / "shards").mkdir()
    for shard in range(2):
        with tarfile.open(tmp_path / "shards" / f"{shard:05d}.tar", "w") as tar:
            for number in range(60):
                key = 1000 * (shard + 1) + number
                for ending, raw in (("png", picture(key)), ("txt", f"words {key}".encode())):
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(raw)
                    tar.addfile(info, io.BytesIO(raw))
    return tmp_path


def graph_of(*options):
    return build_graph(full.parse([*STAGE, *map(str, options)]))


def test_each_has_a_name_a_content_and_a_weight(corpora):
    table, tars = corpora / "own.csv", f"{corpora}/shards/{{00000..00001}}.tar"
    graph = graph_of("--pair.source", f"{table}:2", tars, "--pair.weight", "0.5")
    prepared = graph["prepare-pair"].config.sources
    assert [(s.name, s.uri) for s in prepared] == [("own", str(table)), ("shards", tars)]
    assert len({s.content for s in prepared}) == 2
    weights = graph["mix-pair"].config.weights
    assert weights == {"own": 2.0, "shards": 0.5}
    assert graph["report"].config.places["pair"] == {s.name: s.uri for s in prepared}


def test_one_is_what_it_was(corpora):
    """Its name is `own`; how it is written, and its weight, prepare nothing anew."""
    table = str(corpora / "own.csv")
    (corpora / "list.txt").write_text("own.csv\n")
    graphs = [
        graph_of("--pair.source", source)
        for source in (table, f"{table}:1", f"@{corpora}/list.txt")
    ]
    assert len({fingerprint(graph["report"]) for graph in graphs}) == 1
    (source,) = graphs[0]["prepare-pair"].config.sources
    assert (source.name, source.weight, source.uri) == ("own", 1.0, table)
    assert graphs[0]["mix-pair"].config.weights == {"own": 1.0}
    for given in ((f"{table}:3",), (table, "--pair.weight", "3")):
        other = graph_of("--pair.source", *given)
        assert fingerprint(other["prepare-pair"]) == fingerprint(graphs[0]["prepare-pair"])
        assert other["mix-pair"].config.weights == {"own": 3.0}


def test_they_are_given_on_every_way(corpora):
    """Of a command line, in Python, in settings, in records of runs."""
    two = [str(corpora / "own.csv"), f"{corpora}/shards/*.tar:2"]
    expected = SourceOptions(source=(two[0], two[1]))
    assert SourceOptions(source=two) == expected  # type: ignore[arg-type]
    assert SourceOptions(source=("a.csv",)) == SourceOptions(source="a.csv")
    for parse in (full.parse, evaluate.parse, index.parse):
        assert parse(["--pair.source", *two]).corpora["pair"] == expected
        assert parse(["--pairs.sources", *two]).corpora["pair"] == expected
    slow = full.parse([*STAGE, "--pair.source", *two, "--pair.held-out", "0.2"])
    assert slow.corpora["pair"].source == expected.source
    first = graph_of("--pair.source", *two)
    for plan in (
        api.plan(preset="smoke", stages=["stage3-pair"], pair=two, storage=corpora / "runs"),
        api.plan(
            preset="smoke",
            stages=["stage3-pair"],
            settings={"pair.source": tuple(two)},
            storage=corpora / "runs",
        ),
    ):
        known = {entry.name: entry.fingerprint for entry in plan.entries}
        assert known["report"] == fingerprint(first["report"])


def test_todays_name_is_told(capsys):
    for given in ("--pair.sources", "--pairs.sources", "--corpora.pair.sources"):
        assert with_whole_names([given, "a", "b"]) == ["--corpora.pair.source", "a", "b"]
    assert "--pair.source: write that" in capsys.readouterr().err


def test_the_plan_shows_each(corpora):
    graph = graph_of("--pair.source", corpora / "own.csv", f"{corpora}/shards/*.tar:2")
    plan = make_plan([graph["report"]], open_storage(str(corpora / "runs")))
    found = source_epochs(plan, SimpleNamespace(manifest=lambda *_: None))  # type: ignore[arg-type]
    assert {(row.source, row.weight) for row in found} == {("own", 1.0), ("shards", 2.0)}


def test_the_demo_may_be_one_of_them(corpora):
    graph = graph_of("--pair.source", "demo:0.5", corpora / "own.csv")
    assert "corpora" in graph["prepare-pair"].inputs
    assert [s.name for s in graph["prepare-pair"].config.sources] == ["emoji", "own"]
    assert graph["mix-pair"].config.weights == {"emoji": 0.5, "own": 1.0}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["{0}/own.csv", "{0}/none.csv:2"], r"--pair.source \S+/none.csv: no such file"),
        (["{0}/own.csv", "{0}/shards/{{00000..00002}}.tar"], r"not there: \S+/00002.tar"),
        (["{0}/own.csv", "{0}/own.csv:2"], r"--pair.source: \S+/own.csv is named twice"),
        (["{0}/own.csv", "@{0}/none.txt"], "the list of sources can't be read"),
        (["{0}/*.jpg"], r"--pair.source \S+/\*.jpg: no file is called so"),
        (["demo:2"], "the demo's corpora alone have weights of their own"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(corpora, given, told):
    with pytest.raises(UserError, match=told):
        graph_of("--pair.source", *(one.format(corpora) for one in given))


def test_training_reads_them_by_their_weights(ray_local, corpora):
    """Prepared, mixed and ordered: 2 rows of the one for each row that is there, 1 of the other."""
    tars = f"{corpora}/shards/{{00000..00001}}.tar"
    graph = graph_of("--pair.source", f"{corpora}/own.csv:2", tars)
    prepared, mixture = Folder(corpora / "prepared"), Folder(corpora / "mixed")
    metrics = run_prepare_pair(graph["prepare-pair"].config, {}, prepared.context)
    assert metrics["kept"] == 160
    card = json.loads((prepared.path / CARD).read_text())
    assert {n: t["read"] for n, t in card["by_source"].items()} == {"own": 40, "shards": 120}
    training = Counter(row["source"] for row in prepared.training())
    metrics = run_mix_pair(graph["mix-pair"].config, {"prepared": prepared}, mixture.context)
    assert {n: s["weight"] for n, s in metrics["sources"].items()} == {"own": 2.0, "shards": 1.0}
    dataset = open_rows(Mixture(mixture.path), PreparedRows(prepared.path))
    cycle = 2 * training["own"] + training["shards"]
    _, rows = SampleOrder(dataset.sources, 8, seed=0).rows_at(0, 8 * 128 * cycle)
    first = int((rows < training["own"]).sum())
    share = 2 * training["own"] / cycle
    assert abs(first / len(rows) - share) < 1 / 1024
    # The page names them, with their weights and places.
    artifact = SimpleNamespace(read=lambda name: (prepared.path / name).read_bytes())
    places = graph["report"].config.places["pair"]
    shown = read_corpus(artifact, places, metrics).sources
    assert [(row.name, row.weight, row.place) for row in shown] == [
        ("own", 2.0, str(corpora / "own.csv")),
        ("shards", 1.0, tars),
    ]
