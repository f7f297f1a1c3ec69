"""A replica's application of the toy model without Ray, asked without HTTP."""

import asyncio
import base64
import io
import json

from PIL import Image
from toy_encoder import ToyEncoder, ToyReader

from momo_platform.serving.config import Limits, ServingConfig
from momo_platform.serving.encoder import Loaders
from momo_platform.serving.replica import Replica
from momo_platform.serving.routes import api

EDGE = "edge"
JSON = {"content-type": "application/json"}
FORM = {"content-type": f"multipart/form-data; boundary={EDGE}"}
LOADERS = Loaders(ToyEncoder, ToyReader)


def png(red, side=3):
    file = io.BytesIO()
    Image.new("RGB", (side, side), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


def uri(red):
    """A red picture as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png(red)).decode()


def form(*fields):
    """A form's body of (name, value)."""
    parts = [
        f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        + (b'; filename="f"' if isinstance(value, bytes) else b"")
        + b"\r\n\r\n"
        + (value if isinstance(value, bytes) else value.encode())
        + b"\r\n"
        for name, value in fields
    ]
    return b"".join(parts) + f"--{EDGE}--\r\n".encode()


async def answered(app, method, path, raw=b"", headers=None):
    """(status, headers, bytes)."""
    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {"type": "http", "http_version": "1.1", "method": method, "path": path}
    scope |= {"headers": pairs, "query_string": b"", "root_path": ""}
    sent = []

    bodies = [{"type": "http.request", "body": raw, "more_body": False}]

    async def receive():
        if not bodies:
            await asyncio.Event().wait()  # the connection stays open
        return bodies.pop()

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:])


async def ask(app, path, body, **headers):
    """(status, JSON) of a POST; `body` a value, or a form's bytes."""
    is_form = isinstance(body, bytes)
    raw = body if is_form else json.dumps(body).encode()
    given = (FORM if is_form else JSON) | headers
    status, _, content = await answered(app, "POST", path, raw, given)
    return status, json.loads(content)


def replica_with(**options):
    """A replica with its model."""
    found = Replica(LOADERS, ServingConfig("here", threads=3, **options))
    asyncio.run(found.load({"model": "here"}, "cpu"))
    return found


def post(replica, path, body, **headers):
    """`ask` of a replica."""
    return asyncio.run(ask(api(replica), path, body, **headers))


def request(replica, method, path, raw=b"", **headers):
    """`answered` of a replica."""
    return asyncio.run(answered(api(replica), method, path, raw, headers))


def small(**limits):
    """Limits that tests reach."""
    return Limits(**{"items": 4, "request_characters": 100} | limits)
