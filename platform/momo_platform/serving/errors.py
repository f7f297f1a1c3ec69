"""What the endpoint answers when it does not embed; the shape and the statuses are OpenAI's."""

from __future__ import annotations

from typing import Any


class ServiceRefusal(Exception):
    """A request that is refused: `status`, a message without paths and traces, for which parameter,
    and a `code` for programs ('': the status's own)."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return error_body(self.status, self.message, self.param, self.code)


_CODES = {
    400: "invalid_request",
    401: "invalid_api_key",
    403: "host_not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    415: "unsupported_media_type",
    503: "overloaded",
    504: "timeout",
}


def error_body(
    status: int, message: str, param: str | None = None, code: str = ""
) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}`, all but `param` strings. What was sent and
    is no Unicode stands in them as question marks."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    code = code or _CODES.get(status, "invalid_request" if status < 500 else "internal_error")
    param = None if param is None else _valid(param)
    return {"error": {"message": _valid(message), "type": kind, "param": param, "code": code}}


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
