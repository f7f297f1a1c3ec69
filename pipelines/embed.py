"""Embed text and pictures with the newest exported model.

momo embed --text "a red apple" --image apple.png
momo embed --text "a red apple" "a green tree" --output vectors.npz

With a source (--pair.source …) or a preset, a whole corpus: embed_corpus.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from momo.precision import Precision
from momo_platform.exit_codes import exit_code
from pipelines.commands.help_pages import EMBED
from pipelines.commands.short_help import ALL, help_asked


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="momo embed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--text", nargs="+", default=[], metavar="TEXT", help="texts to embed")
    result.add_argument("--image", nargs="+", default=[], metavar="FILE", help="picture files")
    result.add_argument(
        "--model",
        default="runs/latest/model",
        metavar="FOLDER",
        help="an exported model (default: %(default)s)",
    )
    result.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    result.add_argument(
        "--precision", choices=get_args(Precision), default="fp32", help="default: %(default)s"
    )
    result.add_argument(
        "--output", metavar="FILE.npz", help="write vectors, texts and file names there"
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the similarities (or the vectors' beginnings); exit code 2 for bad input."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if _of_corpus(given):
        return exit_code(lambda: _corpus(given), "the same command goes on where it was")
    return exit_code(lambda: _embed(given), "nothing is written", place="--output")


def _of_corpus(given: Sequence[str]) -> bool:
    """Whether a source or a preset is named: only options of a corpus have a dot in their name."""
    names = [one.partition("=")[0] for one in given if one.startswith("--")]
    return any(name == "--preset" or "." in name for name in names)


def _corpus(given: Sequence[str]) -> int:
    from pipelines.embed_corpus import make_vectors, parse

    if not help_asked("embed", EMBED, given):
        print(make_vectors(parse(given), given))
    return 0


def _embed(given: Sequence[str]) -> int:
    if help_asked("embed", EMBED, given):
        return 0
    if ALL in given:
        from pipelines.embed_corpus import parse

        print(parser().format_help())
        parse(["--help"])
    options = parser().parse_args(given)
    if not options.text and not options.image:
        told = "nothing to embed; give --text or --image, or a corpus by --pair.source …"
        print(f"error: {told}", file=sys.stderr)
        return 2
    import numpy as np

    import momo

    try:
        model = momo.load(options.model, options.device, options.precision)
        texts = model.embed(texts=options.text)
        images = model.embed(images=options.image)
    except (FileNotFoundError, ValueError) as error:
        hint = "" if Path(options.model).exists() else " (run `make demo` first, or give --model)"
        print(f"error: {error}{hint}", file=sys.stderr)
        return 2
    vectors = np.concatenate([texts, images])
    names = [f'"{t}"' for t in options.text] + list(options.image)
    if options.output:
        path = Path(options.output).with_suffix(".npz")
        try:
            np.savez(path, vectors=vectors, names=np.array(names))
        except OSError as error:
            print(f"error: --output {path}: {error.strerror}", file=sys.stderr)
            return 2
        print(f"{len(vectors)} vectors of {vectors.shape[1]} numbers written to {path}")
        return 0
    for name, vector in zip(names, vectors, strict=True):
        beginning = " ".join(f"{v:+.3f}" for v in vector[:6])
        print(f"{name}: [{beginning} …] ({len(vector)} numbers, unit length)")
    if len(names) > 1:
        print("\ncosine similarity")
        for i, name in enumerate(names):
            for j in range(i + 1, len(names)):
                print(f"{float(vectors[i] @ vectors[j]):+.3f}  {name} – {names[j]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
