"""Checkpoints: weights, optimizer, counters and RNG as safetensors and JSON, manifest last.

Layout of one: `<folder>/step-00000400/` with `{model,optimizer}.safetensors`, `ema.safetensors`
where weights are averaged, `state.json` and `manifest.json`. Tensors are whole, however sharded.
Only a folder whose manifest names its files with their sizes is ever read (ray#41700: files of an
earlier attempt once mixed into a checkpoint); `resume` compares their checksums as well.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from momo_platform.files import sync
from momo_platform.stages.checkpoints import damaged_file, finished
from momo_platform.stages.manifest import sha256_of
from momo_platform.training.average import WeightAverage
from momo_platform.training.parallel import copies_on_host, place_like, whole

MANIFEST = "manifest.json"


def newest_checkpoint(folder: Path) -> tuple[int, Path] | None:
    """The step and folder of the newest whole checkpoint, or None."""
    return next(((s, p) for s, p in finished(folder) if damaged_file(p) is None), None)


def checkpoint_of(folder: Path, step: int) -> Path | None:
    """The whole checkpoint of a step, or None."""
    path = folder / f"step-{step:08d}"
    return path if damaged_file(path) is None else None


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value)


def _tensors(
    module: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None
) -> Iterator[tuple[tuple[str, str], Tensor]]:
    """(file, name) → weights, the optimizer's state by parameter name, averages; as they lie."""
    names: dict[Tensor, str] = {p: n for n, p in module.named_parameters()}
    for name, value in module.state_dict().items():
        yield ("model", name), value
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            yield ("optimizer", f"{names[parameter]}:{key}"), _tensor(value)
    yield ("optimizer", "rng"), torch.get_rng_state()
    for name, value in average.tensors() if average is not None else ():
        yield ("ema", name), value


def _snapshot(
    module: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None
) -> dict[str, dict[str, Tensor]]:
    """Copies on the CPU by file."""
    files: dict[str, dict[str, Tensor]] = {}
    for (file, name), value in copies_on_host(_tensors(module, optimizer, average)).items():
        files.setdefault(file, {})[name] = value
    return files


class CheckpointWriter:
    """Writes in a thread: a step is blocked only for the copy off the device.

    At most one write is under way; a second `save` waits for the first. An error of the thread is
    raised by the next `save` or by `close`. Beside the newest `keep` the one stays that the newest
    one's `state` names as the `best`. With `writes=False` (the ranks above 0) `save` only
    takes its part in gathering.
    """

    def __init__(self, folder: Path, keep: int, writes: bool = True) -> None:
        self._folder, self._keep, self._writes = folder, keep, writes
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(
        self,
        step: int,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: Mapping[str, Any],
        average: WeightAverage | None = None,
    ) -> None:
        """Copy now, write later. Of a sharded module every rank must call this."""
        self.wait()
        if not self._writes:
            for _, value in _tensors(module, optimizer, average):
                whole(value)
            return
        files = _snapshot(module, optimizer, average)
        write = partial(self._write, step, files, dict(state))
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
        self, step: int, files: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any]
    ) -> None:
        target = self._folder / f"step-{step:08d}"
        if target.exists():
            _remove(target)
        target.mkdir(parents=True)
        try:
            for name, tensors in files.items():
                _save_tensors(tensors, target / f"{name}.safetensors")
            (target / "state.json").write_text(
                json.dumps({"step": step, **state}), encoding="utf-8"
            )
            _seal(target, step)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)  # the room of a write that failed
            raise
        self._remove_old(step, state.get("best") or {})

    def _remove_old(self, step: int, best: Mapping[str, Any]) -> None:
        """All but the newest whole ones and the best, and what earlier runs left unfinished."""
        folders = sorted(self._folder.glob("step-*"))
        kept = [p for p in folders if damaged_file(p) is None][-self._keep :]
        if best:
            kept.append(self._folder / f"step-{best['step']:08d}")
        for path in folders:
            if path not in kept and path.name <= f"step-{step:08d}":
                _remove(path)


def _remove(folder: Path) -> None:
    """The manifest first: what is left after a kill is an unfinished checkpoint, no damaged one."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """With the mode of any new file: safetensors renames a private temporary one, of mode 600."""
    file.touch()
    mode = stat.S_IMODE(file.stat().st_mode)
    save_file(dict(tensors), file)
    if stat.S_IMODE(file.stat().st_mode) != mode:
        file.chmod(mode)


def _seal(folder: Path, step: int) -> None:
    """Bring the files to the disk, then the manifest that names them, then the folder's name."""
    files = {p.name: p.stat().st_size for p in sorted(folder.iterdir())}
    for name in files:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    checksums = {name: sha256_of(folder / name) for name in files}
    temporary = folder / (MANIFEST + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "files": files, "sha256": checksums}))
        file.flush()
        os.fsync(file.fileno())
    sync(folder)
    temporary.replace(folder / MANIFEST)
    sync(folder)
    sync(folder.parent)


def load_weights(path: Path, module: nn.Module) -> dict[str, Any]:
    """A checkpoint's weights into a module that is not yet sharded; returns `state.json`."""
    module.load_state_dict(load_file(path / "model.safetensors"))
    return json.loads((path / "state.json").read_text(encoding="utf-8"))


def load_progress(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None = None,
) -> None:
    """The rest of a checkpoint: moments, averages and the generator's state.

    Averages that the checkpoint lacks begin at its weights.
    """
    moments = load_file(path / "optimizer.safetensors")
    torch.set_rng_state(moments.pop("rng"))
    parameters = dict(module.named_parameters())
    for key, value in moments.items():
        name, _, field = key.rpartition(":")
        parameter = parameters[name]
        state = optimizer.state.setdefault(parameter, {})
        cut = value.shape == parameter.shape and field != "step"
        state[field] = place_like(value, parameter) if cut else value.to(parameter.device)
    averages = path / "ema.safetensors"
    if average is not None and averages.exists():
        average.restore(load_file(averages))


def load_finished(path: Path, module: nn.Module) -> None:
    """A checkpoint's weights, the averages where there are some, into a module that is whole."""
    values = load_file(path / "model.safetensors")
    averages = path / "ema.safetensors"
    if averages.exists():
        values |= {n: v for n, v in load_file(averages).items() if n in values}
    module.load_state_dict(values)
