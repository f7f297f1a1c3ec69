"""How many hidden words of held-out texts the model finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.evaluation.items import Texts, Usable, evenly
from pipelines.evaluation.protocol import Baseline, OnModel, Subject
from pipelines.evaluation.results import Result, result_of, value_of

if TYPE_CHECKING:
    from pipelines.evaluation.trivial import Trivial


class MaskedWordAccuracy(OnModel):
    name = "masked_words"
    trains = False

    def needs(self, items: Usable) -> tuple[str, ...]:
        return ("words",)

    def chance(self, metric: str, classes: int) -> float | None:
        return 1 / classes

    def measure(self, subject: Subject) -> Result:
        from momo.evaluation.bootstrap import interval_of_mean
        from momo.evaluation.heads import masked_words

        config, encoder, items = subject.config, subject.encoder, subject.items
        assert isinstance(items, Texts)
        chosen = evenly(items.split, config.limit)
        chosen = chosen[items.split[chosen] == "test"]
        texts = [items.texts[i] for i in chosen]
        found = masked_words(encoder, encoder.tokenize(texts, length=items.length))
        bounds = interval_of_mean(found.right, groups=found.row, seed=config.seed)
        value = value_of(found.accuracy, bounds, self.chance(config.metric, encoder.vocab_size))
        return result_of(config, value, len(texts), {"words": len(found.right)})

    def baseline(self, data: Trivial) -> Baseline:
        return data.commonest_word(), {}
