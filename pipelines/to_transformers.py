"""Write an exported model as `transformers` loads it, with a model card.

python pipelines/to_transformers.py --model runs/latest/model --output my-model
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
    return result


def measured(model: Path) -> dict[str, Any]:
    """The tasks of the report beside the model, empty without one."""
    file = model.parent / "report" / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8"))["tasks"] if file.is_file() else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: written; 2: bad input."""
    options = parser().parse_args(arguments)
    folder, output = Path(options.model), Path(options.output)
    from momo.hf import from_exported, render_card

    try:
        model, processor = from_exported(folder)
        tasks = measured(folder)
        output.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    model.save_pretrained(output)
    processor.save_pretrained(output)
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    recipe = {k: v for k, v in written.items() if k != "model"}
    recipe |= {"parameters": f"{model.num_parameters():,}", **written["model"]}
    name = options.name or output.resolve().name
    card = render_card(name, recipe=recipe, licence=options.licence, tasks=tasks)
    (output / "README.md").write_text(card, encoding="utf-8")
    print(f"{', '.join(sorted(p.name for p in output.iterdir()))} written to {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
