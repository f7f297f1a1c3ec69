"""Write what the newest `make demo` reached into README.md, and its record into docs/demo.json.

    python scripts/record_demo.py [runs/latest]

The table stands between two comments in the README; the record has commit, machine and date.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from momo_platform.machine import machine_description
from momo_platform.stages.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "docs" / "demo.json"
MARKS = "<!-- results: written by scripts/record_demo.py -->", "<!-- end of results -->"
SHOWN = {
    "demo/mnist": ("MNIST", "linear probe accuracy"),
    "demo/emoji_category": ("emoji category", "linear probe accuracy, split by concept"),
    "demo/movie_sentiment": ("movie-review sentiment", "fine-tuned accuracy"),
    "demo/image_to_text": ("image → text retrieval", "zero-shot R@10, held-out concepts"),
    "demo/text_to_image": ("text → image retrieval", "zero-shot R@10, held-out concepts"),
    "demo/easy_vqa": ("easy-VQA", "fine-tuned accuracy"),
}
FIELDS = (
    "metric",
    "value",
    "low",
    "high",
    "n",
    "chance",
    "baseline",
    "baseline_method",
    "untrained",
)


def record(folder: Path) -> dict:
    """The numbers of a finished job with what made them."""
    numbers = json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))
    manifest = read_manifest(folder.resolve().parent)
    assert manifest is not None
    return {
        "command": "make demo",
        "commit": manifest.git_commit,
        "date": manifest.created[:10],
        "machine": machine_description(),
        "training_seconds": {n: m["seconds_training"] for n, m in numbers["training"].items()},
        "validation_seconds": {n: m["seconds_validating"] for n, m in numbers["training"].items()},
        "stages": {
            stage: {task: row["value"] for task, row in summary["tasks"].items()}
            for stage, summary in numbers["stages"].items()
        },
        "tasks": {
            task: {name: row[name] for name in FIELDS} for task, row in numbers["tasks"].items()
        },
    }


def table(found: dict) -> str:
    """A row a task; bold where the whole interval is better than baseline and untrained model."""
    first, second, _ = found["stages"].values()
    lines = [
        "| task | metric | after stage 1 | stage 2 | stage 3 (95 %) | untrained | baseline |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, (name, metric) in SHOWN.items():
        row = found["tasks"][task]
        untrained = row["untrained"]
        better = row["low"] > max(row["baseline"], untrained or 0.0)
        value = f"**{row['value']:.3f}**" if better else f"{row['value']:.3f}"
        cells = [
            name,
            metric,
            f"{first[task]:.3f}",
            f"{second[task]:.3f}",
            f"{value} ({row['low']:.3f}–{row['high']:.3f})",
            "–" if untrained is None else f"{untrained:.3f}",
            f"{row['baseline']:.3f} {row['baseline_method']}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_table(readme: str, found: dict) -> str:
    """The README with the record's table between its marks."""
    begin, end = map(re.escape, MARKS)
    block = f"{MARKS[0]}\n{table(found)}\n{MARKS[1]}"
    changed, count = re.subn(f"{begin}.*?{end}", lambda _: block, readme, flags=re.S)
    assert count == 1, "README.md: the marks of the results are gone"
    return changed


def main() -> int:
    """Exit code 0."""
    found = record(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/latest"))
    RECORD.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
