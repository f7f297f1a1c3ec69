"""A process of its own for a preparation on a private Ray with so many CPUs: `python -m … FOLDER
CPUS`. Prints the number of Ray's CPUs and the digest of each file, as JSON."""

import hashlib
import json
import sys
from pathlib import Path

from preparing import Folder

from momo_platform.cluster import start_ray
from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.config import PrepareConfig, SourceConfig
from momo_platform.data.quality.config import QualityConfig
from momo_platform.data.quality.filters import OfLanguages
from momo_platform.data.quality.select import select_rows
from pipelines.modalities.pair import run_prepare_pair
from pipelines.modalities.text import run_prepare_text


def main(sources: Path, cpus: int, output: Path) -> None:
    import ray

    with start_ray("local", num_cpus=cpus):
        found = int(ray.cluster_resources()["CPU"])
        pairs, texts, kept = (Folder(output / name) for name in ("pairs", "texts", "kept"))
        tars = (SourceConfig("tars", str(sources / "tars")),)
        config = PrepareConfig(tars, held_out=0.1, bucket_bytes=20_000)
        run_prepare_pair(config, {}, pairs.context)
        lines = (SourceConfig("lines", str(sources / "lines.txt")),)
        config = PrepareConfig(lines, held_out=0.1, bucket_bytes=20_000)
        run_prepare_text(config, {}, texts.context)
        quality = QualityConfig("text", ("en",), 0.8)
        filters = [OfLanguages("text", ("en",))]
        select_rows(quality, PreparedRows(texts.path), kept.context, filters)
    made = {
        f"{folder.path.name}/{name}": hashlib.sha256(raw).hexdigest()
        for folder in (pairs, texts, kept)
        for name, raw in folder.files().items()
    }
    print(json.dumps({"cpus": found, "files": made}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
