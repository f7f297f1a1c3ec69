"""Tasks from the command line: `--tasks NAME=FOLDER_OR_TABLE[:PROTOCOL]`. Light: no torch.

What the data has decides the protocol where none is named:

| data | columns, or layout | protocols, the first by default |
|---|---|---|
| pictures with labels | image, label; or `<class>/<picture>` | probe, fine-tune, zero-shot |
| texts with labels | text, label | fine-tune, probe |
| pairs | image, caption; or `name.jpg` beside `name.txt` | retrieval |
| questions about pictures | image, question, answer | vqa |
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from momo_platform.data.class_folders import splits_and_labels
from momo_platform.data.columns import CAPTION_NAMES, IMAGE_NAMES, TEXT_NAMES, wrong_separator
from momo_platform.data.filesystems import is_hidden, list_files, open_place
from momo_platform.data.listing import named
from momo_platform.data.look import columns_of
from momo_platform.data.readers import reader_of, with_pictures
from momo_platform.data.readers.base import Corpus
from momo_platform.data.readers.tables import Tables
from momo_platform.data.sources import identify
from momo_platform.stages import UserError
from pipelines.evaluation.datasets import DataSet
from pipelines.evaluation.protocol import Given, Protocol
from pipelines.evaluation.protocols import protocols
from pipelines.evaluation.tasks import AUTO, EvaluationTask, suites
from pipelines.modalities import IMAGE, MODALITIES

_EPOCHS = 5


@dataclass(frozen=True)
class Holding:
    """What a place may hold, in words; what it needs for that; the tasks' group; the protocol where
    none is named; what its files are listed as."""

    data: str
    needed: str
    group: str
    protocol: str
    listed: str = "image"


HOLDINGS = {
    "classes": Holding(
        "pictures with labels",
        "the columns image and label, or a folder a class",
        "image",
        "linear_probe",
    ),
    "texts": Holding(
        "texts with labels", "the columns text and label", "text", "fine_tune", "text"
    ),
    "pairs": Holding(
        "pairs",
        "the columns image and caption, or name.jpg beside name.txt",
        "multimodal",
        "retrieval",
    ),
    "questions": Holding(
        "questions about pictures",
        "the columns image, question and answer",
        "multimodal",
        "fine_tune",
    ),
}
_ANY = "; ".join(f"{held.data} ({held.needed})" for held in HOLDINGS.values())


def given_tasks(entries: Sequence[str]) -> tuple[EvaluationTask, ...]:
    """The tasks of those entries that are `NAME=PLACE[:PROTOCOL]`; looks at the data's listing.

    Raises UserError for a place that is not there or fits no protocol and for a name that is taken.
    """
    tasks = [_task(entry) for entry in entries if "=" in entry]
    names = [task.name for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"--tasks: two tasks are named {', '.join(twice)}; give each its own name")
    return tuple(tasks)


def _task(entry: str) -> EvaluationTask:
    name, _, rest = entry.partition("=")
    name = name.strip()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"--tasks {entry}: the name {name!r} may hold letters, digits, . _ - only")
    if name in (AUTO, *suites()):
        raise UserError(f"--tasks {entry}: {name} is a suite's name; give the task another")
    uri, word = _parts(entry, rest.strip())
    field_name = f"--tasks {name}="
    held, columns = _held(uri, field_name)
    fitting = [kind for kind in held if not word or word in _fitting(kind)]
    if not fitting:
        able = sorted({w for kind in held for w in _fitting(kind)})
        wanted = " or ".join(h.needed for k, h in HOLDINGS.items() if word in _fitting(k))
        has = f"; what is there fits {', '.join(able)}" if able else ""
        if columns:
            has += f"; it has {', '.join(columns)!r}{wrong_separator(columns)}"
        needs = wanted if word else _ANY
        raise UserError(f"{named(field_name, uri)}: {word or 'a task'} needs {needs}{has}")
    kind = fitting[0]
    words = _fitting(kind)
    protocol, asked = words[word or next(iter(words))]
    how = "divided" if protocol.trains else "all"
    uri = uri if "://" in uri else str(Path(uri).expanduser().absolute())
    digest = identify(uri, field_name, MODALITIES[HOLDINGS[kind].listed].kind)
    data = DataSet(f"given-{name}", f"{kind}:{how}", uri, "yours", uri=uri, digest=digest)
    return EvaluationTask(
        name,
        HOLDINGS[kind].group,
        data.name,
        protocol.name,
        protocol.metric,
        _EPOCHS,
        baseline=asked.baseline,
        given=data,
    )


def _fitting(kind: str) -> dict[str, tuple[Protocol, Given]]:
    """The protocols that take what holds `kind`, by word; the first where none is named."""
    first = HOLDINGS[kind].protocol
    known = sorted(protocols(), key=lambda protocol: protocol.name != first)
    found: dict[str, tuple[Protocol, Given]] = {}
    for protocol, given in ((p, g) for p in known for g in p.given if g.holds == kind):
        if given.word in found:
            taken = f"{found[given.word][0].name} and {protocol.name}"
            raise ValueError(f"{taken} both take {kind} by the word {given.word!r}: rename one")
        found[given.word] = protocol, given
    return found


def _words() -> list[str]:
    """Of all protocols."""
    return list(dict.fromkeys(word for kind in HOLDINGS for word in _fitting(kind)))


def _parts(entry: str, rest: str) -> tuple[str, str]:
    """The place and the protocol's word, or nothing."""
    place, colon, word = rest.rpartition(":")
    if colon and place and word in _words():
        return place, word
    if not rest:
        raise UserError(f"--tasks {entry}: give a folder or table behind the equals sign")
    there, before = (Path(p).expanduser().exists() for p in (rest, place or "/none"))
    if colon and before and not there:
        near = difflib.get_close_matches(word, _words(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"--tasks {entry}: no protocol {word!r}; {hint}There are {', '.join(_words())}"
        )
    return rest, ""


def _held(uri: str, field_name: str) -> tuple[list[str], Sequence[str]]:
    """What a place holds, the likeliest first: names in HOLDINGS; and the columns of a table."""
    place = named(field_name, uri)
    if reader_of(uri):
        raise UserError(
            f"{place}: data sets of the hub's library can't be named here; save it as "
            "Parquet (Dataset.to_parquet) and give that file"
        )
    files = list_files(uri, field_name, f"give {_ANY}")
    _, root = open_place(uri)
    paths = [file.path for file in files if not is_hidden(file.path, root)]
    corpus = Corpus("given", uri, IMAGE.kind, paths)
    reader, found = with_pictures(corpus) or (None, [])
    if reader and reader.packed:
        row = next(reader.list(corpus, found[:1]))
        held = ["classes"] * bool(row["label"]) + ["pairs"] * any(row["captions"])
        return held, ()
    if isinstance(reader, Tables):
        table = found[0]
        columns = columns_of(uri, table, named(field_name, table))
        if columns == ():
            raise UserError(f"{place}: {table} has no row that can be read; give one with some")
        return _by_columns(columns or ()), columns or ()
    names = [posixpath.relpath(path, root) for path in paths]
    pictures = [posixpath.relpath(path, root) for path in found]
    beside = {posixpath.splitext(n)[0] for n in names if n.lower().endswith(".txt")}
    labelled = pictures and all(label for _, label in splits_and_labels(pictures))
    captioned = any(posixpath.splitext(n)[0] in beside for n in pictures)
    return ["pairs"] * captioned + ["classes"] * bool(labelled), ()


def _by_columns(columns: Iterable[str]) -> list[str]:
    names = set(columns)
    image, label = bool(names & set(IMAGE_NAMES)), "label" in names
    found = []
    if image and "question" in names and names & {"answer", "answers"}:
        found.append("questions")
    if image and label:
        found.append("classes")
    if image and names & set(CAPTION_NAMES):
        found.append("pairs")
    if not image and label and names & set(TEXT_NAMES):
        found.append("texts")
    return found
