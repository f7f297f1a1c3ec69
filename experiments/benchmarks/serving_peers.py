"""What `serving.py` measures beside the endpoint, each in its process: the model, a plain app."""

from __future__ import annotations

import base64
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_SENTENCE = (
    "a red apple lies on the wooden table near an open window while two small cats look at the "
    "green tree that stands behind the old house and a man in the blue coat walks slowly home"
)


def workload(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Items of the endpoint: half short texts, a quarter long ones, a quarter pictures (PNG)."""
    draw = np.random.default_rng(seed)
    items: list[dict[str, Any]] = []
    for i in range(count):
        if i % 4 == 3:
            raw = draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            file = io.BytesIO()
            Image.fromarray(raw).resize((160, 120)).save(file, "PNG")
            items.append({"image": base64.b64encode(file.getvalue()).decode()})
        else:
            length = int(draw.integers(40, 120)) if i % 4 == 2 else int(draw.integers(2, 10))
            items.append({"text": " ".join(draw.choice(_SENTENCE.split(), length))})
    draw.shuffle(items)  # type: ignore[arg-type]
    return items


def make_model(folder: str, size: str) -> None:
    """An exported model of that size, weights at random."""
    from dataclasses import replace

    from momo.config import SIZES
    from momo.export import save
    from momo.model import build_model
    from momo.tokenizer import train_wordpiece

    tokenizer = train_wordpiece([_SENTENCE] * 5, 400)
    config = replace(SIZES[size], vocab_size=tokenizer.get_vocab_size())
    facts = {"artifact": f"random/{size}"}
    save(build_model(config, seed=0), Path(folder), tokenizer.to_str(), facts)


class Peer:
    """The model without our endpoint."""

    def __init__(self, folder: str, threads: int) -> None:
        import torch  # here: the process that sends the requests needs none

        import momo

        torch.set_num_threads(threads)
        self.model = momo.load(folder, "cpu")  # as the endpoint, which is given no GPU

    def embed(self, items: Sequence[dict[str, Any]]) -> np.ndarray:
        """Texts of similar length together, then pictures, as one would in a script."""
        words = {i: len(item["text"].split()) for i, item in enumerate(items) if "text" in item}
        images = [i for i, item in enumerate(items) if "image" in item]
        rows = np.zeros((len(items), self.model.config.embed_dim), dtype=np.float32)
        short, long = [i for i in words if words[i] < 20], [i for i in words if words[i] >= 20]
        for part in (short, long):
            if part:
                rows[part] = self.model.embed(texts=[items[i]["text"] for i in part])
        if images:
            decoded = [io.BytesIO(base64.b64decode(items[i]["image"])) for i in images]
            rows[images] = self.model.embed(images=[Image.open(one) for one in decoded])
        return rows


def bare(folder: str, threads: int) -> None:
    """Answers lines on standard input: {"count", "batch", "seed", "kind"} → seconds of each batch,
    {"vectors_of"} → rows."""
    peer = Peer(folder, threads)
    peer.embed(workload(64))
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "vectors_of" in asked:
            print(json.dumps(peer.embed(workload(asked["vectors_of"])).tolist()), flush=True)
            continue
        items = workload(asked["count"], asked["seed"])
        if asked.get("kind"):
            items = [item for item in items if asked["kind"] in item]
        seconds = []
        for start in range(0, len(items), asked["batch"]):
            started = time.perf_counter()
            peer.embed(items[start : start + asked["batch"]])
            seconds.append(time.perf_counter() - started)
        print(json.dumps(seconds), flush=True)


def plain(folder: str, threads: int, port: int) -> None:
    """What one writes first: FastAPI, the model called for each request as it comes."""
    import uvicorn
    from fastapi import FastAPI

    peer = Peer(folder, threads)
    app = FastAPI()

    @app.post("/v1/embeddings")
    async def embeddings(request: dict[str, Any]) -> dict[str, Any]:
        """One request at a time: the model runs where requests are taken."""
        asked = request["input"]
        (row,) = peer.embed([{"text": asked}] if isinstance(asked, str) else asked)
        return {"data": [{"embedding": row.tolist()}]}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")
