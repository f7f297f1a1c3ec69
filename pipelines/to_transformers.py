"""Write an exported model as `transformers` and `sentence-transformers` load it, with a model card
and the code that opens it where this package is not installed.

momo export --model runs/latest/model --output my-model
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from momo_platform.exit_codes import exit_code
from momo_platform.stages import UserError
from pipelines.bundled import BUNDLES
from pipelines.export_engines import add_options, export_engine, is_engine
from pipelines.export_output import CARD, check_output, stated_licence, write_card


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="momo export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--model",
        default="runs/latest/model",
        metavar="FOLDER",
        help="an exported model (default: %(default)s)",
    )
    result.add_argument("--output", required=True, metavar="FOLDER", help="where to write")
    result.add_argument("--name", default="", help="the card's title (default: the output's name)")
    result.add_argument(
        "--licence", default="", metavar="ID", help="of the weights, e.g. apache-2.0"
    )
    add_options(result)
    return result


def read_report(model: Path) -> dict[str, Any]:
    """The metrics of the report beside the model, empty without one. Raises ValueError for JSON
    that is none."""
    file = model.parent / "report" / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def corpora(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each source: its name, licence where known, and rows that were kept."""
    licences = {name: held for bundle in BUNDLES.values() for name, held in bundle.licences.items()}
    return [
        {
            "name": f"{kind}: {name}",
            "licence": licences.get(name),
            "rows": counts.get("kept"),
        }
        for kind, metrics in report.get("corpora", {}).items()
        for name, counts in metrics.get("sources", {}).items()
    ]


def recipe(config: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """Steps of each training stage and the model's shape. `config`: of the export stage, or of a
    folder that this command wrote."""
    from momo.config import exported_shape

    stages = report.get("training", {})
    shape = exported_shape(config)
    own = {k: v for k, v in config.items() if k not in ("model", "origin")}
    if "model" not in config:
        own = {"text_length": config.get("text_length")}
    return (
        {f"steps of {n}": s.get("steps") for n, s in stages.items()}
        | ({f"model.{k}": v for k, v in shape.to_dict().items()} if shape else {})
        | own
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: written; 2: bad input."""
    again = "the same command writes all of it"
    return exit_code(lambda: _export(arguments), again, place="--output")


def _export(arguments: Sequence[str] | None) -> int:
    options = parser().parse_args(arguments)
    folder, output = Path(options.model), Path(options.output)
    engine = is_engine(options)
    check_output(folder, output, options.format)
    if engine:
        export_engine(options, *_facts(folder))
        return _told(output)
    try:
        write_folder(folder, output, options.name, options.licence)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return _told(output)


def _facts(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe and the report beside an exported model. Raises UserError without a model."""
    from momo.export import read_config

    try:
        report = read_report(folder)
        return recipe(read_config(folder), report), report
    except (OSError, ValueError) as error:
        raise UserError(f"--model {folder}: {error}") from error


def _told(output: Path) -> int:
    print(f"{', '.join(sorted(p.name for p in output.iterdir()))} written to {output}")
    return 0


def write_folder(model: Path, output: Path, name: str = "", licence: str = "") -> None:
    """What `momo export` writes of the exported `model` into `output`. `name`: the card's title, by
    default the output's; `licence`: by default what a card beside `model` states. A card that is in
    `output` is kept.

    Raises FileNotFoundError naming what is missing, ValueError for what is no export.
    """
    from momo.hf import export_folder, render_card

    report = read_report(model)
    written = export_folder(model, output)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    card = render_card(
        name or output.resolve().name,
        recipe={"parameters": f"{written.num_parameters():,}"} | recipe(config, report),
        corpora=corpora(report),
        licence=licence or stated_licence(model / CARD),
        tasks=report.get("tasks"),
        origin=config.get("origin") or (),
    )
    write_card(output, card)


if __name__ == "__main__":
    sys.exit(main())
