"""Write what the newest `make demo` reached into README.md, and its record into docs/demo.json.

    python scripts/record_demo.py [runs/latest]

The table stands between two comments in the README; the record has commit, machine and date. The
demo is one training, so its intervals are the test sample's; beside them stand the smallest and the
largest value of six seeds (`pipelines/report/seeds.py`).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from momo_platform.machine import machine_description
from momo_platform.stages.manifest import FILE_NAME
from momo_platform.stages.storage.artifacts import read_manifest
from momo_platform.stages.storage.local import LocalFiles
from pipelines.report.seeds import SPREAD

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "docs" / "demo.json"
MARKS = "<!-- results: written by scripts/record_demo.py -->", "<!-- end of results -->"
SHOWN = {
    "demo/mnist": ("MNIST", "linear probe accuracy"),
    "demo/emoji_category": ("emoji category", "linear probe accuracy"),
    "demo/movie_sentiment": ("movie-review sentiment", "fine-tuned accuracy"),
    "demo/image_to_text": ("image → text retrieval", "zero-shot R@10"),
    "demo/text_to_image": ("text → image retrieval", "zero-shot R@10"),
    "demo/easy_vqa": ("easy-VQA", "fine-tuned accuracy"),
}
COVERS = (
    "95 %: the test sample alone, of one seed; six seeds: "
    "[shorter trainings](docs/findings.md#means-and-seeds)."
)
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
    manifest = read_manifest(LocalFiles(folder.resolve().parent), FILE_NAME)
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
    """A row a task, then what the intervals cover; bold where the whole interval of the test sample
    is above baseline and untrained model."""
    first, second, _ = found["stages"].values()
    lines = [
        "| task | after stage 1 | stage 2 | stage 3 (95 %) | six seeds | untrained | baseline |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, (name, metric) in SHOWN.items():
        row = found["tasks"][task]
        untrained = row["untrained"]
        better = row["low"] > max(row["baseline"], untrained or 0.0)
        value = f"**{row['value']:.3f}**" if better else f"{row['value']:.3f}"
        cells = [
            f"{name}, {metric}",
            f"{first[task]:.3f}",
            f"{second[task]:.3f}",
            f"{value} ({row['low']:.3f}–{row['high']:.3f})",
            "{:.3f}–{:.3f}".format(*SPREAD[task]),
            "–" if untrained is None else f"{untrained:.3f}",
            f"{row['baseline']:.3f} {row['baseline_method']}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", COVERS])


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
