"""Sizes of a run of the benchmark: as it is meant, or a toy for CPUs (`--quick`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from experiments.benchmarks.harness import Row
from momo.config import ModelConfig
from pipelines.config import PipelineConfig
from pipelines.presets import PRESETS

Cases = Mapping[str, Callable[[], Iterator[Row]]]
"""Name → makes rows one by one, so that those of a case that fails later are kept."""


@dataclass(frozen=True)
class Setting:
    """`preset`: the model and its stages that are timed; `small`: the preset whose losses are
    compared; `stage_rows`: rows of a GPU by stage and modality; `peer_rows` and `pair_rows`:
    pictures and pairs beside a peer, `inference_rows` encoded at a time; `readers`: processes,
    the last count also feeds stage 1; `run_seconds`: a run of an update is repeated up to."""

    quick: bool
    runs: int
    run_seconds: float
    preset: PipelineConfig
    small: PipelineConfig
    small_rows: int
    stage_rows: Mapping[int, Mapping[str, int]]
    peer_rows: int
    pair_rows: int
    inference_rows: int
    readers: tuple[int, ...]
    pictures: int
    loop_rows: Mapping[str, int]
    loop_model: ModelConfig | None
    window_steps: int

    @property
    def model(self) -> ModelConfig:
        """The shape that is timed."""
        return self.preset.model


def setting(quick: bool) -> Setting:
    """The rows a GPU are those of preset base on eight."""
    if not quick:
        return Setting(
            quick=False,
            runs=5,
            run_seconds=0.5,
            preset=PRESETS["base"](),
            small=PRESETS["demo"](),
            small_rows=64,
            stage_rows={
                1: {"image": 512},
                2: {"image": 256, "text": 256},
                3: {"text": 256, "pair": 512},
            },
            peer_rows=256,
            pair_rows=128,
            inference_rows=256,
            readers=(3, 8, 14),
            pictures=128,
            loop_rows={"image": 256, "text": 256, "pair": 128},
            loop_model=None,
            window_steps=10,
        )
    model = ModelConfig(
        width=32, depth=2, heads=2, vocab_size=256, max_text_length=80, decoder_width=32
    )
    base = PRESETS["base"]()
    task = replace(base.training["stage3-pair"].task, contrastive_chunk=4)
    toy = replace(
        base,
        model=model,
        training={
            **base.training,
            "stage3-pair": replace(base.training["stage3-pair"], task=task),
        },
        packed_text_length=16,
        pair_text_length=16,
    )
    return Setting(
        quick=True,
        runs=2,
        run_seconds=0.0,
        preset=toy,
        small=replace(PRESETS["smoke"](), model=model, packed_text_length=16, pair_text_length=16),
        small_rows=8,
        stage_rows={1: {"image": 8}, 2: {"image": 8, "text": 8}, 3: {"text": 8, "pair": 8}},
        peer_rows=4,
        pair_rows=4,
        inference_rows=4,
        readers=(1, 2),
        pictures=16,
        loop_rows={"image": 4, "text": 4, "pair": 4},
        loop_model=model,
        window_steps=4,
    )
