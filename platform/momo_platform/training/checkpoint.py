"""Checkpoints: weights, optimizer, counters and RNG as safetensors and JSON, manifest last.

Layout of one: `<folder>/step-00000400/{model,optimizer}.safetensors, state.json, manifest.json`.
Only a folder whose manifest names its files with their sizes is ever read (ray#41700: files of an
earlier attempt once mixed into a checkpoint).
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MANIFEST = "manifest.json"


def newest_checkpoint(folder: Path) -> tuple[int, Path] | None:
    """The step and folder of the newest whole checkpoint, or None."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        manifest = path / MANIFEST
        if not manifest.exists():
            continue
        files = json.loads(manifest.read_text())["files"]
        if all((path / n).exists() and (path / n).stat().st_size == s for n, s in files.items()):
            return int(path.name.removeprefix("step-")), path
    return None


def _snapshot(
    module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copies on the CPU of all weights and of the optimizer's state, by parameter name."""
    model = {n: t.detach().cpu().clone() for n, t in module.state_dict().items()}
    names: dict[Tensor, str] = {p: n for n, p in module.named_parameters()}
    state = {
        f"{names[p]}:{key}": torch.as_tensor(value).detach().cpu().clone()
        for p, values in optimizer.state.items()
        for key, value in values.items()
    }
    return model, state


class CheckpointWriter:
    """Writes in a thread: a step is blocked only for the copy off the device.

    At most one write is under way; a second `save` waits for the first. An error of the thread is
    raised by the next `save` or by `close`.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(
        self,
        step: int,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: Mapping[str, Any],
    ) -> None:
        self.wait()
        model, moments = _snapshot(module, optimizer)
        moments["rng"] = torch.get_rng_state()
        write = partial(self._write, step, model, moments, dict(state))
        self._thread = threading.Thread(target=self._run, args=(write,), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    close = wait

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:  # noqa: BLE001 - handed to the training thread by wait()
            self._error = error

    def _write(
        self,
        step: int,
        model: dict[str, Tensor],
        moments: dict[str, Tensor],
        state: dict[str, Any],
    ) -> None:
        target = self._folder / f"step-{step:08d}"
        if target.exists():
            shutil.rmtree(target)
        target.mkdir(parents=True)
        save_file(model, target / "model.safetensors")
        save_file(moments, target / "optimizer.safetensors")
        (target / "state.json").write_text(json.dumps({"step": step, **state}))
        files = {p.name: p.stat().st_size for p in sorted(target.iterdir())}
        for name in files:
            with (target / name).open("rb") as file:
                os.fsync(file.fileno())
        temporary = target / (MANIFEST + ".tmp")
        temporary.write_text(json.dumps({"step": step, "files": files}))
        temporary.replace(target / MANIFEST)
        whole = sorted(p for p in self._folder.glob("step-*") if (p / MANIFEST).exists())
        for old in whole[: -self._keep]:
            shutil.rmtree(old)


def restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load a checkpoint into a module and its optimizer; returns `state.json`."""
    module.load_state_dict(load_file(path / "model.safetensors"))
    moments = load_file(path / "optimizer.safetensors")
    torch.set_rng_state(moments.pop("rng"))
    parameters = dict(module.named_parameters())
    for key, value in moments.items():
        name, _, field = key.rpartition(":")
        parameter = parameters[name]
        state = optimizer.state.setdefault(parameter, {})
        state[field] = value.to(parameter.device)
    return json.loads((path / "state.json").read_text())
