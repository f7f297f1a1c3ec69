"""What each benchmark asks, and how docs/performance.md words its rows. `publish.py` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Benchmark:
    """`records`: the names of its results, `experiments/results/NAME-DATE.json` or
    `NAME-WORD-DATE.json`. `rows`: a row's name in the JSON → its name on the page, in the page's
    order; rows with a goal that are not named here follow under their own name, others are left
    out. `note`: what a reader must know to read the figures rightly."""

    title: str
    script: str
    records: str
    question: str
    rows: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


BENCHMARKS = (
    Benchmark(
        "Starting a training stage",
        "startup.py",
        "startup",
        "How long does a training stage take to start and to end, training left out? And what does "
        "a trial of a sweep cost beside its training?",
        {
            f"{name}: start → first step, last step → end": f"stage {name[5]}: start and end"
            # Two of them as the record has them, from when they had these names.
            for name in ("stage1-images", "stage2-joint", "stage3-pairs")
        }
        | {
            "a trial of a sweep: two steps of training, and all that is not": "a trial of a sweep",
        },
        "Stages 2 and 3 start faster because their processes start while the stage before trains.",
    ),
    Benchmark(
        "The stage graph",
        "graph.py",
        "graph",
        "What does the graph cost: planning, running a finished graph again, and a stage that does "
        "nothing?",
        {
            "plan 1000 stages, none made": "plan 1,000 stages, none made",
            "plan 1000 stages, all made": "plan 1,000 stages, all made",
            "run 1000 finished stages again, Ray's start apart": "run 1,000 finished stages again",
        }
        | {
            f"{shape} of {n}: a stage that does nothing, beyond Ray's task": (
                f"an empty stage, {n:,} {words}, on top of Ray's task"
            )
            for shape, words in (("chain", "in a chain"), ("wide", "side by side"))
            for n in (10, 100, 1000)
        }
        | {
            f"{shape}: cost a stage at 1000 stages": f"cost of a stage, 1,000 {words}"
            for shape, words in (("chain", "in a chain"), ("wide", "side by side"))
        },
    ),
    Benchmark(
        "Reading and preparing data",
        "data.py",
        "data",
        "How fast do pictures reach a trainer, how fast are corpora prepared, and how long does a "
        "resumed run take to find its place?",
        {
            "twemoji, 64 px: ours": "emoji at 64 px",
            "twemoji, 64 px: ours, equal bytes": "emoji at 64 px, stored uncapped",
            "photographs, 224 px: ours": "photographs at 224 px",
            "photographs, 224 px: ours, equal bytes": "photographs at 224 px, stored uncapped",
            "preparation of photographs on two cores": "preparing photographs on two cores",
            "decode only, one reader core": "a reader core that only decodes",
            "hand over encoded, one reader core": "a reader core that hands over encoded pictures",
            "seek to a step of 100,000,000 samples": "finding a step among 100,000,000 samples",
            "memory that seeking takes": "memory that finding it takes",
            "first batch of 10,000,000 rows in a bucket, 30 ms late": (
                "first batch of 10,000,000 rows in a bucket that answers 30 ms late"
            ),
            "twemoji, 64 px: from a bucket, 30 ms late": "emoji from such a bucket",
            "twemoji, 64 px: processor time of a sample from a bucket": (
                "emoji from there: processor time of a sample"
            ),
            "photographs, 224 px: from a bucket, 30 ms late": "photographs from such a bucket",
            "photographs, 224 px: processor time of a sample from a bucket": (
                "photographs from there: processor time of a sample"
            ),
            "bytes asked of the source, for each of its bytes": "bytes asked of a tar in a bucket",
        },
        "Our shards hold pictures capped at the size that training needs, which is part of the "
        "gain. The rows “stored uncapped” give ours the same bytes as its peers.",
    ),
    Benchmark(
        "The model",
        "model.py",
        "model",
        "How fast does the model encode and train at base size, and how much memory does an update "
        "take?",
        {
            name.replace("N", str(n)): words.replace("N", str(n))
            for name, words in (
                ("pair inference, base, N tokens, batch 32", "encoding pairs, N tokens"),
                ("share of the machine's GEMM rate, N tokens", "rate of encoding pairs, N tokens"),
                ("stage-3 update, base, N tokens, batch 4", "a stage-3 update, N tokens"),
                (
                    "peak memory of a stage-3 update, N tokens, batch 4",
                    "memory of a stage-3 update, N tokens, batch 4",
                ),
            )
            for n in (16, 77)
        }
        | {
            "peak memory of a stage-3 update, 77 tokens, batch 16": (
                "memory of a stage-3 update, 77 tokens, batch 16"
            ),
            "peak memory of a stage-3 update, 77 tokens, batch 16, elementwise checkpointing": (
                "the same with elementwise checkpointing"
            ),
            "MIM update, base, batch 16": "a masked-image update",
        },
        "FLAVA's speed on this kind of machine varies by a tenth within a day, and every ratio "
        "beside it with it. [experiments.md](experiments.md#the-models-speed) says what limits the "
        "figures that miss their goal.",
    ),
    Benchmark(
        "The training loop",
        "training.py",
        "training",
        "What do accumulated gradients cost beside one summed loss, and what does Ray's "
        "TorchTrainer cost beside a bare loop?",
        {
            "accumulate: seconds an update": "time of an accumulated update",
            "accumulate: peak memory": "memory of an accumulated update",
            "steady steps/s under TorchTrainer": "steps under TorchTrainer",
        },
        "[experiments.md](experiments.md#steps-under-torchtrainer) says where the lost steps go.",
    ),
    Benchmark(
        "Updates beside an earlier version",
        "against_commit.py",
        "updates",
        "Is an update at least as fast as it was before captions were packed without padding?",
        {
            f"an update of {p} stage {n}": f"{p}, stage {n}"
            for p in ("demo", "base")
            for n in (1, 2, 3)
        },
    ),
    Benchmark(
        "Evaluation",
        "evaluation.py",
        "evaluation",
        "What does evaluation cost at full size?",
        {
            "retrieval: 100,000 × 100,000 vectors of 256, both ways": (
                "retrieval among 100,000 pictures and 100,000 texts, both directions"
            ),
            "retrieval: peak memory": "memory of that retrieval",
            "probe: 50,000 × 768 features, 10 classes": "a linear probe of 50,000 × 768 features",
        },
    ),
    Benchmark(
        "Cost by batch and length",
        "scaling.py",
        "scaling",
        "How does the time of a text update change with the batch and with the text's length?",
        {f"µs a token, batch {n}": f"a token, batch {n}" for n in (1, 2, 4, 8, 16, 32, 64)}
        | {f"µs a token, length {n}": f"a token, length {n}" for n in (64, 128, 256, 512)},
        "As pictures: time against [batch](figures/time-batch.svg), "
        "[length](figures/time-length.svg) and [size](figures/time-model.svg); memory against "
        "[batch](figures/memory-batch.svg), [length](figures/memory-length.svg) and "
        "[size](figures/memory-model.svg).",
    ),
    Benchmark(
        "The forecast for many GPUs",
        "scale.py",
        "scale",
        "How well does the formula that forecasts training on many GPUs foretell two processes on "
        "this machine?",
        {
            "step of two processes, foretold": "a step of two processes, by the formula",
            "efficiency of two processes at equal work each": "efficiency of two processes",
        },
        "The forecast itself is in [cluster.md](cluster.md#more-gpus-or-fewer). It has not been "
        "checked on GPUs.",
    ),
    Benchmark(
        "Serving",
        "serving.py",
        "serving",
        "What does the endpoint deliver under load, and what does it add to a single request?",
        {
            name.replace("SIZE", size): words.replace("SIZE", size)
            for size in ("demo", "small", "base")
            for name, words in (
                ("throughput at 32 in flight, size SIZE, torch threads 1", "throughput, size SIZE"),
                (
                    "added p50 at one in flight, text, size SIZE, torch threads 1",
                    "added to a text's median latency, size SIZE",
                ),
                (
                    "added p50 at one in flight, image, size SIZE, torch threads 1",
                    "added to a picture's median latency, size SIZE",
                ),
            )
        }
        | {"the replica's memory after 50,000 requests": "memory after 50,000 requests"},
        "Throughput is measured with 32 requests in flight and one torch thread on every side. "
        "[serving.md](serving.md#under-load) says why the plain app is so close.",
    ),
    Benchmark(
        "Serving beside infinity-emb",
        "infinity.py",
        "infinity",
        "How does the endpoint compare with infinity-emb, over HTTP on the same cores?",
        {
            f"{what}{load}, size {size}, {precision}": f"{size}, {precision}: {words}{load}"
            for size, precision in (("demo", "fp32"), ("demo", "int8"), ("small", "fp32"))
            for what, words in (("", ""), ("p50 at one in flight, ", "p50 at one in flight, "))
            for load in ("short texts", "mixed texts", "texts and pictures", "pictures")
            if not what or load in ("short texts", "pictures")
        },
        "Throughput with 32 requests in flight, an item each; one torch thread on each side. "
        "infinity serves models of as many layers, as wide, with its defaults and in fp32, also "
        "beside our int8. At size demo HTTP takes more than the model, so that int8 has little to "
        "gain; a p50 at size small or base is the model's own time on both sides.",
    ),
    Benchmark(
        "bf16 on CPUs",
        "bf16.py",
        "bf16",
        "What does bf16 give on a processor that has bf16 units?",
    ),
    Benchmark(
        "Finished models on CPUs",
        "engines.py",
        "engines",
        "How fast are int8, bf16 and ONNX Runtime beside fp32, and how near are their vectors?",
    ),
    Benchmark(
        "Smaller vectors",
        "vectors.py",
        "vectors",
        "What does a search find when vectors are kept in int8, as signs, or cut?",
        {
            f"{what} in {form}": f"{words} in {form}"
            for form in (
                "int8, 128 bytes a vector",
                "signs, 16 bytes",
                "signs, and int8 of the nearest 100",
                "the first 64 numbers, float32",
                "the first 32 numbers, float32",
            )
            for what, words in (
                ("R@10", "R@10"),
                ("of the ten nearest, found", "of the ten nearest, the share found"),
            )
        },
        "The trained demo's held-out pairs, both directions. It was not trained for prefixes.",
    ),
    Benchmark(
        "One GPU",
        "gpu.py",
        "gpu",
        "Is the product right, fast and fed on one GPU, and how does it compare with its peers?",
        note="[gpu.md](gpu.md) says how it is run.",
    ),
)

PEERS = {
    "FlavaModel": "FLAVA (transformers)",
    "FlavaForPreTraining": "FLAVA (transformers)",
    "FlavaForPreTraining without codebook": "FLAVA, its targets ready-made",
    "ViTMAEForPreTraining": "ViT-MAE (transformers)",
    "large matrix products": "the machine's large matrix products",
    "Tune trial that starts a TorchTrainer with an empty loop": (
        "Tune trial with an empty TorchTrainer"
    ),
    "of 100,000 samples": "finding a step among 100,000",
    "goal": "the limit",
    "a minute": "the limit",
    "2 GB": "the limit",
    "joint": "one summed loss (`joint`)",
    "commit a9fa37d": "the earlier version",
    "measured": "the step as measured",
    "the cheapest batch": "cheapest batch",
    "the least length": "length 32",
    "after 10,000": "after 10,000 requests",
}
"""A peer's name in the JSON → its name on the page, where that needs words."""
