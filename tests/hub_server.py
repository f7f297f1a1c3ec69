"""A stand-in for the hub of Hugging Face: one revision of data sets that lie in folders. It answers
what `datasets` and `huggingface_hub` ask when they list and read a set, and counts it."""

import hashlib
import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHA = "0123456789abcdef0123456789abcdef01234567"
_API = re.compile(r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/[^/?]+)?(/[^?]*)?")
_FILE = re.compile(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/([^?]+)")


class HubServer(ThreadingHTTPServer):
    """`folder/<user>/<set>` are its data sets. `read`: by file the (start, stop) that were asked
    for; `tokens`: those that came with requests."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.read, self.tokens = folder, dict[str, list[tuple[int, int]]](), set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, *_):
        pass

    def _send(self, status, raw=b"", **headers):
        self.send_response(status)
        known = {"Content-Length": str(len(raw)), "X-Repo-Commit": SHA}
        for name, value in (known | {n.replace("_", "-"): v for n, v in headers.items()}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def _json(self, document):
        self._send(200, json.dumps(document).encode(), Content_Type="application/json")

    def _missing(self, code="EntryNotFound"):
        self._send(404, b"{}", X_Error_Code=code, Content_Type="application/json")

    def _entry(self, root, path):
        name = str(path.relative_to(root))
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": SHA}
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        size = path.stat().st_size
        lfs = {"oid": checksum, "size": size, "pointerSize": 130}
        return {"type": "file", "path": name, "size": size, "oid": SHA, "lfs": lfs}

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["Content-Length"])).decode()
        match = _API.fullmatch(urllib.parse.unquote(self.path))
        form = self.headers["Content-Type"].startswith("application/x-www-form-urlencoded")
        asked = urllib.parse.parse_qs(raw).get("paths", []) if form else json.loads(raw)["paths"]
        asked = [asked] if isinstance(asked, str) else asked
        root = self.server.folder / match[1]
        self._json([self._entry(root, root / p) for p in asked if (root / p).exists()])

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.tokens.add(self.headers.get("Authorization"))
        address = urllib.parse.unquote(self.path.partition("?")[0])
        query = urllib.parse.parse_qs(self.path.partition("?")[2])
        if match := _API.fullmatch(address):
            root = self.server.folder / match[1]
            if not root.is_dir():
                return self._missing("RepoNotFound")
            if match[2] == "tree":
                folder = root / (match[3] or "").strip("/")
                if not folder.is_dir():
                    return self._missing()
                deep = query.get("recursive", ["false"])[0].lower() in ("true", "1")
                found = sorted(folder.rglob("*") if deep else folder.iterdir())
                return self._json([self._entry(root, path) for path in found])
            files = [str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()]
            siblings = [{"rfilename": name} for name in files]
            return self._json({"id": match[1], "sha": SHA, "siblings": siblings, "tags": []})
        match = _FILE.fullmatch(address)
        file = match and self.server.folder / match[1] / match[2]
        if not file or not file.is_file():
            return self._missing()
        raw = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        start, stop = (int(asked[1]), min(int(asked[2]) + 1, len(raw))) if asked else (0, len(raw))
        if self.command == "GET":
            self.server.read.setdefault(match[2], []).append((start, stop))
        span = {"Content_Range": f"bytes {start}-{stop - 1}/{len(raw)}"} if asked else {}
        self._send(206 if asked else 200, raw[start:stop], ETag=f'"{SHA}"', **span)
        return None
