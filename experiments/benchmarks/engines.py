"""A finished model in fp32, bf16 and int8, and by ONNX Runtime: how fast, how near, how good.

    python experiments/benchmarks/engines.py [--size base] [--model FOLDER] [--quick]

Items a second of `momo.load(…).embed_ids` (16 texts of 16 tokens) and `embed_pixels` (16 pictures)
on one thread, random weights, the forms in turn, medians of five. ONNX Runtime's where the packages
of the extra `onnx` are installed. With `--model`, the folder of a trained model in its storage
(runs/latest/model): the mean cosine of its vectors with fp32's, and R@10 on its held-out pairs, the
mean of both directions, in the same run (`--size none`: these alone). About 3 minutes at base.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

import momo
from experiments.benchmarks.harness import Row, compare, finish, in_turn, parser, say
from momo.config import SIZES
from momo.embedder import AnyEmbedder
from momo.engines import write_engine
from momo.export import save
from momo.model import build_model
from momo.precision import Precision
from momo.tokenizer import train_wordpiece
from pipelines.held_out_pairs import held_out_pairs, likeness

ITEMS, TOKENS = 16, 16
OWN: tuple[Precision, ...] = ("bf16", "int8")
GOAL = {"int8": 2.5}
"""Times fp32's items a second."""
LEAST_COSINE, MOST_LOST = 0.999, 0.01


def forms_of(folder: Path, place: Path) -> dict[str, AnyEmbedder]:
    """The model in each form that can be had here."""
    found: dict[str, AnyEmbedder] = {"fp32": momo.load(folder, "cpu")}
    found |= {precision: momo.load(folder, "cpu", precision) for precision in OWN}
    lacking = [n for n in ("onnxscript", "onnxruntime") if not importlib.util.find_spec(n)]
    if lacking:
        say(f"without ONNX Runtime: {', '.join(lacking)} not installed")
        return found
    engines: tuple[Precision, ...] = ("fp32", "int8")
    for precision in engines:
        output = write_engine(folder, place / f"onnx-{precision}", "onnx", precision)
        found[f"onnx {precision}"] = momo.load(output)
    return found


def rate(call: Callable[[], np.ndarray], least_seconds: float) -> float:
    """Items a second, over calls that take so long together."""
    start, done = time.perf_counter(), 0
    while (taken := time.perf_counter() - start) < least_seconds or not done:
        done += len(call())
    return done / taken


def speed(size: str, quick: bool) -> list[Row]:
    """Each form's items a second beside fp32's."""
    draw, shape = np.random.default_rng(0), SIZES[size]
    ids = draw.integers(5, 200, (ITEMS, TOKENS)).tolist()
    pixels = draw.integers(0, 256, (ITEMS, 3, shape.image_size, shape.image_size), dtype=np.uint8)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        tokenizer = train_wordpiece(["a red apple"] * 5, 200)
        save(build_model(shape), folder, tokenizer.to_str())
        forms = forms_of(folder, Path(place))
        for kind in ("texts", "pictures"):
            runs = in_turn(
                1 if quick else 5,
                {name: partial(_rate_of, form, kind, ids, pixels) for name, form in forms.items()},
                f"{size} {kind}, items/s",
                warm_ups=0 if quick else 1,
            )
            rows += [
                compare(
                    *(f"{size}: {kind} in {name}", runs[name], "fp32", runs["fp32"]),
                    unit="items/s",
                    least_ratio=GOAL.get(name) if size == "base" else None,
                )
                for name in forms
                if name != "fp32"
            ]
    return rows


def _rate_of(form: AnyEmbedder, kind: str, ids: list[list[int]], pixels: np.ndarray) -> float:
    call = partial(form.embed_ids, ids) if kind == "texts" else partial(form.embed_pixels, pixels)
    return rate(call, 1.0)


def quality(model: Path) -> list[Row]:
    """Cosine and R@10 of a trained model's forms. Raises SystemExit without held-out pairs."""
    items = held_out_pairs(model)
    if items is None:
        raise SystemExit(f"--model {model}: its storage has no held-out pairs that it was made of")
    rows = []
    with tempfile.TemporaryDirectory() as place:
        forms = forms_of(model, Path(place))
        for name in [name for name in forms if name != "fp32"]:
            found = likeness(forms[name], forms["fp32"], items)
            for kind, cosine in (("pictures", found.image_cosine), ("texts", found.text_cosine)):
                rows.append(_cosine_row(f"cosine of {kind} in {name}", cosine, name in GOAL))
            rows.append(_recall_row(name, found.recall, found.whole_recall))
    return rows


def _cosine_row(told: str, cosine: float, has_goal: bool) -> Row:
    goal = f"ratio ≥ {LEAST_COSINE:g}" if has_goal else ""
    met, found = not has_goal or cosine >= LEAST_COSINE, round(cosine, 5)
    return Row(told, found, "", "fp32", 1.0, found, goal, met, [found], [1.0])


def _recall_row(name: str, recall: float, whole: float) -> Row:
    goal = f"value ≥ {whole - MOST_LOST:.4f}" if name in GOAL else ""
    met = not goal or recall >= whole - MOST_LOST
    found, ratio = round(recall, 4), round(recall / max(whole, 1e-9), 3)
    told = (f"R@10 in {name}", found, "", "fp32", round(whole, 4), ratio, goal, met)
    return Row(*told, [found], [round(whole, 4)])


def run(sizes: Mapping[str, bool], model: str) -> list[Row]:
    """All rows; `sizes` by name, whether quick."""
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr):
        rows = [row for size, quick in sizes.items() for row in speed(size, quick)]
        return rows + (quality(Path(model)) if model else [])


def main() -> int:
    """Print the JSON document."""
    options = parser(__doc__)
    options.add_argument("--size", choices=("demo", "small", "base", "all", "none"), default="all")
    options.add_argument("--model", default="", metavar="FOLDER", help="a trained one, by its run")
    given = options.parse_args()
    sizes = ("demo", "base") if given.size == "all" else (given.size,)
    if given.size == "none":
        sizes = ()
    elif given.quick:
        sizes = ("demo",)
    return finish(run(dict.fromkeys(sizes, given.quick), given.model))


if __name__ == "__main__":
    sys.exit(main())
