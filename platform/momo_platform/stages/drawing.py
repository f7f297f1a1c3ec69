"""A graph of artifacts as Mermaid or SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

import networkx as nx

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 170, 44, 50, 18, 20


def mermaid(labels: Mapping[str, str], edges: Sequence[tuple[str, str]]) -> str:
    """A flow chart; `labels` maps a node to its text, of which `\\n` breaks the line."""
    ids = {node: f"n{i}" for i, node in enumerate(labels)}
    lines = ["flowchart LR"]
    for node, text in labels.items():
        quoted = text.replace('"', "'").replace("\n", "<br/>")
        lines.append(f'  {ids[node]}["{quoted}"]')
    lines += [f"  {ids[a]} --> {ids[b]}" for a, b in edges]
    return "\n".join(lines)


def svg(labels: Mapping[str, str], edges: Sequence[tuple[str, str]]) -> str:
    """Boxes in columns, inputs on the left; colours follow the reader's light or dark theme."""
    graph = nx.DiGraph()
    graph.add_nodes_from(labels)
    graph.add_edges_from(edges)
    columns = [sorted(column) for column in nx.topological_generations(graph)]
    place = {
        node: (_MARGIN + x * (_WIDTH + _GAP_X), _MARGIN + y * (_HEIGHT + _GAP_Y))
        for x, column in enumerate(columns)
        for y, node in enumerate(column)
    }
    width = 2 * _MARGIN + len(columns) * (_WIDTH + _GAP_X) - _GAP_X
    height = 2 * _MARGIN + max(map(len, columns), default=1) * (_HEIGHT + _GAP_Y) - _GAP_Y
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="12">',
        "<style>rect{fill:#eef2f7;stroke:#5b6b7f}path{fill:none;stroke:#5b6b7f}text{fill:#1b2733}"
        "@media(prefers-color-scheme:dark){rect{fill:#22303f}text{fill:#e6edf3}}</style>",
    ]
    for a, b in edges:
        x1, y1 = place[a][0] + _WIDTH, place[a][1] + _HEIGHT / 2
        x2, y2 = place[b][0], place[b][1] + _HEIGHT / 2
        middle = (x1 + x2) / 2
        parts.append(f'<path d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"/>')
    for node, text in labels.items():
        x, y = place[node]
        parts.append(f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>')
        for row, line in enumerate(text.split("\n")):
            parts.append(f'<text x="{x + 10}" y="{y + 18 + 16 * row}">{escape(line)}</text>')
    return "\n".join([*parts, "</svg>"])
