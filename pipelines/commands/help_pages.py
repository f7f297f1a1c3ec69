"""What each command's `--help` shows. A test holds every option here against its parser."""

from __future__ import annotations

from pipelines.commands.short_help import ShortHelp

_SOURCES = {
    "--image.source PLACE …": "pictures: folders, Parquet, JSONL, CSV, .tar, URIs or hf://…; also "
    "PLACE:WEIGHT, a/{00..99}.tar, a/*.csv, @FILE with a place a line",
    "--text.source PLACE …": "text: the same, or .txt with a document a line",
    "--pair.source PLACE …": "pictures with captions: the same, or folders with x.jpg and x.txt",
}
_RUNNING = {
    "--plan": "show what would run, why and what it costs; then end (no Ray)",
    "--storage PLACE": "folder or URI (s3://…) of all artifacts (default: runs)",
    "--cluster WHERE": "auto (a running Ray, else a private one), local, or an address",
}

TRAIN = ShortHelp(
    "Prepare the corpora, train every stage, evaluate, export and report. What is finished is not "
    "done again; the same command goes on after an interruption.",
    (
        "momo train --preset demo",
        "momo train --pair.source captions.csv --image.source photos/ --text.source notes.txt",
        "momo train --stages stage3-pair --initial-model runs/latest/model --pair.source new.csv",
    ),
    {
        "your data (what you don't give comes from the preset)": {
            **_SOURCES,
            "--pair.held-out SHARE": "of the rows without a split, for evaluation (also image, "
            "text)",
            "--quality.score-model FOLDER": "train on the pairs that it finds most alike; also "
            "--quality.keep, .languages, .near-duplicates, .decontaminate",
        },
        "model and training": {
            "--preset NAME": "smoke, demo (the default), icons, base or large",
            "--budget NAME": "of preset icons: hour, evening or gpu; also --size tiny, mini, small",
            "--stages NAME …": "only these training stages, in this order; NEW=NAME makes another",
            "--initial-model PLACE": "start from these weights: an export, an artifact, a "
            "transformers or timm model, hf://…",
            "--model.image-size PIXELS": "of the square picture that the model takes",
            "--model.width N": "of its vectors; also --model.depth, --model.heads, …",
            "--<stage>.train.steps N": "of one stage, e.g. --stage3-pair.train.steps; --every.… "
            "sets it for all",
            "--<stage>.train.batch-sizes.pair N": "samples of a modality an update",
            "--<stage>.train.optimizer.learning-rate X": "at its peak",
            "--every.train.scaling.num-workers N": "training workers",
            "--every.train.scaling.gpus-per-worker N": "1: each worker has a GPU",
            "--keep best": "export the checkpoint with the best held-out loss, not the last",
            "--every.train.logging.wandb": "log to Weights & Biases too (offline unless logged in)",
        },
        "evaluation": {
            "--tasks NAME …": "suites, task names or patterns; own tasks as NAME=PLACE",
            "--data FOLDER": "where public data sets lie",
            "--evaluation.limit N": "at most so many examples of each part, for a quick look",
        },
        "running": {
            **_RUNNING,
            "--gpu NAME": "what --plan counts hours for: A100, H100, H200, …",
            "--until STAGE": "run up to this stage; also --only and --rerun with patterns",
            "--verbose": "show Ray's own messages",
        },
    },
)
EVALUATE = ShortHelp(
    "Run the evaluation suite on any model, beside others: exported MoMos and transformers models.",
    (
        "momo evaluate --model runs/latest/model --pair.source captions.csv",
        "momo evaluate --model ours=runs/latest/model clip=models/clip --tasks image --data ~/data",
        "momo evaluate --list",
    ),
    {
        "what": {
            "--model PLACE …": "folders, or NAME=FOLDER",
            "--tasks NAME …": "suites, task names or patterns; own tasks as NAME=PLACE[:PROTOCOL], "
            "probe, fine-tune, zero-shot, retrieval or vqa; auto: what fits the sources",
            **_SOURCES,
            "--preset NAME": "whose own tasks these are, without sources: demo, smoke or icons",
            "--budget NAME": "of preset icons the one that the model was trained in",
            "--data FOLDER": "where public data sets lie",
            "--against PLACE …": "[NAME=]earlier reports to compare with; or flava-paper",
            "--list": "show every task and end",
        },
        "how": {
            "--limit N": "at most so many examples of each part, for a quick look",
            "--save-classifiers": "keep fine-tuned models with their classes, to load and serve",
            "--gpus N": "GPUs of each task that runs a model",
            "--precision NAME": "fp32, tf32 (on GPUs) or bf16",
            **_RUNNING,
            "--verbose": "show Ray's own messages",
        },
    },
)
EMBED = ShortHelp(
    "Vectors and similarities of texts and pictures; or a whole corpus into Parquet, prepared as "
    "for training and embedded on all machines. The same command goes on after an interruption.",
    (
        'momo embed --text "a red apple" --image apple.png',
        "momo embed --pair.source captions.csv --output vectors/",
    ),
    {
        "a few": {
            "--text TEXT …": "texts to embed",
            "--image FILE …": "picture files",
            "--output FILE.npz": "write vectors, texts and file names there",
            "--device NAME": "cpu, cuda or cuda:N (default: a GPU where there is one)",
        },
        "or a corpus": {
            **_SOURCES,
            "--preset NAME": "smoke or demo: their captioned pictures, where no source is given",
            "--splits NAME …": "train, valid, test (default: all)",
            "--limit N": "so many rows at most",
            "--output FOLDER": "the Parquet files there too, by hard links or copies",
            "--format NAME": "parquet, or lance (pip install pylance) into --output",
            "--workers N": "actors with the model (default: as many as there is room for)",
            "--gpus N": "of each actor (default: 1 where the cluster has any); also --cpus",
            "--storage PLACE": "folder or URI of all artifacts (default: runs)",
            "--cluster WHERE": "auto (a running Ray, else a private one), local, or an address",
        },
        "both": {
            "--model FOLDER": "an exported model (default: runs/latest/model)",
            "--precision NAME": "fp32, tf32 (on GPUs), bf16 or int8 (on CPUs)",
        },
    },
)
INDEX = ShortHelp(
    "Embed a corpus with a model into an index that `momo serve --index` searches.",
    ("momo index --model runs/latest/model --pair.source captions.csv",),
    {
        "what": {
            "--model FOLDER": "an exported model (default: runs/latest/model)",
            "--pair.source PLACE …": "pictures with captions; by default the demo's held-out ones",
            "--image.source PLACE …": "or pictures without",
            "--limit N": "so many rows at most",
            "--vectors NAME": "how they are kept: float32, int8 (a quarter), usearch (a graph)",
            "--precision NAME": "of the model: fp32, bf16 or int8; the endpoint must serve it so",
            "--workers N": "actors that embed (default: as many as there is room for)",
            "--gpus N": "of each actor (default: 1 where the cluster has any)",
            "--storage PLACE": "folder or URI of all artifacts (default: runs)",
            "--cluster WHERE": "auto (a running Ray, else a private one), local, or an address",
        },
    },
)
SERVE = ShortHelp(
    "Answer with embeddings over HTTP, as OpenAI's /v1/embeddings does, and with a page.",
    ("momo serve", "momo serve --model my-model --index FOLDER --port 9000"),
    {
        "what": {
            "--model FOLDER": "an exported model (default: runs/latest/model)",
            "--index FOLDER": "an index of `momo index`, for search and the page",
            "--keys FILE": "accepted bearer keys, one a line",
        },
        "where and how": {
            "--host ADDRESS": "127.0.0.1 unless told otherwise",
            "--port N": "8000 unless told otherwise",
            "--allowed-hosts NAME …": "names it may be called by, beside localhost and addresses",
            "--cors-origins URL …": "pages of these origins may ask from a browser",
            "--min-replicas N": "processes with the model; --max-replicas lets it grow",
            "--gpus N": "of each replica; 0.5: two share one",
            "--precision NAME": "fp32, tf32 (on GPUs), bf16 or int8 (on CPUs)",
            "--cluster WHERE": "auto (a running Ray, else a private one), local, or an address",
            "--verbose": "show Ray's own messages",
        },
    },
)
SWEEP = ShortHelp(
    "Run an experiment: arms at equal compute, several seeds, a report with intervals. NAME is one "
    "of `momo sweep --list`, or a file of your own.",
    (
        "momo sweep objectives --budget smoke",
        "momo sweep objectives --plan",
        "momo sweep my_experiment.py --pair.source captions.csv",
    ),
    {
        "what": {
            "--budget NAME": "smoke (seconds), hour (on two cores) or demo (a night)",
            "--seeds N …": "each trial once with each (default: 0 1 2); fixed by the first run",
            "--only ARM …": "these arms beside the first",
            **_SOURCES,
            "--tasks NAME …": "what trials are scored by; with own sources own/…",
            "--metric NAME": "what arms are compared by, e.g. tasks/own/retrieval",
            "--name NAME": "of the sweep (default: the experiment's and the budget)",
        },
        "how": {
            "--plan": "print the arms, what they change and what is to run; then end (no Ray)",
            "--concurrency N": "trials at once; 0: as many as fit",
            "--fresh": "forget an earlier sweep of this name, but not its seeds",
            "--publish": "table, rows and chart to experiments/results/, and docs/findings.md",
            "--storage PLACE": "folder or URI of all artifacts (default: runs)",
            "--cluster WHERE": "auto (a running Ray, else a private one), local, or an address",
            "--wandb": "log every trial to Weights & Biases too",
            "--verbose": "show Ray's own messages",
        },
    },
)
