"""A worker process for tests: prints a digest and the rows of each of its batches as JSON.

batches_process.py ROOT[|PATH] WORLD_SIZE RANK START STOP [thread|processes|ray]
"""

import hashlib
import json
import sys
from itertools import islice

import numpy as np

from momo_platform.data.dataset import ShardDataset
from momo_platform.data.loader import Loader
from momo_platform.data.order import uniform
from momo_platform.stages.storage.place import Place

GLOBAL_BATCH = 48


def tagged(table, seeds):
    """Row numbers, and noise that depends on each sample's seed."""
    ids = np.array(table["id"].to_pylist(), dtype=np.int64)
    return {"id": ids, "noise": uniform(seeds, 8)}


def batches(folder, world, rank, start, stop, how="thread"):
    loader = Loader(
        ShardDataset(Place(*str(folder).split("|"))),
        tagged,
        global_batch_size=GLOBAL_BATCH,
        rank=rank,
        world_size=world,
        seed=5,
        prefetch=3,
        processes=2 if how == "processes" else 0,
        ingest="ray" if how == "ray" else "local",
    )
    found = list(islice(loader.iterate(start), stop - start))
    loader.close()
    order = [loader._rows(step)[0] for step in range(start, stop)]
    return [
        {
            "digest": hashlib.sha256(b["id"].tobytes() + b["noise"].tobytes()).hexdigest(),
            "rows": [
                [int(i), int(e), float(n)]
                for i, e, n in zip(b["id"], epochs, b["noise"][:, 0], strict=True)
            ],
        }
        for b, epochs in zip(found, order, strict=True)
    ]


if __name__ == "__main__":
    folder, *numbers = sys.argv[1:6]
    print(json.dumps(batches(folder, *map(int, numbers), *sys.argv[6:])))
