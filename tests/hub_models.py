"""A stand-in for the hub of Hugging Face that takes commits of models and gives them back."""

import base64
import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "0123456789abcdef0123456789abcdef01234567"
_API = re.compile(r"/api/models/([^/]+/[^/?]+)(?:/(revision|preupload|commit|tree)/[^/?]+)?")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)")


class ModelHub(ThreadingHTTPServer):
    """`files`: by repository the bytes of each file; `private`: those that are; `token`: the only
    one that may write; `commits`: how many files each brought."""

    def __init__(self, token: str = "hf_writer") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = token
        self.files, self.private, self.commits = {}, set(), []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: ModelHub

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

    def _json(self, document, status=200, **headers):
        raw = json.dumps(document).encode()
        self._send(status, raw, Content_Type="application/json", **headers)

    def do_POST(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urllib.parse.unquote(self.path)
        if address == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._json({"error": "you may not write"}, 403)
        if address == "/api/repos/create":
            return self._create(json.loads(raw))
        repo, what = _API.match(address).groups()
        if what == "preupload":
            names = [file["path"] for file in json.loads(raw)["files"]]
            rows = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            return self._json({"files": rows})
        assert what == "commit"
        rows = [json.loads(line) for line in raw.splitlines()]
        files = {
            row["value"]["path"]: base64.b64decode(row["value"]["content"])
            for row in rows
            if row["key"] == "file"
        }
        self.server.files[repo] |= files
        self.server.commits.append(len(files))
        commit = f"{self.server.address}/{repo}/commit/{SHA}"
        return self._json({"commitUrl": commit, "commitOid": SHA})

    def _create(self, asked):
        repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
        there = repo in self.server.files
        if not there:
            self.server.files[repo] = {}
            if asked.get("visibility") == "private" or asked.get("private"):
                self.server.private.add(repo)
        url = f"{self.server.address}/{repo}"
        self._json({"url": url, "id": repo, "name": repo}, 409 if there else 200)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        address = urllib.parse.unquote(self.path.partition("?")[0])
        if match := _API.fullmatch(address):
            repo = match[1]
            if repo not in self.server.files:
                return self._json({}, 404, X_Error_Code="RepoNotFound")
            names = sorted(self.server.files[repo])
            private = repo in self.server.private
            siblings = [{"rfilename": name} for name in names]
            if match[2] == "tree":
                rows = [{"type": "file", "path": n, "oid": SHA, "size": 1} for n in names]
                return self._json(rows)
            return self._json(
                {"id": repo, "sha": SHA, "private": private, "siblings": siblings, "tags": []}
            )
        match = _FILE.fullmatch(address)
        raw = match and self.server.files.get(match[1], {}).get(match[2])
        if raw is None:
            return self._json({}, 404, X_Error_Code="EntryNotFound")
        etag = f'"{abs(hash(raw)):x}"'
        return self._send(200, raw, ETag=etag)
