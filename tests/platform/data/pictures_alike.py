"""Drawings for tests of what looks alike."""

import io

import numpy as np
from PIL import Image, ImageDraw


def drawing(seed, colour="red", size=64):
    """A few random shapes on white; `colour` fills the largest of them."""
    generator = np.random.default_rng(seed)
    picture = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((8, 8, 56, 56), fill=colour)
    for _ in range(6):
        x, y, w, h = (int(v) for v in generator.integers(4, 40, 4))
        draw.rectangle((x, y, x + w // 2, y + h // 2), fill=tuple(generator.integers(0, 255, 3)))
    return picture.resize((size, size), Image.Resampling.BICUBIC) if size != 64 else picture


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def reencoded(picture, quality):
    return Image.open(io.BytesIO(encoded(picture, "JPEG", quality=quality))).convert("RGB")
