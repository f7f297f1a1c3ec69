"""Real processes in a gloo group."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _enter(
    rank: int, world_size: int, store: str, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=world_size)
    function(rank, world_size, *arguments)
    dist.barrier()
    # Not by the interpreter's end: whatever still holds the group there (DDP, autograd's graph)
    # lets gloo's threads run into it, and the process aborts once in some hundred times.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def run_ranks(function: Callable[..., Any], world_size: int, *arguments: Any) -> None:
    """`function(rank, world_size, *arguments)` in so many processes; returns when all are done.

    Raises what the first failing rank raised. Results go through files or a manager.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        mp.spawn(_enter, (world_size, store, function, arguments), nprocs=world_size)
