"""MoMo as `transformers` knows models: `import momo.hf`, then AutoModel and AutoProcessor.

    import momo.hf
    from transformers import AutoModel, AutoProcessor

    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    inputs = processor(text=["a red apple"], images=["some.png"], return_tensors="pt")
    model(**inputs).logits_per_image

`from_exported` converts what the export stage wrote, `export_folder` writes the whole folder. It
carries its code (`momo.hf.code`): where this package is not installed, it opens with
`trust_remote_code=True`; `SentenceTransformer(folder)` reads it too (`momo.hf.sentences`).
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from momo.hf.card import render_card
from momo.hf.configuration import MoMoConfig
from momo.hf.convert import export_folder, from_exported
from momo.hf.modeling import MoMoModel, MoMoOutput
from momo.hf.processing import MoMoImageProcessor, MoMoProcessor, make_tokenizer

AutoConfig.register("momo", MoMoConfig, exist_ok=True)
AutoModel.register(MoMoConfig, MoMoModel, exist_ok=True)
AutoModelForZeroShotImageClassification.register(MoMoConfig, MoMoModel, exist_ok=True)
AutoTokenizer.register(MoMoConfig, PreTrainedTokenizerFast, exist_ok=True)
# One class, by Pillow, under both names: with torchvision its resizing would differ.
AutoImageProcessor.register(
    MoMoConfig,
    image_processor_classes={"pil": MoMoImageProcessor, "torchvision": MoMoImageProcessor},
    exist_ok=True,
)
AutoProcessor.register(MoMoConfig, MoMoProcessor, exist_ok=True)

__all__ = [
    "MoMoConfig",
    "MoMoImageProcessor",
    "MoMoModel",
    "MoMoOutput",
    "MoMoProcessor",
    "export_folder",
    "from_exported",
    "make_tokenizer",
    "render_card",
]
