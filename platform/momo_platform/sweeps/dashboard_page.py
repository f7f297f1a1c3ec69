"""The dashboard's page and the small server that renews it. Reads the storage's files only."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import http.server
import json
import posixpath
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from momo_platform.pages import template
from momo_platform.sweeps.overview import Overview, overview

HOST = "127.0.0.1"
_EVERY_SECONDS = 3
# Of the storage's files only reports are served.
_SERVED = re.compile(r"/(sweeps/[\w.-]+|latest)/report/[^/].*")


@dataclass(frozen=True)
class Link:
    """A page and what it shows; no `url`: why there is none."""

    name: str
    url: str
    told: str


def index_page(
    seen: Overview, name: str, links: Sequence[Link], *, has_report: bool, has_latest: bool
) -> str:
    """The page: what goes on, then links; it asks for `/state` every few seconds. `name` is the
    sweep whose pages the links are, '' for none."""
    page = template(Path(__file__).parent, "dashboard.html.jinja")
    return page.render(
        o=seen,
        name=name,
        links=links,
        has_report=has_report,
        has_latest=has_latest,
        every=_EVERY_SECONDS,
    )


def state_page(seen: Overview) -> str:
    """The part of the page that is renewed."""
    return template(Path(__file__).parent, "dashboard_state.html.jinja").render(o=seen)


def _answer(
    path: str, root: Path, folder: Path | None, links: Sequence[Link]
) -> tuple[str, str] | None:
    """Content type and text; None for another path."""
    if path == "/":
        report = Path("report", "index.html")
        name, has_report = "", False
        if folder is not None:
            name, has_report = folder.name, (folder / report).is_file()
        latest = (root / "latest" / report).is_file()
        page = index_page(overview(root), name, links, has_report=has_report, has_latest=latest)
        return "text/html", page
    if path == "/state":
        return "text/html", state_page(overview(root))
    if path == "/state.json":
        return "application/json", json.dumps(dataclasses.asdict(overview(root)))
    return None


@contextlib.contextmanager
def page_server(root: Path, folder: Path | None, port: int, links: list[Link]) -> Iterator[None]:
    """The page at /, its changing part at /state, the same as JSON at /state.json, and reports
    below /sweeps/NAME/report/, /latest/report/ and, of the chosen sweep, /report/."""
    name = folder.name if folder is not None else ""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def _in_report(self) -> bool:
            """Whether a report's file is asked for; its path is then that below the storage."""
            path = posixpath.normpath(urllib.parse.unquote(self.path.partition("?")[0]))
            if name and path.startswith("/report/"):
                path = f"/sweeps/{name}{path}"
            if not _SERVED.fullmatch(path):
                return False
            self.path = urllib.parse.quote(path)
            return True

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
            found = _answer(self.path, root, folder, links)
            if found is None:
                self.send_error(404)
                return
            kind, text = found[0], found[1].encode()
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):  # the page was left meanwhile
                self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Quiet."""

    with _serving(functools.partial(Handler, directory=str(root)), port):
        yield


@contextlib.contextmanager
def _serving(
    handler: Callable[..., http.server.BaseHTTPRequestHandler], port: int
) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer((HOST, port), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
