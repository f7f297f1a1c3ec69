"""A classifier of random weights, for the endpoint."""

import momo
from momo.evaluation.finetune import FineTuned
from momo.evaluation.momo_encoder import MoMoEncoder


def make_classifier(folder, inputs):
    """A toy's trunk with a head of its own; returns it without the endpoint."""
    source = momo.load(folder.parent / "one", "cpu")
    encoder = MoMoEncoder(source.model, source.tokenizer, device="cpu")
    momo.save_classifier(
        *(folder, FineTuned(encoder.trunk(), 3, 0.0)),
        classes=["fruit", "plant", "animal"],
        inputs=inputs,
        tokenizer_json=source.tokenizer.to_str(),
        extra={"task": "mine"},
    )
    return momo.load_classifier(folder, "cpu")
