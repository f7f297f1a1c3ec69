"""`momo COMMAND …`: each command is the `main` of a module, imported when it is called."""

from __future__ import annotations

import difflib
import importlib
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from momo_platform.exit_codes import exit_code
from pipelines.commands.short_help import help_asked

_COMMANDS = {
    "plan": ("pipelines.full", "show what `train` would run, why, and what it costs"),
    "train": ("pipelines.full", "corpora, training, evaluation, export and report"),
    "evaluate": ("pipelines.evaluate", "run tasks on any model, beside others"),
    "embed": ("pipelines.embed", "vectors and similarities of texts and pictures"),
    "index": ("pipelines.index", "embed a corpus for search"),
    "serve": ("pipelines.serve", "an endpoint with embeddings, and a page"),
    "export": ("pipelines.to_transformers", "write a model for transformers, with a card"),
    "push": ("pipelines.push", "put a model on the Hugging Face hub"),
    "artifacts": ("momo_platform.stages.command_line", "list, show, compare, check, delete"),
    "sweep": ("", "run an experiment: arms, seeds, intervals"),
    "dashboard": ("momo_platform.sweeps.dashboard", "live pages of sweeps and runs"),
}
_EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
_HELP = ("-h", "--help")


def overview() -> str:
    """What `momo --help` shows."""
    wide = 2 + max(map(len, _COMMANDS))
    lines = [
        "usage: momo COMMAND [OPTIONS]",
        "",
        "One compact encoder for texts, pictures and pairs, trained on your own data.",
        "",
        *(f"  {name:<{wide}}{told}" for name, (_, told) in _COMMANDS.items()),
        "",
        "    momo train                                the demo: real corpora, about ten minutes",
        "    momo train --pair.source captions.csv    your own pictures with captions",
        '    momo embed --text "a red apple" --image apple.png',
        "",
        "momo COMMAND --help shows a command's options.",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes as `momo_platform.exit_codes` says."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return exit_code(lambda: _main(given), "the same command goes on where it was")


def _main(given: list[str]) -> int:
    if not given or given[0] in (*_HELP, "help", "--help-all"):
        print(overview())
        return 0
    name, rest = given[0], given[1:]
    if name not in _COMMANDS:
        near = ["sweep"] if name.startswith("experiment") else []
        near += difflib.get_close_matches(name, _COMMANDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        known = ", ".join(_COMMANDS)
        print(f"error: momo {name}: no such command; {hint}There are {known}", file=sys.stderr)
        return 2
    if name == "sweep":
        return _sweep(rest)
    if name == "plan":
        from pipelines.commands.help_pages import TRAIN

        if help_asked("plan", TRAIN, rest):
            return 0
        rest = [*rest, "--plan"]
    return int(importlib.import_module(_COMMANDS[name][0]).main(rest) or 0)


def _names() -> list[str]:
    """Experiments that come with the platform."""
    files = sorted(_EXPERIMENTS.glob("*.py"))
    return [f.stem for f in files if "EXPERIMENT = " in f.read_text(encoding="utf-8")]


def _sweep(arguments: list[str]) -> int:
    from pipelines.commands.help_pages import SWEEP

    names = _names()
    if not arguments or arguments[0] in _HELP:
        print(SWEEP.text("sweep NAME"))
        return 0
    if arguments[0] == "--list":
        for name in names:
            print(f"{name:<20}{_purpose(_EXPERIMENTS / f'{name}.py')}")
        return 0
    name, *rest = arguments
    file = _EXPERIMENTS / f"{name}.py" if name in names else Path(name).expanduser()
    if (
        not file.is_file()
        or file.suffix != ".py"
        or "EXPERIMENT" not in file.read_text(encoding="utf-8")
    ):
        near = difflib.get_close_matches(file.stem, names, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        told = (
            "no such experiment, and no Python file with one (EXPERIMENT = Experiment(…), as those "
            f"in experiments/); {hint}the name comes first, then options; `momo sweep --list` "
            "shows all"
        )
        print(f"error: momo sweep {name}: {told}", file=sys.stderr)
        return 2
    before = sys.argv
    sys.argv = [str(file), *rest]
    try:
        runpy.run_path(str(file), run_name="__main__")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    finally:
        sys.argv = before
    return 0


def _purpose(file: Path) -> str:
    """The first line of a module's docstring."""
    return file.read_text(encoding="utf-8").partition('"""')[2].partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
