"""Which names a request may call the endpoint by.

A page of a stranger's can have its own name resolve to 127.0.0.1 once it is loaded (DNS rebinding);
the browser then takes the endpoint for that page's own server and lets it read the answers. The
request's Host header still has the stranger's name. Addresses are no names: nobody can have one
resolve to another.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection


def name_in(header: str) -> str:
    """The name or address in a Host header, without its port."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    name, colon, port = text.rpartition(":")
    return (name if colon and port.isdigit() else text).rstrip(".")


def is_allowed(header: str, allowed: Collection[str]) -> bool:
    """Whether a Host header has a loopback name, an address, or one of `allowed` (`*`: any)."""
    name = name_in(header)
    if name == "localhost" or name.endswith(".localhost") or "*" in allowed:
        return True
    if name in {one.lower().rstrip(".") for one in allowed}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
