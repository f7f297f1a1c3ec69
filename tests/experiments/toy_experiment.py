"""An experiment of real sweeps on Ray whose trials are stubs: a stage that scores itself."""

from dataclasses import dataclass, field
from pathlib import Path

from experiments.budget import base_config
from experiments.design import Design
from experiments.run import Experiment
from momo_platform.stages import Stage

ARMS = ("better",)
LOG = "runs.txt"


@dataclass(frozen=True)
class Toy:
    quality: float
    seed: int
    folder: str = field(default="", metadata={"semantic": False})


def score(config, inputs, context):
    with (Path(config.folder) / LOG).open("a") as file:
        file.write(f"{config.quality} {config.seed}\n")
    return {"score": config.quality + 0.01 * config.seed * (1 + config.quality)}


def build(base, history, seed):
    return Stage("toy", score, Toy(history[-1]["quality"], seed, history[-1]["folder"]))


def experiment(folder: Path) -> Experiment:
    """Leaves a line for every stage that runs in `folder`/runs.txt."""
    qualities = {"plain": 0.5, "better": 0.7}
    return Experiment(
        "toy",
        Design(ARMS, "score", margin=0.01),
        lambda _: {n: {"quality": q, "folder": str(folder)} for n, q in qualities.items()},
        equal=False,
        show=(),
        base=lambda _: base_config("smoke"),
        build=build,
    )
