"""What a modality says of itself on its way from a source to a batch.

The driver imports this file and those beside it, so that torch and Arrow are loaded inside of the
functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from momo.config import ModelConfig
from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.config import Kind, MixConfig, PrepareConfig
from momo_platform.stages import Artifact, Context
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
class ModalityData:
    """`kind`: its name and what readers are told. The name stands in tasks, batches and records, in
    options (`--image.source`), in the names of stages (`prepare-image`) and in their roles.
    `words`: what its rows are called for people.

    `prepare`, `mix`: the functions of its stages of data; where `tokenized`, the latter packs
    documents with the input `tokenizer`. `transform` makes batches of a table of rows and a seed
    for each (see `momo_platform.data.loader.Transform`). `pictured`: rows have a picture that
    readers decode. `texts`: the column of prepared rows that holds texts, which the tokenizer is
    learnt from.

    `given_by`: the modality whose source serves where this has none. `leaves_out`: the modality
    whose held-out rows its mixture leaves out; `of_own`: only where both have sources of the
    user's.
    """

    kind: Kind
    words: str
    prepare: Callable[[PrepareConfig, Inputs, Context], Metrics]
    mix: Callable[[MixConfig, Inputs, Context], Metrics]
    transform: Callable[[Reading], Callable[..., dict[str, Any]]]
    pictured: bool = False
    texts: str = ""
    tokenized: bool = False
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
