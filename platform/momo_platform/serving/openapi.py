"""The OpenAPI document, as what is answered: keys, and 400 in place of FastAPI's 422."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

OPEN = {"/", "/docs", "/openapi.json", "/healthz", "/readyz"}
"""Paths that ask for no key, and those below /static/."""


def needs_key(path: str) -> bool:
    """Where there are keys at all."""
    return path not in OPEN and not path.startswith("/static/")


def describe(app: FastAPI, has_keys: bool) -> None:
    """Give `app` its document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, has_keys)
        return app.openapi_schema

    app.openapi = document


def _document(app: FastAPI, has_keys: bool) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    parts = found.setdefault("components", {})
    parts["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "A key of --keys FILE."}
    }
    for name in ("HTTPValidationError", "ValidationError"):
        parts.get("schemas", {}).pop(name, None)
    for path, calls in found["paths"].items():
        for call in calls.values():
            call["responses"].pop("422", None)
            if needs_key(path):
                call["security"] = [{"key": []}] if has_keys else [{}, {"key": []}]
    return found
