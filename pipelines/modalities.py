"""The modalities, a record each: what is particular to one on its way from a source to a batch.

Everything else goes over MODALITIES: the graph, the loaders, options, plans and the report. The
driver imports this file, so that torch and Arrow are loaded inside of the functions. What a
modality computes is in `momo/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from momo.config import ModelConfig
from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.columns import CAPTION_NAMES, IMAGE_NAMES, TEXT_NAMES
from momo_platform.data.config import Kind, MixConfig, PrepareConfig
from momo_platform.stages import Artifact, Context, by_role
from pipelines.artifacts import TokenizerFile

if TYPE_CHECKING:
    from momo.transforms import PictureForm

Inputs = Mapping[str, Artifact]
"""Of a preparation: sources name the roles that they lie in."""
Others = PreparedRows | None
"""Of a mixture: rows of another modality, whose held-out ones it leaves out."""
Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """How a training worker reads rows: for which model, with which tokenizer, which `form`
    pictures have; without `augment` they are cut in the middle."""

    model: ModelConfig
    tokenizer: TokenizerFile
    caption_length: int
    form: PictureForm = "cropped"
    augment: bool = True


@dataclass(frozen=True)
class Modality:
    """`kind`: its name and what readers are told. The name stands in tasks, batches and records, in
    options (`--image.source`), in the names of stages (`prepare-image`) and in their roles.
    `words`: what its rows are called for people.

    `prepare`, `mix`: the functions of its stages of data; where `tokenized`, the latter packs
    documents with the input `tokenizer`. `transform` makes batches of a table of rows and a seed
    for each (see `momo_platform.data.loader.Transform`). `pictured`: rows have a picture that
    readers decode. `texts`: the column of prepared rows that holds texts, which the tokenizer is
    learnt from.

    `demo`: (source, file, weight) of the demo's corpora. `given_by`: the modality whose own source
    serves where this has none. `leaves_out`: the modality whose held-out rows its mixture leaves
    out; `of_own`: only where both have sources of the user's.
    """

    kind: Kind
    words: str
    prepare: Callable[[PrepareConfig, Inputs, Context], Metrics]
    mix: Callable[[MixConfig, Inputs, Context], Metrics]
    transform: Callable[[Reading], Callable[..., dict[str, Any]]]
    pictured: bool = False
    texts: str = ""
    tokenized: bool = False
    demo: tuple[tuple[str, str, float], ...] = ()
    given_by: str = ""
    leaves_out: str = ""
    of_own: bool = False

    @property
    def name(self) -> str:
        return self.kind.name

    @property
    def captioned(self) -> bool:
        """Whether a row has a list of captions, which are no documents to be packed."""
        return bool(self.texts) and not self.tokenized

    def text_length(self, packed: int, captions: int) -> int:
        """Of `packed` documents and of `captions` the length of this modality's texts."""
        return captions if self.captioned else packed


def run_prepare_image(config: PrepareConfig, inputs: Inputs, context: Context) -> Metrics:
    """Stage: pictures → `data.parquet`."""
    from momo_platform.data.prepare import prepare_pictures

    return prepare_pictures(config, inputs, context, IMAGE.kind)


def run_prepare_text(config: PrepareConfig, inputs: Inputs, context: Context) -> Metrics:
    """Stage: text → `data.parquet`."""
    from momo_platform.data.prepare import prepare_text

    return prepare_text(config, inputs, context, TEXT.kind)


def run_prepare_pair(config: PrepareConfig, inputs: Inputs, context: Context) -> Metrics:
    """Stage: pictures with captions → `data.parquet`."""
    from momo_platform.data.prepare import prepare_pictures

    return prepare_pictures(config, inputs, context, PAIR.kind)


@by_role
def run_mix_image(
    config: MixConfig, context: Context, *, prepared: PreparedRows, pair: Others = None
) -> Metrics:
    """Stage: prepared pictures → shards with the column `image`."""
    from momo_platform.data.mix import mix_pictures

    return mix_pictures(config, prepared, context, ["image"], pair)


@by_role
def run_mix_text(
    config: MixConfig,
    context: Context,
    *,
    prepared: PreparedRows,
    tokenizer: TokenizerFile,
    pair: Others = None,
) -> Metrics:
    """Stage: prepared text, or pairs for their captions → shards with the column `ids`."""
    from momo_platform.data.mix import mix_text

    return mix_text(config, prepared, tokenizer.path, context, pair)


@by_role
def run_mix_pair(
    config: MixConfig, context: Context, *, prepared: PreparedRows, image: Others = None
) -> Metrics:
    """Stage: prepared pairs → shards with the columns `image`, `captions` and `group`."""
    from momo_platform.data.mix import mix_pictures

    # Of pictures only the test part is left out: it is what their labels are tested on.
    columns = ["image", "captions", "group"]
    return mix_pictures(config, prepared, context, columns, image, "test")


def _look_at_pictures(*listing: Any) -> None:
    from momo_platform.data.look import look_at_pictures

    look_at_pictures(*listing)


def _look_at_text(*listing: Any) -> None:
    from momo_platform.data.look import look_at_text

    look_at_text(*listing)


def _pictures(reading: Reading) -> dict[str, Any]:
    from momo_platform.data.order import uniform

    chosen = {"config": reading.model, "form": reading.form, "augment": reading.augment}
    return {"uniform": uniform, **chosen}


def _images(reading: Reading) -> Callable[..., dict[str, Any]]:
    from momo.transforms import image_batch

    return partial(image_batch, **_pictures(reading))


def _documents(reading: Reading) -> Callable[..., dict[str, Any]]:
    from momo.transforms import text_batch
    from momo_platform.data.order import uniform

    return partial(text_batch, uniform=uniform)


def _pairs(reading: Reading) -> Callable[..., dict[str, Any]]:
    from momo.transforms import pair_batch

    words = {"tokenizer": reading.tokenizer.load(), "length": reading.caption_length}
    return partial(pair_batch, **words, **_pictures(reading))


IMAGE = Modality(
    Kind(
        "image",
        hint="give a folder of pictures, a Parquet file, JSONL/CSV with picture paths, WebDataset "
        "tars or hf://<data set>",
        columns=(("picture", IMAGE_NAMES),),
        content="image",
        measured=("width", "height"),
        look=_look_at_pictures,
    ),
    "pictures",
    run_prepare_image,
    run_mix_image,
    _images,
    pictured=True,
    demo=(("emoji", "images.jsonl", 1.0),),
    given_by="pair",
    leaves_out="pair",
)
TEXT = Modality(
    Kind(
        "text",
        hint="give a .txt file (one document a line), a folder of them, JSONL, CSV, Parquet, "
        "WebDataset tars or hf://<data set>",
        columns=(("text", TEXT_NAMES),),
        content="text",
        look=_look_at_text,
    ),
    "texts",
    run_prepare_text,
    run_mix_text,
    _documents,
    texts="text",
    tokenized=True,
    demo=(
        ("wikipedia", "text/wikipedia.txt", 1.0),
        ("documentation", "text/documentation.txt", 0.5),  # repetitive
        ("reviews", "text/reviews.txt", 2.0),
    ),
    given_by="pair",
    leaves_out="pair",
    of_own=True,
)
PAIR = Modality(
    Kind(
        "pair",
        hint="give Parquet, JSONL or CSV with a picture and a caption a row, a folder of them, "
        "WebDataset tars or hf://<data set>",
        columns=(("picture", IMAGE_NAMES), ("caption", CAPTION_NAMES)),
        content="image",
        measured=("width", "height"),
        look=_look_at_pictures,
    ),
    "captioned pictures",
    run_prepare_pair,
    run_mix_pair,
    _pairs,
    pictured=True,
    texts="captions",
    demo=(("emoji", "pairs.jsonl", 1.0),),
    leaves_out="image",
    of_own=True,  # the demo's divide one set of pictures
)
MODALITIES: dict[str, Modality] = {each.name: each for each in (IMAGE, TEXT, PAIR)}
"""By name, in the order in which plans and reports show them."""
