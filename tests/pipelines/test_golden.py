"""Golden fingerprints and configs of every preset: an accidental change shows in a diff.

`MOMO_UPDATE_GOLDEN=1 python -m pytest tests/pipelines/test_golden.py` writes them anew; look at the
diff before you commit it, since every changed fingerprint means work done again by users.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from momo_platform.stages import canonical, fingerprint
from pipelines.config import RunOptions
from pipelines.graph import build_graph
from pipelines.presets import PRESETS

GOLDEN = Path(__file__).parent / "golden"


def document(name):
    config = replace(PRESETS[name](), run=RunOptions(plan=True))
    known = {}
    graph = build_graph(config)
    for stage in graph.values():
        fingerprint(stage, known)
    return {"fingerprints": known, "config": canonical(config)}


@pytest.mark.parametrize("name", list(PRESETS))
def test_preset_is_what_it_was(name):
    file = GOLDEN / f"{name}.json"
    text = json.dumps(document(name), indent=1, sort_keys=True) + "\n"
    if os.environ.get("MOMO_UPDATE_GOLDEN"):
        file.write_text(text)
    assert json.loads(file.read_text()) == json.loads(text), (
        f"preset {name} changed; if it was meant: MOMO_UPDATE_GOLDEN=1, and say so in the changelog"
    )
