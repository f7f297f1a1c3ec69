"""Files on their own: pictures, `name.txt` beside `name.jpg`, and text with a document a line."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from momo_platform.data.class_folders import splits_and_labels
from momo_platform.data.filesystems import read_files
from momo_platform.data.images import EXTENSIONS
from momo_platform.data.listing import make_row
from momo_platform.data.readers.base import Corpus, Document, Reader
from momo_platform.data.readers.line_ranges import line_ranges, lines_of
from momo_platform.data.text import LONGEST_CAPTION, LONGEST_LINE, BadText, decode_captions

TEXT = ".txt"
NO_CAPTION = "no caption lies beside the picture"


class PlainFiles(Reader):
    """Pictures have a label, and perhaps a split, where they lie in a folder a class."""

    pictures, texts, hashed = EXTENSIONS, (TEXT,), (TEXT,)

    def list(self, corpus: Corpus, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
        captioned = corpus.kind.needs("caption")
        texts = {p[: -len(TEXT)]: p for p in corpus.files if p.lower().endswith(TEXT)}
        keys = [corpus.relative(path) for path in paths]
        beside = [texts.get(posixpath.splitext(path)[0]) for path in paths]
        places = ((corpus.uri, path) for path in beside if path and captioned)
        captions = read_files(places, 4 * LONGEST_CAPTION + 1)
        known = zip(paths, keys, splits_and_labels(keys), beside, strict=True)
        for path, key, (split, label), text_path in known:
            values: dict[str, Any] = {"image": path, "group": key, "split": split, "label": label}
            reason = None
            corpus.used.update([text_path] if text_path else ())
            if text_path and captioned:
                try:
                    values["caption"] = decode_captions(next(captions)())
                except BadText as error:
                    reason = str(error)
                except PermissionError as error:
                    reason = f"the caption can't be read: {error}"
            row = make_row(corpus.name, key, values, corpus.uri)
            if not text_path:
                row["no_caption"] = NO_CAPTION
            yield row | {"reason": reason or row["reason"]}

    def places(self, corpus: Corpus, paths: Sequence[str]) -> Sequence[dict[str, Any]]:
        return [place for path in paths for place in line_ranges(corpus, path)]

    def documents(self, place: Mapping[str, Any]) -> Iterator[Document]:
        try:
            for number, raw in lines_of(place):
                if raw.strip():
                    yield _document(number, raw)
        except PermissionError as error:
            yield Document("", None, reason=f"the file can't be read: {error}")


def _document(number: str, raw: bytes) -> Document:
    try:
        line = raw.decode("utf-8")
    except UnicodeDecodeError:
        return Document(number, None, reason="the line is not UTF-8")
    if len(line) > LONGEST_LINE // 4:
        return Document(number, None, reason=f"longer than {LONGEST_LINE // 4} characters")
    return Document(number, line)


READER = PlainFiles()
