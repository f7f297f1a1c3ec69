"""`make dashboard`: the live pages of a sweep on this machine, and one page that leads to them."""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from momo_platform.cluster import answers, current_cluster_file
from momo_platform.pages import template
from momo_platform.stages import UserError, open_storage
from momo_platform.sweeps.follow import TENSORBOARD
from momo_platform.sweeps.study import STUDY

HOST = "127.0.0.1"
RAY_URL = "ray-dashboard.url"
"""In a sweep's folder: where its private Ray's dashboard was."""
_START_SECONDS = 60.0
_LARGEST_PORT = 65_000


@dataclass(frozen=True)
class DashboardOptions:
    """Which sweep, and where its pages go. Everything listens on 127.0.0.1 only."""

    sweep: str = ""
    """The sweep's name; by default the newest."""
    storage: str = "runs"
    """The folder that the sweep ran with."""
    port: int = 8090
    """Of the first page; the others take the next ports. A port in use is passed over."""
    optuna: str = ""
    """Optuna's storage, where the sweep was given one."""


@dataclass(frozen=True)
class Link:
    """A page and what it shows; no `url`: why there is none."""

    name: str
    url: str
    told: str


def sweeps_in(storage: str) -> Path:
    """The folder of all sweeps of a storage."""
    uri = open_storage(storage).uri
    return (Path(uri) if "://" not in uri else Path("runs").absolute()) / "sweeps"


def chosen(options: DashboardOptions) -> Path:
    """The sweep's folder. Raises UserError that lists what there is."""
    root = sweeps_in(options.storage)
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
    folder = chosen(options)
    study = options.optuna or f"sqlite:///{folder / STUDY}"
    with contextlib.ExitStack() as stack:
        optuna = _free_port(options.port + 1)
        command = [_tool("optuna-dashboard"), study, "--host", HOST, "--port", str(optuna)]
        stack.enter_context(_process(command, optuna, folder))
        board = _free_port(optuna + 1)
        logs = folder / TENSORBOARD
        logs.mkdir(exist_ok=True)
        command = [_tool("tensorboard"), "--logdir", str(logs), "--host", HOST]
        command += ["--port", str(board), "--reload_interval", "5"]
        stack.enter_context(_process(command, board, folder))
        links = [
            Link("Optuna", f"http://{HOST}:{optuna}/", "trials, values, importance; live"),
            Link("TensorBoard", f"http://{HOST}:{board}/", "losses of every trial; live"),
            _ray(folder),
            _wandb(folder),
        ]
        first = _free_port(options.port)
        stack.enter_context(_index(folder, first, links))
        yield [Link(f"Sweep {folder.name}", f"http://{HOST}:{first}/", "all pages"), *links]


@contextlib.contextmanager
def _process(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """A server, started and awaited; its own output goes to the sweep's logs."""
    log = folder / "logs" / f"{Path(command[0]).name}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.time() + _START_SECONDS
        while not answers(f"{HOST}:{port}"):
            if process.poll() is not None or time.time() > deadline:
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
            return Link("Weights & Biases", "https://wandb.ai/home", f"project momo, {folder.name}")
    offline = sorted((folder / "wandb").glob("offline-run-*"))
    told = f"not logged in; {len(offline)} offline runs"
    if offline:
        told += f": `wandb login`, then `wandb sync {folder / 'wandb'}/offline-run-*`"
    else:
        told += ": run the sweep with --wandb"
    return Link("Weights & Biases", "", told)


@contextlib.contextmanager
def _index(folder: Path, port: int, links: list[Link]) -> Iterator[None]:
    """The page of all pages, and the sweep's report below /report/."""
    page = template(Path(__file__).parent, "dashboard.html.jinja")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def _in_report(self) -> bool:
            """Whether a file of the report is asked for; its path is then that below the report."""
            found = self.path.startswith("/report/")
            if found:
                self.path = self.path.removeprefix("/report")
            return found

        def do_HEAD(self) -> None:
            if self._in_report():
                super().do_HEAD()
            else:
                self.send_error(404)

        def list_directory(self, path: object) -> None:
            self.send_error(404)

        def do_GET(self) -> None:
            if self._in_report():
                super().do_GET()
                return
            if self.path != "/":
                self.send_error(404)
                return
            has_report = (folder / "report" / "index.html").is_file()
            text = page.render(name=folder.name, links=links, has_report=has_report).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Quiet."""

    handler = functools.partial(Handler, directory=str(folder / "report"))
    server = http.server.ThreadingHTTPServer((HOST, port), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main(arguments: list[str] | None = None) -> int:
    """Serve until Ctrl-C."""
    import tyro

    options = tyro.cli(DashboardOptions, args=arguments, description=__doc__)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends its servers too
    try:
        with serve(options) as links:
            for link in links:
                print(f"{link.name}: {link.url or link.told}", flush=True)
            print("Ctrl-C ends all of them", flush=True)
            if os.environ.get("DISPLAY") or sys.platform == "darwin":
                import webbrowser

                webbrowser.open(links[0].url)
            threading.Event().wait()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
