"""Counters of all replicas in one answer: a scrape reaches one of them, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import generate_latest


def of_this_process() -> str:
    """As Prometheus reads them."""
    return generate_latest().decode()


def merged(by_replica: Mapping[str, str]) -> str:
    """Expositions of replicas → one, each sample with the label `replica`; a metric's lines stand
    together, as the format asks."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for replica, text in by_replica.items():
        metric = ""
        for line in text.splitlines():
            if line.startswith("#"):
                metric = line.split(" ", 3)[2]
                head = heads.setdefault(metric, [])
                if line not in head:
                    head.append(line)
            elif line:
                samples.setdefault(metric, []).append(_labelled(line, replica))
    lines = [line for metric, head in heads.items() for line in (*head, *samples.get(metric, ()))]
    return "\n".join([*lines, ""])


def _labelled(line: str, replica: str) -> str:
    """A sample's line with the label."""
    name, brace, rest = line.partition("{")
    if brace:
        return f'{name}{{replica="{replica}",{rest}'
    name, _, value = line.partition(" ")
    return f'{name}{{replica="{replica}"}} {value}'
