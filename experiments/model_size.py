"""Does a larger model help within an hour, and can its loss be foretold?

Hypothesis: the loss falls as a power of the encoder's parameters, at equal tokens; at equal compute
a middle size is best, since small ones can't learn it and large ones see too little.

    python experiments/model_size.py [--budget smoke|hour|demo] [--depth 2 3 4 5 6] [--plan]

Five sizes by one dial, `depth`: d layers of width 32 d with d heads, a decoder of width 16 d, and
the learning rate times 4 / d. Each size is trained on equal tokens, and again with the steps that
make its training cost what depth 4 costs. The fit leaves the largest size out once and is compared
with it.

Design: 3 seeds; 1 learning rate an arm; 8 comparisons by total_loss, one family: depth 2, equal
tokens; depth 3, equal tokens; depth 5, equal tokens; depth 6, equal tokens; depth 2, equal
compute; depth 3, equal compute; depth 5, equal compute; depth 6, equal compute. No margin, so
nothing is called equal.

Cost: 40 minutes to an hour on two cores: nine arms, three seeds, nothing shared but the corpora.

Result: figures in docs/findings.md. The hypothesis got no support from so short a training (55, 65
and 80 steps). At equal tokens the mean loss of stage 3 does not fall with size: it is 17.76,
17.92, 17.77, 17.94 and 17.91 from depth 2 to 6. The fitted exponent of the parameters is +0.0022
(-0.0024 to +0.0068). Fitted to the four smaller sizes, the law predicts 17.92 (17.52 to 18.32) for
the largest, which has 17.91. At equal compute the means rise with size: 15.64, 16.95, 17.77,
18.45, 18.97. Corrected for eight comparisons no size is confirmed to differ from depth 4; nearest
is depth 2, which has 6.5 times the steps (-2.13, -2.92 to -1.35, corrected p 0.058). Sizes can be
told apart with `--budget demo` or more, if at all; learning rates were scaled, not searched.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from experiments.budget import (
    STAGES,
    Budget,
    base_config,
    equal_compute,
    learning_rates,
    with_model,
)
from experiments.design import Design
from experiments.run import RESULTS, Arms, Experiment, ExperimentOptions, run
from experiments.run import main as run_main
from experiments.scaling_law import chart, extrapolate, fit
from momo.config import ModelConfig
from momo.cost import parameter_counts
from momo_platform.charts import standalone
from momo_platform.overrides import with_settings
from momo_platform.stages import UserError, open_storage
from momo_platform.sweeps import Settings
from momo_platform.sweeps.folder import sweep_folder
from momo_platform.sweeps.rows import Results, read_results
from pipelines.config import PipelineConfig

METRIC = "total_loss"
_REFERENCE = 4
_STEPS: Mapping[Budget, tuple[int, int, int]] = {"smoke": (8, 8, 8), "hour": (55, 65, 80)}


@dataclass(frozen=True)
class SizeOptions(ExperimentOptions):
    """What the size ladder can be told."""

    depth: tuple[int, ...] = (2, 3, 4, 5, 6)
    """The sizes; at least four, so that three are left where the largest is held out."""


def base(budget: Budget) -> PipelineConfig:
    """The budget's config, where it is not the demo's with fewer steps, and with quick tasks."""
    changes: dict[str, Any] = {
        "evaluation.tasks": ("demo/mnist", "demo/image_to_text", "demo/text_to_image")
    }
    if budget in _STEPS:
        steps = zip(STAGES, _STEPS[budget], strict=True)
        changes |= {f"training.{name}.train.steps": count for name, count in steps}
    return with_settings(base_config(budget), changes)


def of_depth(config: PipelineConfig, depth: int) -> dict[str, Any]:
    """The settings of one rung of the ladder."""
    rates = {path: rate * _REFERENCE / depth for path, rate in learning_rates(config).items()}
    shape = {"width": 32 * depth, "depth": depth, "heads": depth}
    decoder = {"decoder_width": 16 * depth, "decoder_heads": depth}
    return with_model(**shape, **decoder) | rates


def arms(depths: Sequence[int], config: PipelineConfig) -> Arms:
    """depth 4 first; at equal tokens, then at equal compute."""
    if len(set(depths)) < 4 or min(depths) < 1:
        raise UserError(f"--depth {' '.join(map(str, depths))}: give at least four sizes from 1 up")
    reference = of_depth(config, _REFERENCE)
    level = with_settings(config, reference)
    found: dict[str, Settings] = {f"depth {_REFERENCE}": reference}
    for depth in sorted(set(depths) - {_REFERENCE}):
        found[f"depth {depth}, equal tokens"] = of_depth(config, depth)
    for depth in sorted(set(depths) - {_REFERENCE}):
        found[f"depth {depth}, equal compute"] = equal_compute(level, of_depth(config, depth))
    return found


def block_parameters(settings: Settings) -> int:
    """Parameters of the encoder's blocks."""
    values = {k.removeprefix("model."): v for k, v in settings.items() if k.startswith("model.")}
    return parameter_counts(ModelConfig(**values))["blocks"]


def losses(results: Results, ending: str) -> dict[float, list[float]]:
    """Block parameters → losses by seed, of the arms with this ending and of the reference."""
    rows = [r for r in results.rows if r.label.endswith(ending) or "," not in r.label]
    found = {float(block_parameters(r.history[0])): r.values(METRIC) for r in rows if r.seeds}
    return dict(sorted(found.items()))


def conclude(results: Results) -> dict[str, Any]:
    """The fit, what it says of the largest size, and the best size at equal compute."""
    tokens, compute = losses(results, "equal tokens"), losses(results, "equal compute")
    best = min(compute, key=lambda size: sum(compute[size]) / len(compute[size]))
    extrapolation = extrapolate(tokens)
    return {
        "law": asdict(fit(tokens)),
        "extrapolation": {**asdict(extrapolation), "error": extrapolation.error},
        "compute_optimal_parameters": best,
        "equal_tokens": {f"{size:g}": values for size, values in tokens.items()},
        "equal_compute": {f"{size:g}": values for size, values in compute.items()},
    }


DESIGN = Design(
    tuple(f"depth {d}, equal {what}" for what in ("tokens", "compute") for d in (2, 3, 5, 6)),
    METRIC,
)
EXPERIMENT = Experiment(
    "model_size",
    partial(arms, SizeOptions().depth),
    design=DESIGN,
    equal=False,
    mode="min",
    show=("groups/*", "parameters", "loss/*", "training_seconds"),
    base=base,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """As every experiment, and then the fit."""
    return run_main(EXPERIMENT, __doc__, arguments, SizeOptions, _run_and_fit)


def _run_and_fit(ladder: Experiment, options: SizeOptions, given: Sequence[str]) -> int:
    if options.only:
        raise UserError("--only: the law needs every size; choose them with --depth")
    sizes = partial(arms, options.depth)
    compared = tuple(sizes(ladder.base(options.budget)))[1:]
    experiment = replace(ladder, design=replace(DESIGN, comparisons=compared), arms=sizes)
    code = run(experiment, options, given)
    if code or options.plan:
        return code
    storage = open_storage(options.storage)
    folder = sweep_folder(storage, options.name or f"model_size-{options.budget}")
    results = read_results(folder / "results.json")
    found, tokens = conclude(results), losses(results, "equal tokens")
    compute = losses(results, "equal compute")
    drawn = chart(
        {"equal tokens": tokens, "equal compute": compute},
        {"equal tokens": fit(tokens)},
        "parameters of the encoder's blocks",
        "loss of stage 3, all objectives",
    )
    _write(folder / "report", "law", found, drawn)
    if options.publish:
        stem = options.name or "model_size"
        _write(RESULTS, f"{stem}-law-{results.created[:10]}", found, drawn)
    law, beyond = found["law"], found["extrapolation"]
    exponents = predictions = "one seed, no interval"
    if law["low"] is not None:
        exponents = f"95 %: {-law['high']:.4f} – {-law['low']:.4f}"
        predictions = f"{beyond['low']:.3f} – {beyond['high']:.3f}"
    print(
        f"loss = {law['a']:.3g} · parameters^{-law['b']:.4f} ({exponents}); without the largest "
        f"size the law predicts {beyond['predicted']:.3f} ({predictions}) for it, measured "
        f"{beyond['measured']:.3f} ({beyond['error']:+.1%}); best at equal compute: "
        f"{found['compute_optimal_parameters']:,.0f} block parameters"
    )
    return 0


def _write(folder: Path, name: str, found: Mapping[str, Any], drawn: str) -> None:
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (folder / f"{name}.svg").write_text(standalone(drawn), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
