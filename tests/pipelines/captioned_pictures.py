"""300 captioned pictures without a download: pieces of the photographs that come with
scikit-learn."""

from pathlib import Path

import sklearn.datasets
from PIL import Image

_ROWS, _COLUMNS = 10, 15
_COLOURS = ("red", "green", "blue")


def write(folder: Path) -> Path:
    """`<photograph>/<row>-<column>.png`, each beside its caption as `.txt`."""
    images = Path(sklearn.datasets.__file__).parent / "images"
    for name in ("china", "flower"):
        place = folder / name
        place.mkdir(parents=True)
        with Image.open(images / f"{name}.jpg") as photograph:
            width, height = photograph.width // _COLUMNS, photograph.height // _ROWS
            for row in range(_ROWS):
                for column in range(_COLUMNS):
                    left, top = column * width, row * height
                    piece = photograph.crop((left, top, left + width, top + height))
                    red, green, blue = piece.resize((1, 1)).getpixel((0, 0))
                    shades = dict(zip(_COLOURS, (red, green, blue), strict=True))
                    colour = max(shades, key=shades.__getitem__)
                    tone = "bright" if red + green + blue > 380 else "dark"
                    piece.save(place / f"{row}-{column}.png")
                    caption = f"{tone} {colour} piece of the {name}, row {row}, column {column}"
                    (place / f"{row}-{column}.txt").write_text(caption)
    return folder
