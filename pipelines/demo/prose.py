"""Text for the demo: Wikipedia articles, API documentation, movie-review snippets."""

from __future__ import annotations

import bz2
import gzip
import html
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

_DROP = [
    re.compile(r"<!--.*?-->", re.S),
    re.compile(r"<ref[^>]*/>"),
    re.compile(r"<ref.*?</ref>", re.S),
    re.compile(r"<(math|gallery|timeline|source|code)[^>]*>.*?</\1>", re.S),
    re.compile(r"\{\|.*?\|\}", re.S),
]
_INNERMOST_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_FILE_LINK = re.compile(r"\[\[(?:File|Image|Category):[^\[\]]*(?:\[\[[^\[\]]*\]\][^\[\]]*)*\]\]")
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")
_URL_LINK = re.compile(r"\[\w+://\S+\s?([^\]]*)\]")
_TAG = re.compile(r"<[^>]+>")
_SPACE = re.compile(r"\s+")


def plain_text(wikitext: str) -> list[str]:
    """Paragraphs of at least 80 characters, without markup, tables, references and headings."""
    text = html.unescape(wikitext)
    for pattern in _DROP:
        text = pattern.sub(" ", text)
    previous = None
    while previous != text:
        previous, text = text, _INNERMOST_TEMPLATE.sub("", text)
    text = _FILE_LINK.sub("", text)
    text = _URL_LINK.sub(r"\1", _LINK.sub(r"\1", text))
    text = _TAG.sub(" ", text).replace("'''", "").replace("''", "")
    lines = (_SPACE.sub(" ", line).strip(" *#:;") for line in text.splitlines())
    return [line for line in lines if len(line) >= 80 and not line.startswith(("=", "|", "{", "!"))]


def wikipedia(package: Path) -> Iterator[str]:
    """Paragraphs of the articles that gensim's test data holds (CC-BY-SA)."""
    with zipfile.ZipFile(package) as archive:
        name = next(n for n in archive.namelist() if "enwiki-latest-pages-articles1" in n)
        root = ElementTree.fromstring(bz2.decompress(archive.read(name)))
    for element in root.iter():
        if element.tag.rpartition("}")[2] == "text" and element.text:
            yield from plain_text(element.text)


def _strings(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "documentation" and isinstance(value, str):
                yield value
            else:
                yield from _strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value)


def documentation(package: Path, character_limit: int) -> Iterator[str]:
    """Distinct documentation strings of at least 80 characters, services in order of name.

    Every service gives at most its even share of `character_limit`, since the corpus repeats
    itself more inside a service than across services.
    """
    seen: set[str] = set()
    with zipfile.ZipFile(package) as archive:
        services = sorted(n for n in archive.namelist() if n.endswith("/service-2.json.gz"))
        share = character_limit // max(1, len(services))
        for service in services:
            used = 0
            for raw in _strings(json.loads(gzip.decompress(archive.read(service)))):
                text = _SPACE.sub(" ", html.unescape(_TAG.sub(" ", raw))).strip()
                if len(text) < 80 or text[:60] in seen:
                    continue
                seen.add(text[:60])
                used += len(text)
                if used > share:
                    break
                yield text
