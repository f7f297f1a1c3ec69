"""`--ingest ray`: the same batches, made by Ray Data tasks anywhere in the cluster.

The dataset is this worker's own list of steps; a task makes whole batches as the local loader
does, so both give identical arrays, and a resume starts at the counter. (Ray Data's own iterators
can't be restored in the middle of an epoch: ray#37633, #48224.)
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pyarrow as pa
from safetensors.numpy import load, save

MakeBatch = Callable[[int, int], dict[str, Any]]  # of a step, and the end of a task's steps
_STEPS_A_TASK = 4
_STEPS_A_DATASET = 4096
_ARRAYS, _FACTS = "arrays", "facts"


@lru_cache(maxsize=4)
def _loaded(pickled: bytes) -> MakeBatch:
    """Once a process: what it has read for one task serves the next one too."""
    return pickle.loads(pickled)


def _make(table: pa.Table, make_batch: bytes, start: int) -> pa.Table:
    """Steps (column `id`) → their batches in a Ray task: arrays as safetensors bytes, the rest
    pickled, with the names in their order."""
    arrays, facts = [], []
    steps = [start + int(step) for step in table["id"].to_pylist()]
    for step in steps:
        batch = _loaded(make_batch)(step, steps[-1] + 1)
        kept = {n: np.ascontiguousarray(v) for n, v in batch.items() if isinstance(v, np.ndarray)}
        arrays.append(save(kept))
        facts.append(pickle.dumps({n: None if n in kept else v for n, v in batch.items()}))
    binary = pa.large_binary()
    return pa.table({_ARRAYS: pa.array(arrays, binary), _FACTS: pa.array(facts, binary)})


def stream_steps(
    make_batch: MakeBatch, start: int, prefetch: int, cpus: float = 0.5
) -> Iterator[dict[str, Any]]:
    """Batches of steps `start`, `start` + 1, … in order. `make_batch` must be picklable and find
    its shards on every machine; each task takes `cpus`."""
    import ray
    from ray import cloudpickle

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    pickled = cloudpickle.dumps(make_batch)  # pyright: ignore[reportPrivateImportUsage]
    while True:
        blocks = _STEPS_A_DATASET // _STEPS_A_TASK
        make: Any = _make
        dataset = ray.data.range(_STEPS_A_DATASET, override_num_blocks=blocks).map_batches(
            make,
            fn_kwargs={"make_batch": pickled, "start": start},
            batch_format="pyarrow",
            batch_size=_STEPS_A_TASK,
            num_cpus=cpus,
        )
        rows = dataset.iter_batches(batch_format="pyarrow", batch_size=1, prefetch_batches=prefetch)
        for row in rows:
            packed = cast("pa.Table", row).to_pylist()[0]
            yield pickle.loads(packed[_FACTS]) | load(packed[_ARRAYS])
        start += _STEPS_A_DATASET
