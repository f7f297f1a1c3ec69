"""infinity-emb's models for `infinity.py`: of a MoMo's size, weights at random, made without a hub.

    PEER_PYTHON infinity_models.py FOLDER FACTS

Runs in infinity's own environment and imports none of our packages. FACTS is JSON: the shape
(`ModelConfig`'s fields), `text_length`, `tokenizer` (a tokenizer.json) and `texts`, whose numbers
of tokens are printed as JSON. It leaves

- FOLDER/texts: a BERT for sentence-transformers, [CLS] behind a linear layer;
- FOLDER/both: CLIP's class with the same BERT and a ViT, each behind a linear layer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# pyright: reportMissingImports=false
# pyright: reportAttributeAccessIssue=false


def main() -> None:
    """Make both models; print the numbers of tokens."""
    import torch
    from transformers import (
        BertConfig,
        BertModel,
        PreTrainedTokenizerFast,
        VisionTextDualEncoderModel,
        VisionTextDualEncoderProcessor,
        ViTConfig,
        ViTImageProcessorFast,
        ViTModel,
    )

    folder, facts = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.manual_seed(0)
    shape = facts["shape"]
    layers: dict[str, Any] = {
        "hidden_size": shape["width"],
        "num_hidden_layers": shape["depth"],
        "num_attention_heads": shape["heads"],
        "intermediate_size": int(shape["width"] * shape["mlp_ratio"]),
    }
    length, pixels = facts["text_length"], {"height": shape["image_size"]}
    words = {"vocab_size": shape["vocab_size"], "max_position_embeddings": length}
    patches = {"image_size": shape["image_size"], "patch_size": shape["patch_size"]}
    bert, vit = BertModel(BertConfig(**layers, **words)), ViTModel(ViTConfig(**layers, **patches))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=facts["tokenizer"],
        model_max_length=length,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")},
    )
    pixels["width"] = pixels["height"]
    both = VisionTextDualEncoderModel(vision_model=vit, text_model=bert)
    both.config.projection_dim = shape["embed_dim"]
    both.config.max_length = length  # infinity cuts texts there, and 20 is transformers' own
    both = VisionTextDualEncoderModel(both.config, vision_model=vit, text_model=bert)
    both.save_pretrained(folder / "both")
    pictures = ViTImageProcessorFast(size=pixels)
    VisionTextDualEncoderProcessor(pictures, tokenizer).save_pretrained(folder / "both")
    _save_sentences(bert, tokenizer, folder, length, shape["embed_dim"])
    print(json.dumps([len(ids) for ids in tokenizer(facts["texts"], truncation=True)["input_ids"]]))


def _save_sentences(bert: Any, tokenizer: Any, folder: Path, length: int, dimensions: int) -> None:
    import torch
    from sentence_transformers import SentenceTransformer, models

    bert.save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    words = models.Transformer(str(folder / "bert"), max_seq_length=length)
    width = words.get_word_embedding_dimension()
    linear = models.Dense(width, dimensions, activation_function=torch.nn.Identity())
    parts = [words, models.Pooling(width, "cls"), linear]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder / "texts"))


if __name__ == "__main__":
    main()
