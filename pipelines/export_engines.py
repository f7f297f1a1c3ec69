"""`momo export --format onnx | openvino | torch`: the model for an engine, with its card."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from momo.precision import Precision
from momo_platform.stages import UserError
from pipelines.export_output import CARD, TRANSFORMERS, stated_licence, write_card
from pipelines.held_out_pairs import Likeness, held_out_pairs, likeness

FORMATS = (TRANSFORMERS, "onnx", "openvino", "torch")
_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch alone"}
_USE = """```python
import momo  # from the repository of MoMo on Ray

model = momo.load("{name}")
vectors = model.embed(texts=["a red apple"]), model.embed(images=["some.png"])
```

Two graphs for {package}: `text` takes `ids`, int64 [batch, length] of `tokenizer.json`, padded with
0; `image` takes `pixels`, uint8 [batch, 3, {size}, {size}]: the largest central square, resized
(Pillow, bilinear). Both give `vectors`, float32 [batch, {width}] of length 1."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--format` and `--precision`."""
    parser.add_argument(
        "--format", choices=FORMATS, default=TRANSFORMERS, help="default: %(default)s"
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="fp32",
        help="of an engine's products: fp32, bf16 (openvino, torch) or int8 (onnx)",
    )


def is_engine(options: argparse.Namespace) -> bool:
    """Whether another format than transformers' is asked for. Raises UserError for a precision that
    transformers' has not."""
    if options.format == TRANSFORMERS and options.precision != "fp32":
        raise UserError(
            f"--precision {options.precision}: --format {TRANSFORMERS} keeps fp32, of which "
            "AutoModel.from_pretrained(…, dtype=torch.bfloat16) makes bf16; give --format onnx, "
            "openvino or torch for another"
        )
    return options.format != TRANSFORMERS


def export_engine(
    options: argparse.Namespace, recipe: Mapping[str, Any], report: Mapping[str, Any]
) -> None:
    """Write the engine and its card into `--output`. Raises UserError for what can't be done."""
    from momo.engines import write_engine

    folder, output = Path(options.model), Path(options.output)
    try:
        write_engine(folder, output, options.format, options.precision)
    except (ImportError, ValueError, FileNotFoundError) as error:
        raise UserError(f"--format {options.format}: {error}") from error
    card = _card(options, recipe, report, _compared(folder, output))
    write_card(output, card)


def _compared(model: Path, engine: Path) -> Likeness | None:
    """The engine beside the model's own fp32, where the pairs that it was held from are there."""
    import momo

    items = held_out_pairs(model)
    return None if items is None else likeness(momo.load(engine), momo.load(model, "cpu"), items)


def _card(
    options: argparse.Namespace,
    recipe: Mapping[str, Any],
    report: Mapping[str, Any],
    compared: Likeness | None,
) -> str:
    from momo.hf import render_card
    from pipelines.to_transformers import corpora

    folder = Path(options.model)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = options.name or Path(options.output).resolve().name
    facts = {"format": options.format, "precision": options.precision}
    size, width = (recipe[f"model.{field}"] for field in ("image_size", "embed_dim"))
    package = _PACKAGES[options.format]
    return render_card(
        name,
        recipe=facts | dict(recipe),
        corpora=corpora(report),
        licence=options.licence or stated_licence(folder / CARD),
        tasks=report.get("tasks"),
        origin=config.get("origin") or (),
        library=options.format,
        use=_USE.format(name=name, package=package, size=size, width=width),
        likeness=_table(compared, options.precision),
    )


def _table(found: Likeness | None, precision: str) -> str:
    if found is None:
        return ""
    lines = (
        f"Beside the model in fp32, on {found.pictures:,} held-out pictures and {found.texts:,} "
        "captions:",
        "",
        "| | vectors' cosine with fp32: pictures | texts | R@10, mean of both directions |",
        "| --- | --- | --- | --- |",
        f"| {precision} | {found.image_cosine:.5f} | {found.text_cosine:.5f} | "
        f"{found.recall:.3f} |",
        f"| fp32 | 1 | 1 | {found.whole_recall:.3f} |",
    )
    return "\n".join(lines)
