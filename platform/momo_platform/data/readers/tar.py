"""WebDataset shards: plain tars whose consecutive members of one basename are a sample.

A shard is walked header by header, as a stream; pictures are skipped here and read later, in Ray
tasks, by their place in it. Nothing is ever extracted, so a member's name can't write anywhere.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from momo_platform.data.columns import IMAGE_NAMES, TEXT_NAMES
from momo_platform.data.encodings import to_utf8
from momo_platform.data.filesystems import READ_BYTES, BlockFile, filesystem_of
from momo_platform.data.images import EXTENSIONS, LARGEST_FILE
from momo_platform.data.listing import FileRef, SpanRef, first, make_row
from momo_platform.data.readers.base import Corpus, Document, Reader, Share, a_file_each
from momo_platform.data.text import LONGEST_LINE, BadText, decode_captions, parse_json

_BLOCK = 512
_BUFFER = 2**20
_LARGEST_HEADER = 2**16
_SPARSE_MORE = 482  # the byte of a GNU sparse header that says whether it goes on
_LARGEST_JSON = 2**20
_TEXTS = ("txt", "caption")
_PICTURES = tuple(e.removeprefix(".") for e in EXTENSIONS)
_MAGIC = {b"\x1f\x8b": "gzip", b"PK": "zip", b"BZ": "bzip2", b"\x28\xb5": "zstd", b"\xfd7": "xz"}


class BadTar(ValueError):
    """Where a tar can't be read any further: the reason, and the member that is not whole."""

    def __init__(self, reason: str, member: str = "") -> None:
        super().__init__(reason)
        self.member = member


@dataclass(frozen=True)
class Member:
    """A file in a tar: its name, bytes in it that are no UTF-8 escaped, and the place of its bytes.
    `regular` is False for links; the bytes of a `sparse` one are not those of the file."""

    name: str
    offset: int
    size: int
    regular: bool = True
    sparse: bool = False


@dataclass
class Sample:
    """Members of one key by their extension, lower case, without the first dot."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    reason: str | None = None


def _pax(raw: bytes) -> dict[str, str]:
    """The records of a pax header: `<length> <name>=<value>\\n` each. Raises BadTar."""
    records = {}
    while raw.rstrip(b"\0"):
        length, space, _ = raw.partition(b" ")
        if not space or not length.isdigit() or not len(length) < int(length[:9]) <= len(raw):
            raise BadTar("a damaged pax header")
        name, _, value = raw[len(length) + 1 : int(length)].rstrip(b"\n").partition(b"=")
        records[name.decode("utf-8", "backslashreplace")] = value.decode(
            "utf-8", "backslashreplace"
        )
        raw = raw[int(length) :]
    return records


def _zeros_only(file: BlockFile | io.BytesIO) -> bool:
    """Whether the rest of a file is padding."""
    while chunk := file.read(_BUFFER):
        if chunk.count(0) < len(chunk):
            return False
    return True


def walk(file: BlockFile | io.BytesIO, total: int) -> Iterator[Member]:
    """Members of a tar of `total` bytes that are whole, in order. Raises BadTar where it breaks."""
    place, pending = 0, {}
    while place < total:
        file.seek(place)
        block = file.read(_BLOCK)
        if len(block) == _BLOCK and not any(block):
            if _zeros_only(file):
                return
            raise BadTar(
                "bytes after the end of the archive, perhaps another one that was appended; they "
                "are not read: pack its files into one tar"
            )
        try:
            # Not `tarfile.open`: it reads headers of any size and keeps all members in memory.
            info = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
        except (tarfile.HeaderError, ValueError) as error:
            kind = next((k for magic, k in _MAGIC.items() if block.startswith(magic)), None)
            if place == 0 and kind:
                raise BadTar(f"not a plain tar but {kind}: decompress it") from error
            what = "not a tar" if place == 0 else f"damaged at byte {place}; the rest is lost"
            raise BadTar(what) from error
        if "size" in pending and info.type not in (tarfile.XHDTYPE, tarfile.XGLTYPE):
            if not pending["size"].isdigit() or len(pending["size"]) > 18:
                raise BadTar("a damaged pax header")
            info.size = int(pending["size"])
        name = pending.get("path", info.name)
        start, stored = place + _BLOCK, info.size if info.isreg() or info.size > 0 else 0
        if info.size < 0 or start + stored > total:
            raise BadTar(f"truncated in {name[:200]}", name)
        more = info.type == tarfile.GNUTYPE_SPARSE and block[_SPARSE_MORE]
        while more:  # a header goes on in further blocks
            start += _BLOCK
            more = file.read(_BLOCK)[-8:-7] == b"\1"
        place = start + -(-stored // _BLOCK) * _BLOCK
        if info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
            if stored > _LARGEST_HEADER:
                raise BadTar(f"a header of {stored} bytes at byte {start}; the rest is lost")
            raw = file.read(stored)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                pending["path"] = raw.rstrip(b"\0").decode("utf-8", "backslashreplace")
            elif info.type == tarfile.XHDTYPE:
                pending |= _pax(raw)
            continue
        sparse = info.type == tarfile.GNUTYPE_SPARSE or any("GNU.sparse" in n for n in pending)
        name, pending = pending.get("GNU.sparse.name", name), {}
        if not info.isdir():
            regular = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
            yield Member(name, start, stored, regular or sparse, sparse)


def _samples(members: Iterator[Member], skipped: Callable[[str], None]) -> Iterator[Sample]:
    """Samples in order; what breaks the tar, and members of no use, come with a reason. `skipped`
    is given the names of members that belong to none."""
    sample, seen, told = Sample(""), set(), False
    try:
        for member in members:
            folder, base = posixpath.split(member.name.removeprefix("./"))
            stem, dot, extension = base.partition(".")
            reason = None
            if base.startswith(".") or not dot:  # macOS's ._ files, a README
                skipped(member.name[:200])
                continue
            if member.name.startswith("/") or ".." in folder.split("/") or "\0" in member.name:
                reason = "the member's name leads out of the tar"
            elif not member.regular:
                reason = "the member is a link or device, not a file"
            elif member.sparse:
                reason = "the member is stored sparse; pack the tar without --sparse"
            key, extension = posixpath.join(folder, stem), extension.lower()
            if reason is None and key == sample.key and extension not in sample.members:
                sample.members[extension] = member
                continue
            if sample.members:
                yield sample
                sample = Sample("")
            if reason:
                told = True
                yield Sample(member.name[:200], reason=reason)
                continue
            sample = Sample(key, {extension: member})
            if key in seen:
                sample.reason = "duplicate key: the tar has a sample of this name already"
            seen.add(key)
    except BadTar as error:
        its_own = error.member.removeprefix("./").startswith(f"{sample.key}.")
        if sample.members and not its_own:
            yield sample
        yield Sample(sample.key if its_own else "", reason=str(error))
        return
    if sample.members:
        yield sample
    elif not seen and not told:
        yield Sample("", reason="the tar holds no sample")


def samples(
    filesystem: pafs.FileSystem, path: str, skipped: Callable[[str], None] = lambda name: None
) -> Iterator[tuple[Sample, BlockFile]]:
    """Samples of a tar, each with the open file to read its members from."""
    try:
        opened = filesystem.open_input_file(path)
    except PermissionError as error:
        none = BlockFile(pa.BufferReader(b""), _BLOCK)
        yield Sample("", reason=f"the tar can't be read: {error}"), none
        return
    with opened:
        local = isinstance(filesystem, pafs.LocalFileSystem)
        file = BlockFile(opened, _BUFFER if local else READ_BYTES)
        if file.size == 0:
            yield Sample("", reason="the tar is empty"), file
            return
        for sample in _samples(walk(file, file.size), skipped):
            yield sample, file


def _read(file: BlockFile, member: Member, largest: int) -> bytes:
    if member.size > largest:
        raise BadText(f"the member is larger than {largest >> 20} MB: {member.name[:200]}")
    file.seek(member.offset)
    return file.read(member.size)


def _values(sample: Sample, file: BlockFile) -> dict[str, Any]:
    """Caption, label, split and group of a sample. Raises BadText."""
    values: dict[str, Any] = {}
    if member := sample.members.get("json"):
        parsed = parse_json(to_utf8(_read(file, member, _LARGEST_JSON)))
        if isinstance(parsed, str):
            raise BadText(parsed.replace("the line", f"{member.name[:200]}"))
        values = {k: v for k, v in parsed.items() if k not in IMAGE_NAMES}
    if member := next((sample.members[e] for e in _TEXTS if e in sample.members), None):
        values["caption"] = decode_captions(_read(file, member, _LARGEST_JSON))
    if member := sample.members.get("cls"):
        values["label"] = _read(file, member, _LARGEST_HEADER).decode("utf-8", "replace").strip()
    return values


def _pictures(sample: Sample) -> list[Member]:
    """A sample's pictures; the first is the one that is read."""
    return [sample.members[e] for e in _PICTURES if e in sample.members]


class Tar(Reader):
    """A row is a sample: its picture, and its caption, label and split out of .txt, .cls, .json."""

    pictures = texts = hashed = (".tar",)
    packed = True

    def units(self, corpus: Corpus, paths: Sequence[str]) -> Sequence[Share]:
        return a_file_each(corpus, paths)

    def list(self, corpus: Corpus, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
        for path in paths:
            shard = corpus.relative(path)

            def skipped(name: str, shard: str = shard) -> None:
                hidden = posixpath.basename(name).startswith(".")
                reason = "hidden" if hidden else "not read: files without an ending"
                corpus.ignored.add(reason, f"{shard}:{name}")

            for sample, file in samples(filesystem_of(corpus.uri), path, skipped):
                key = f"{shard}:{sample.key}" if sample.key else shard
                for other in _pictures(sample)[1:]:
                    reason = "a second picture of one sample"
                    corpus.ignored.add(reason, f"{shard}:{other.name[:200]}")
                yield _row(sample, file, corpus, path, key)

    def documents(self, place: Mapping[str, Any]) -> Iterator[Document]:
        for sample, file in samples(filesystem_of(place["root"]), place["path"]):
            text, split, reason = None, "", sample.reason
            try:
                if not reason and (member := sample.members.get("json")):
                    parsed = parse_json(to_utf8(_read(file, member, LONGEST_LINE)))
                    if isinstance(parsed, str):
                        raise BadText(parsed.replace("the line", member.name[:200]))
                    text, split = first(parsed, TEXT_NAMES), str(parsed.get("split") or "")
                if not reason and (member := sample.members.get("txt")):
                    text = to_utf8(_read(file, member, LONGEST_LINE)).decode("utf-8")
            except BadText as error:
                reason = str(error)
            except UnicodeDecodeError:
                reason = "the member is not UTF-8"
            if not isinstance(text, str):
                text, reason = None, reason or "the sample has no text"
            yield Document(sample.key, text, split, reason)


def _row(sample: Sample, file: BlockFile, corpus: Corpus, path: str, key: str) -> dict[str, Any]:
    reason, values, place = sample.reason, {}, FileRef(corpus.uri, path)
    picture = next(iter(_pictures(sample)), None)
    try:
        values = {} if reason else _values(sample, file)
    except BadText as error:
        reason = str(error)
    if picture is None:
        reason = reason or f"the sample has no picture: {', '.join(sample.members)[:200]}"
    elif picture.size > LARGEST_FILE:
        reason = reason or f"the picture is larger than {LARGEST_FILE >> 20} MB"
    else:
        place = SpanRef(corpus.uri, path, picture.offset, picture.size)
    row = make_row(corpus.name, key, values, corpus.uri, picture=place)
    if corpus.kind.needs("caption") and row["captions"] == [""]:
        reason = reason or "the sample has no caption"
    return row | {"reason": reason or row["reason"]}


READER = Tar()
