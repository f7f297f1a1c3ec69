"""`make dashboard`: a page of all that goes on in a storage, and the live pages of one sweep."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from momo_platform.application import NAME
from momo_platform.cluster import answers, current_cluster_file
from momo_platform.exit_codes import exit_code
from momo_platform.stages import UserError, open_storage
from momo_platform.sweeps.dashboard_page import HOST, Link, page_server
from momo_platform.sweeps.folder import RAY_URL, TENSORBOARD, sweeps_folder
from momo_platform.sweeps.study import STUDY

_START_SECONDS = 60.0
_LARGEST_PORT = 65_000


@dataclass(frozen=True)
class DashboardOptions:
    """Which storage, and where the pages go. Everything listens on 127.0.0.1 only."""

    sweep: str = ""
    """Whose Optuna and TensorBoard pages to start; by default the newest."""
    storage: str = "runs"
    """The folder of the runs and sweeps."""
    port: int = 8090
    """Of the first page; the others take the next ports. A port in use is passed over."""
    optuna: str = ""
    """Optuna's storage, where the sweep was given one."""


def chosen(options: DashboardOptions) -> Path:
    """The sweep's folder. Raises UserError that lists what there is."""
    root = sweeps_folder(open_storage(options.storage))
    names = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    if not names:
        raise UserError(
            f"{root}: no sweeps yet; run an experiment first, e.g. "
            "python experiments/objectives.py, or name its folder with --storage"
        )
    if options.sweep and options.sweep not in names:
        raise UserError(f"--sweep {options.sweep}: none of {', '.join(names)} in {root}")
    if options.sweep:
        return root / options.sweep
    return max((root / name for name in names), key=lambda p: p.stat().st_mtime)


def _has_runs(root: Path) -> bool:
    return (root / "latest").exists() or any((root / "logs").glob("*.json"))


def _free_port(start: int) -> int:
    for port in range(start, min(start + 200, 65_536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise UserError(f"--port {start}: no free port in the 200 from there on; give another")


def _tool(name: str) -> str:
    """A program of this environment. Raises UserError when it is not installed."""
    found = Path(sys.executable).with_name(name)
    path = str(found) if found.exists() else shutil.which(name)
    if path is None:
        raise UserError(f"{name} is not installed here: run `make setup`")
    return path


@contextlib.contextmanager
def serve(options: DashboardOptions) -> Iterator[list[Link]]:
    """All pages, up; ended on leaving. The first link is the page that leads to the others."""
    if not 1024 <= options.port <= _LARGEST_PORT:
        raise UserError(f"--port {options.port}: give 1024 to {_LARGEST_PORT}, pages take the next")
    storage = open_storage(options.storage)
    root, sweeps = storage.local_root, sweeps_folder(storage)
    only_runs = not options.sweep and not any(sweeps.glob("*/")) and _has_runs(root)
    folder = None if only_runs else chosen(options)
    with contextlib.ExitStack() as stack:
        port, links = options.port + 1, []
        if folder is not None:
            port = _free_port(port)
            study = options.optuna or f"sqlite:///{folder / STUDY}"
            command = [_tool("optuna-dashboard"), study, "--host", HOST, "--port", str(port)]
            stack.enter_context(_process(command, port, folder))
            told = "trials, values, importance; live"
            links.append(Link("Optuna", f"http://{HOST}:{port}/", told))
        board = _free_port(port + 1)
        logs = root if folder is None else folder / TENSORBOARD
        logs.mkdir(exist_ok=True)
        command = [_tool("tensorboard"), "--logdir", str(logs), "--host", HOST]
        command += ["--port", str(board), "--reload_interval", "5" if folder else "30"]
        stack.enter_context(_process(command, board, folder or root))
        told = "losses of every trial; live" if folder else "what runs logged to TensorBoard"
        links += [
            Link("TensorBoard", f"http://{HOST}:{board}/", told),
            _ray(folder or root),
            _wandb(folder or root),
        ]
        first = _free_port(options.port)
        stack.enter_context(page_server(root, folder, first, links))
        told = f"runs and sweeps of {root}"
        yield [Link("Dashboard", f"http://{HOST}:{first}/", told), *links]


@contextlib.contextmanager
def _process(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """A server, started and awaited; its own output goes to the sweep's logs."""
    log = folder / "logs" / f"{Path(command[0]).name}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not answers(f"{HOST}:{port}"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"{Path(command[0]).name} did not start, see {log}")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


def _ray(folder: Path) -> Link:
    told = "Ray's own dashboard: start the sweep with --dashboard, or `ray start --head` first"
    for file in (folder / RAY_URL, current_cluster_file()):
        if not file.is_file():
            continue
        address = file.read_text(encoding="utf-8").strip()
        address = address if file.name == RAY_URL else f"{HOST}:8265"
        if answers(address):
            return Link("Ray", f"http://{address}/", "tasks, actors, logs of the cluster")
    return Link("Ray", "", told)


def _wandb(folder: Path) -> Link:
    if importlib.util.find_spec("wandb") is not None:
        import wandb

        if wandb.api.api_key:
            told = f"project {NAME}, {folder.name}"
            return Link("Weights & Biases", "https://wandb.ai/home", told)
    offline = sorted((folder / "wandb").glob("offline-run-*"))
    told = f"not logged in; {len(offline)} offline runs"
    if offline:
        told += f": `wandb login`, then `wandb sync {folder / 'wandb'}/offline-run-*`"
    else:
        told += ": run the sweep with --wandb"
    return Link("Weights & Biases", "", told)


def main(arguments: list[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    return exit_code(lambda: _main(arguments), "nothing is lost")


def _main(arguments: list[str] | None) -> int:
    import tyro

    options = tyro.cli(
        DashboardOptions, args=arguments, prog=f"{NAME} dashboard", description=__doc__
    )
    try:
        with serve(options) as links:
            for link in links:
                print(f"{link.name}: {link.url or link.told}", flush=True)
            print("Ctrl-C ends all of them", flush=True)
            if os.environ.get("DISPLAY") or sys.platform == "darwin":
                import webbrowser

                webbrowser.open(links[0].url)
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
