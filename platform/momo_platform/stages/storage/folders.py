"""An attempt's folders as a training worker gets them, on whatever machine it runs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from momo_platform.stages.errors import UserError


def check_seen(folder: Path) -> None:
    """Raise UserError on a machine that does not see a folder which the driver made."""
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not there on {socket.gethostname()}: give a --storage that all "
            "machines share, a mounted folder or a bucket (s3://…, gs://…)"
        )


class Folders(NamedTuple):
    """`output` of the attempt; `checkpoints` that attempts share."""

    output: Path
    checkpoints: Path


class WorkerFolders(Protocol):
    """Pickled to the workers."""

    def open(self, *, writes: bool) -> AbstractContextManager[Folders]:
        """This process's folders, checkpoints as they were left last. What a process with `writes`
        leaves there is kept: its output when it ends well, its whole checkpoints as they come."""
        ...

    def collect(self) -> None:
        """In the stage's task, when all workers have ended: have their output in its own folder."""
        ...


@dataclass(frozen=True)
class SharedFolders:
    """Folders that every machine sees under one path."""

    output: Path
    checkpoints: Path

    @contextmanager
    def open(self, *, writes: bool) -> Iterator[Folders]:
        """As they are. Raises UserError on a machine that does not see them."""
        check_seen(self.output)
        yield Folders(self.output, self.checkpoints)

    def collect(self) -> None:
        """Nothing to do: it is the same folder."""
