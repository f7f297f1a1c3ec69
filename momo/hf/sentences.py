"""What makes a folder for transformers one that sentence-transformers (5.4 and newer) opens.

    model = SentenceTransformer(folder)  # after `import momo.hf`, or with trust_remote_code=True
    model.encode(["a red apple"]), model.encode(["apple.png"])
    model.encode([{"text": "a red apple", "image": "apple.png"}])  # pairs

Its module `Transformer` asks the model's own methods; three small files say which. A call takes
inputs of one kind.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

MODULES = "modules.json"
_METHODS = {
    "text": "get_text_features",
    "image": "get_image_features",
    "image+text": "get_pair_features",
}
_FILES: dict[str, Any] = {
    MODULES: [
        {
            "idx": 0,
            "name": "0",
            "path": "",
            "type": "sentence_transformers.base.modules.transformer.Transformer",
        }
    ],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {
            modality: {"method": method, "method_output_name": None}
            for modality, method in _METHODS.items()
        },
        "module_output_name": "sentence_embedding",
    },
    "config_sentence_transformers.json": {
        "model_type": "SentenceTransformer",
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    },
}


def write_sentence_transformers(folder: str | os.PathLike[str]) -> None:
    """Beside the model and its processor, in `folder`."""
    for name, document in _FILES.items():
        (Path(folder) / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
