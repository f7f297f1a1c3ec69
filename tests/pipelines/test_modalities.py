"""A fourth modality, made here: nothing of the platform knows it."""

import wave
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from prepared_rows import artifact

from momo_platform.data.artifacts import Mixture, PreparedRows
from momo_platform.data.config import Kind
from momo_platform.data.dataset import open_rows
from momo_platform.data.listers import ListFiles
from momo_platform.data.loader import Loader
from momo_platform.data.mix import mix_rows
from momo_platform.data.prepare import prepare as prepare_all
from momo_platform.stages import Context, UserError, by_role, make_plan, open_storage
from momo_platform.training.config import TrainConfig
from pipelines.config import RunOptions, SourceOptions, TrainingStage
from pipelines.epochs import source_epochs
from pipelines.graph import build_graph
from pipelines.graph.corpora import prepare
from pipelines.graph.training import train
from pipelines.modalities import MODALITIES, ModalityData
from pipelines.presets import PRESETS
from pipelines.report.words import corpus_in_words

SCHEMA = pa.schema(
    {n: pa.string() for n in ("source", "key", "group", "split", "reason")}
    | {"samples": pa.binary(), "length": pa.int32()}
)


def read_sounds(listed):
    rows = []
    for row in listed.to_pylist():
        with wave.open(row["path"]) as sound:
            samples = sound.readframes(sound.getnframes())
        rows.append(row | {"split": "train", "samples": samples, "length": len(samples) // 2})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def prepare_sounds(config, inputs, context):
    lister = ListFiles(".wav")
    return prepare_all(config, inputs, context, AUDIO.kind, lister, read_sounds, SCHEMA)


@by_role
def mix_sounds(config, context, *, prepared: PreparedRows):
    return mix_rows(config, prepared, context, ["samples"], "audio")


def batch(table, seeds, most):
    rows = [np.frombuffer(raw, np.int16)[:most] for raw in table["samples"].to_pylist()]
    return {"samples": np.stack(rows), "seeds": seeds}


AUDIO = ModalityData(
    Kind(
        "audio",
        hint="give a folder of WAV files",
        columns=(("sound", ("audio", "wav")),),
        content="samples",
        measured=("length",),
    ),
    "recorded sounds",
    prepare_sounds,
    mix_sounds,
    lambda reading: partial(batch, most=reading.model.width),
)


@dataclass(frozen=True)
class Listening:
    modalities: tuple[str, ...] = ("audio",)
    objectives: dict[str, float] = field(default_factory=lambda: {"masked_sound": 1.0})
    contrastive_chunk: int = 0

    def rows_together(self, modality):
        return 1


@pytest.fixture(autouse=True)
def audio(monkeypatch):
    monkeypatch.setitem(MODALITIES, "audio", AUDIO)


@pytest.fixture
def recorded(tmp_path):
    folder = tmp_path / "recorded"
    folder.mkdir()
    for number in range(6):
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(np.full(400, number, np.int16).tobytes())
    return folder


def config_of(source, **changes):
    stage = TrainingStage(Listening(), TrainConfig(2, {"audio": 4}))  # type: ignore[arg-type]
    sources = {"audio": SourceOptions(str(source) if source else "")}
    own = {"training": {"listen": stage}, "corpora": sources} | changes
    return replace(PRESETS["smoke"](), **own)


def test_it_goes_through_the_graph_and_the_plan(tmp_path, recorded):
    config = config_of(recorded)
    corpora = prepare(config)
    assert corpora.own == {"audio"}
    assert corpora.needed == ("audio",)
    assert [stage.name for stage in corpora.stages] == ["prepare-audio", "tokenizer", "mix-audio"]
    model = train(config, corpora, None)["listen"]
    assert {role: stage.name for role, stage in model.inputs.items()} == {
        "audio": "mix-audio",
        "audio-rows": "prepare-audio",
        "tokenizer": "tokenizer",
    }
    mixed = model.inputs["audio"]
    assert mixed.run is mix_sounds
    assert mixed.inputs["prepared"].run is prepare_sounds
    assert mixed.config.own == "--audio.source"
    (source,) = mixed.inputs["prepared"].config.sources
    assert (source.uri, len(source.content)) == (str(recorded), 16)
    storage = open_storage(str(tmp_path / "runs"))
    plan = make_plan([build_graph(config)["report"]], storage)
    names = {entry.name for entry in plan.to_run}
    assert names >= {"prepare-audio", "mix-audio", "tokenizer", "listen", "export", "report"}
    assert not names & {"corpora", "prepare-image", "prepare-text", "prepare-pair"}
    (epochs,) = source_epochs(plan, storage)
    assert (epochs.modality, epochs.mix, epochs.epochs) == ("audio", "mix-audio", None)
    assert corpus_in_words("audio") == "recorded sounds"


def test_it_joins_the_others(recorded):
    stages = PRESETS["smoke"]().training | config_of(recorded).training
    corpora = prepare(config_of(recorded, training=stages))
    assert corpora.needed == ("image", "text", "pair", "audio")
    assert set(corpora.mixed) == set(MODALITIES)
    assert "audio" not in corpora.tokenizer.inputs


def test_a_source_that_is_missing_is_asked_for(tmp_path):
    with pytest.raises(UserError, match="listen needs recorded sounds: give --audio.source"):
        prepare(config_of(""))
    with pytest.raises(UserError, match="no such file or folder; give a folder of WAV files"):
        prepare(config_of(tmp_path / "none"))
    with pytest.raises(UserError, match="--pair.weight, --audio.weight"):
        SourceOptions(weight=-1.0)
    planned = prepare(config_of("", run=RunOptions(plan=True)))
    assert planned.mixed["audio"].inputs["prepared"].name == "prepare-audio"


def test_its_rows_become_batches(tmp_path, recorded):
    def run(stage, inputs):
        context = Context(tmp_path / stage.name, tmp_path / "kept" / stage.name, "", "0", "a")
        context.output.mkdir()
        return context.output, stage.run(stage.config, inputs, context)

    config = config_of(recorded)
    mixed = prepare(config).mixed["audio"]
    rows, metrics = run(mixed.inputs["prepared"], {})
    assert metrics["kept"] == 6
    card = (rows / "card.json").read_text()
    assert '"name": "prepare-audio"' in card
    assert '"length"' in card
    mixture, metrics = run(mixed, {"prepared": artifact(rows)})
    assert metrics["rows"] == 6
    assert metrics["valid_rows"] == 0

    @dataclass(frozen=True)
    class Read:
        model: object

    transform = AUDIO.transform(Read(config.model))  # type: ignore[arg-type]
    dataset = open_rows(Mixture(mixture), PreparedRows(rows))
    loader = Loader(dataset, transform, global_batch_size=6)
    (values,) = np.unique(loader.batch(0)["samples"], axis=1).T[:1]
    assert sorted(values) == list(range(6))
