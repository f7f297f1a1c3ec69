"""What an unfinished artifact's attempts began with, kept with its checkpoints.

Until there is a manifest this is all that tells which inputs a stage reads and which code made a
checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from momo_platform.stages.checkpoints import CHECKPOINTS
from momo_platform.stages.storage.artifacts import Storage

FILE_NAME = "begun.json"


@dataclass(frozen=True)
class Begun:
    """`inputs`: (name, fingerprint) of each; `starts`: (step it went on from or None, the code's
    file → sha256), one for every time the code was another."""

    inputs: tuple[tuple[str, str], ...] = ()
    starts: tuple[tuple[int | None, Mapping[str, str]], ...] = field(default=())

    def code_at(self, step: int | None) -> Mapping[str, str] | None:
        """The code that made the checkpoint of a step, or the first of the parts; None where that
        is not known."""
        if step is None:
            return self.starts[0][1] if self.starts else None
        made = [code for began, code in self.starts if began is None or began < step]
        return made[-1] if made else None


def _place(name: str, fingerprint: str) -> str:
    return f"{name}/{fingerprint}/{CHECKPOINTS}/{FILE_NAME}"


def read_begun(storage: Storage, name: str, fingerprint: str) -> Begun:
    """Empty where nothing has begun, or what lies there is not whole."""
    try:
        document: Any = json.loads(storage.files.get(_place(name, fingerprint)) or b"{}")
        return Begun(
            tuple((str(one), str(digest)) for one, digest in document["inputs"]),
            tuple((start["step"], dict(start["code"])) for start in document["starts"]),
        )
    except (ValueError, KeyError, TypeError):
        return Begun()


def note_begin(
    storage: Storage,
    name: str,
    fingerprint: str,
    inputs: Mapping[str, tuple[str, str]],
    code: Mapping[str, str],
    *,
    goes_on: bool = False,
) -> None:
    """An attempt begins, from the newest checkpoint where there is one; `goes_on`: with the parts
    that are there."""
    step = storage.newest_checkpoint(name, fingerprint)
    is_new = step is None and not goes_on
    starts = [] if is_new else list(read_begun(storage, name, fingerprint).starts)
    if not starts or starts[-1][1] != code:
        # Of code that left neither checkpoint nor parts nothing is left.
        starts = [s for s in starts if s[0] is None or (step is not None and s[0] < step)]
        starts.append((step, code))
    document = {
        "inputs": list(inputs.values()),
        "starts": [{"step": at, "code": dict(hashes)} for at, hashes in starts],
    }
    storage.files.put(_place(name, fingerprint), json.dumps(document))
