"""Made-up results for the tests of pages: as much, as long and as awkward as real ones can be."""

import math
from dataclasses import replace

import numpy as np

from momo_platform.charts import bar_chart, colour_class, data_uri, line_chart
from momo_platform.sweeps.charts import shares_chart
from momo_platform.sweeps.compare import ComparedRun
from momo_platform.sweeps.compare import page as comparison
from momo_platform.sweeps.dashboard_page import Link, index_page
from momo_platform.sweeps.overview import Overview, RunView, Small, SweepView, Working
from momo_platform.sweeps.report import forest, render
from momo_platform.sweeps.rows import Results, TrialRow, best_of
from pipelines.evaluation.effects import effects
from pipelines.evaluation.scores import deltas
from pipelines.report.comparison import comparison_page
from pipelines.report.corpora import CardSample, CorpusCard
from pipelines.report.page import Page
from pipelines.report.tables import markdown_table
from pipelines.report.trainings import Seen, Training

STAGES = ("stage1-image", "stage2-joint", "stage3-pair")
COMMAND = (
    "momo train --preset demo --image.source /data/collections/herbarium/pictures "
    "--pair.source /data/collections/herbarium/captions.csv --text.source notes.txt"
)


def _row(group, protocol, metric, value, half, **more):
    row = {
        "group": group,
        "protocol": protocol,
        "metric": metric,
        "value": value,
        "low": value - half,
        "high": value + half,
        "seed": 0,
        "limit": 0,
        "baseline": None,
        "baseline_method": "",
        "chance": None,
        "licence": "",
        "n": 8000,
        "note": "",
        "untrained": None,
        "values": {metric: {"value": value}},
        "details": {},
    }
    return row | more


def tasks(shift=0.0):
    """One row of each kind: better, worse, no difference, without n or baseline."""
    chance = {"baseline_method": "chance"}
    return {
        "demo/mnist": _row(
            *("image", "linear_probe", "accuracy", 0.903 + shift, 0.018),
            **{"baseline": 0.903, "baseline_method": "raw pixels", "chance": 0.1, "n": 1000},
            untrained=0.845,
        ),
        "own/labels": _row(
            *("image", "linear_probe", "mean_per_class_accuracy", 0.71 + shift, 0.05),
            **{"baseline": 0.4, "baseline_method": "raw pixels", "chance": 0.05, "n": 412},
            untrained=0.38,
        ),
        "demo/movie_sentiment": _row(
            *("text", "fine_tune", "accuracy", 0.61 + shift, 0.03),
            **{"baseline": 0.74, "baseline_method": "TF-IDF", "chance": 0.5, "n": 12345},
        ),
        "own/image_to_text": _row(
            *("multimodal", "retrieval", "image_to_text_r@1", 0.27 + shift, 0.26),
            **{"baseline": 0.09, **chance, "chance": 0.09, "n": 11, "untrained": 0.09},
            note="only 11 examples: the figure says little",
            values={
                f"image_to_text_{name}": {"value": value, "low": 0.0, "high": 1.0, "chance": 0.1}
                for name, value in {"r@1": 0.27, "r@5": 0.6, "median_rank": 4.0, "mrr": 0.4}.items()
            },
        ),
        "own/text_to_image": _row(
            *("multimodal", "retrieval", "text_to_image_median_rank", 12.5, 4.0),
            **{"baseline": 150.5, **chance, "chance": 150.5, "n": 300, "untrained": 148.0},
        ),
        "demo/masked_words": _row("diagnostic", "masked_words", "accuracy", 0.41 + shift, 0.01),
    }


def summary(shift=0.0):
    """What `summarise` gives."""
    return {
        "tasks": tasks(shift),
        "groups": {"image": 0.8 + shift, "text": 0.61, "multimodal": None},
        "covered": {"image": [2, 2], "text": [1, 1], "multimodal": [0, 2]},
        "not_available": {
            "multimodal/vqav2": "get it from visualqa.org and lay it out as DATA/vqav2/"
            "v2_OpenEndedQuestions_mscoco_train2014_questions.json"
        },
    }


def _picture(seed, size=64):
    pixels = np.random.default_rng(seed).integers(0, 255, (3, 8, 8), dtype=np.uint8)
    return pixels.repeat(size // 8, 1).repeat(size // 8, 2)


def _falling(start, end, steps=300):
    return [(s, end + (start - end) * math.exp(-s / 90)) for s in range(10, steps + 1, 10)]


def trainings():
    """Three stages with curves of training and of held-out rows."""
    metrics = {
        "steps": 300,
        "seconds_training": 754.2,
        "world_size": 2,
        "resumed_at_step": 120,
        "steps_skipped": 0,
        "parameters": 6_123_456,
        "last": {"samples_per_second/image": 1224.9},
    }
    curves = {
        "loss/mim": _falling(1.05, 0.9812),
        "valid/loss/mim": _falling(1.05, 0.99)[::5],
        "loss/contrastive": _falling(5.5, 2.1),
        "valid/loss/contrastive": _falling(5.5, 2.6)[::5],
        "loss/pair_mlm": _falling(9.2, 3.0),
        "valid/image_to_text_r@10": [(s, s / 400) for s in range(50, 301, 50)],
        "valid/text_to_image_median_rank": [(s, 400 - s) for s in range(50, 301, 50)],
        "gradient_cosine/image/text": [(s, 4e-4 * math.sin(s)) for s in range(10, 301, 10)],
    }
    seen = (Seen("image", "own", 289, 1.0, 41.2), Seen("text", "wikipedia", 12_345, 0.65, 0.4))
    return [Training(name, metrics, curves, seen) for name in STAGES]


def corpora():
    """Pictures, texts and pairs, one of them with a long place and every reason to leave rows."""
    found = []
    for kind, rows in (("image", 305), ("text", 6012), ("pair", 300)):
        steps = ["read", "quarantined", "duplicates", "near_duplicates", "kept"]
        tally = dict(zip(steps, (rows, 2, 3, 1, rows - 6), strict=True))
        document = {
            "kind": kind,
            "steps": [
                {"step": "read", "removed": 0, "rows": rows},
                {"step": "quarantined", "removed": 2, "rows": rows - 2},
                {"step": "duplicates", "removed": 3, "rows": rows - 5},
                {"step": "near_duplicates", "removed": 1, "rows": rows - 6},
            ],
            "by_source": {"own": tally},
            "by_split": {
                "train": {"kept": rows - 26},
                "valid": {"kept": 5},
                "test": {"kept": 15},
            },
            "reasons": {"damaged or truncated": 1, "wider than 20 times its height": 1},
            "licences": {"own": "CC-BY 4.0 (Twemoji), CC-BY-SA 4.0 (OpenMoji)"},
            "files": {"count": rows, "bytes": 123_456_789, "sha256": "ab" * 32},
        }
        left = {"available": rows - 28, "rows": rows - 28, "share": 1.0}
        mixed = {
            "rows": rows - 28,
            "sources": {"own": left},
            "held_out": {"duplicates": 1, "near_duplicates": 1},
        }
        bars = [(f"{n * 16:,} – {n * 16 + 15:,}", (n * 7919) % 90) for n in range(14)]
        charts = tuple(
            (title, "16 to 239, mean 101.5", bar_chart(bars, title))
            for title in ("Width in pixels, before it was capped", "Words of a caption")
        )
        texts = ("a red flower with five petals beside a path",)
        picture = data_uri(_picture(1)) if kind != "text" else None
        samples = tuple(CardSample(picture, "own", "train", texts) for _ in range(4))
        place = f"/data/collections/herbarium-of-the-university/{kind}"
        found.append(CorpusCard(kind, document, charts, samples, {"own": place}, mixed))
    return found


class Restored:
    """As `pictures.Reconstruction`, without torch."""

    def __init__(self, seed):
        self.original, self.masked, self.predicted = (
            data_uri(_picture(seed + n)) for n in range(3)
        )


class Found:
    """As `pictures.Nearest`."""

    def __init__(self, caption):
        self.caption = caption
        self.pictures = [(data_uri(_picture(n)), 0.5 - n / 20, n == 1) for n in range(6)]


def report():
    """The report's page."""
    stages = {name: summary(0.02 * n - 0.04) for n, name in enumerate(STAGES)}
    before = summary(-0.05)
    objectives = dict.fromkeys(STAGES, ("mlm", "contrastive", "matching", "pair_mlm", "pair_mim"))
    changes = effects({"untrained": before, **stages}, objectives)
    names = [*STAGES, "fine-tune-demo-questions-stage3-pair", "prepare-image"]
    graph = [
        {
            "name": name,
            "fingerprint": "0123456789ab",
            "seconds": 12.3,
            "megabytes": 4.5,
            "inputs": "mix-image, mix-text, mix-pair, tokenizer, stage2-joint",
        }
        for name in names
    ]
    return Page(
        "demo",
        COMMAND,
        "0123456789abcdef0123456789abcdef01234567+changes",
        {"torch": "2.13.1", "ray": "2.60.0", "transformers": "5.17.0"},
        stages,
        trainings(),
        corpora(),
        graph,
        markdown_table(stages),
        [Restored(n) for n in range(8)],
        [Found("a long caption of a held-out picture, more words than a phone has room for")],
        before=before,
        effects=[*changes, replace(changes[-1], change=-0.02, low=-0.05, high=0.01)],
    ).render()


def evaluation():
    """The comparison of four models, with deltas."""
    names = ("ours", "clip-vit-base-patch16", "siglip", "flava-full")
    models = {name: summary(-0.03 * n) for n, name in enumerate(names)}
    del models["siglip"]["tasks"]["own/labels"]
    values = {"demo/mnist": 0.9, "own/labels": 0.6}
    against = {"last-week": {name: deltas(model, values) for name, model in models.items()}}
    return comparison_page(models, against, "0123456789abcdef", COMMAND)


def sweep_rows(count=8, seeds=3):
    """Finished rows of a space with numbers and words, and many metrics."""
    rows = []
    for n in range(count):
        rate, name = 10 ** (-4 + n / 2), ("accumulate", "alternate", "joint")[n % 3]
        parameters = {"stage1.train.optimizer.learning_rate": rate, "gradient_schedule": name}
        numbers = {
            str(seed): {
                "macro": 0.5 + 0.03 * n + 0.011 * seed,
                **{f"groups/{g}": 0.4 + 0.01 * n for g in ("image", "text", "multimodal")},
                **{f"tasks/demo/task_number_{t}": 0.1 * t + 0.003 * seed for t in range(7)},
                "training_seconds": 1234.5 + n,
            }
            for seed in range(seeds)
        }
        label = f"learning_rate={rate:.3g} gradient_schedule={name}"
        rows.append(
            TrialRow(f"{n:05d}", label, parameters, [parameters], "done", numbers, {}, 321.0)
        )
    return rows


def results(seeds=3, arms=False):
    """A sweep's results, of arms or of a space, with a failed and a stopped trial."""
    rows = sweep_rows(seeds=seeds)
    names = [row.label for row in rows]
    rows.append(TrialRow("x", "stopped early", {}, [{}], "stopped", steps=120))
    error = "stage stage3-pair failed: Traceback\n  File x\nValueError: " + "far too large " * 9
    rows.append(TrialRow("y", "failed", {}, [{}], "failed", error=error))
    definition = {
        "arms": {name: {} for name in names} if arms else {},
        "seeds": list(range(seeds)),
    }
    shown = ["macro", *[n for n in rows[0].seeds["0"] if n != "macro"]]
    return Results(
        *("objectives-hour", "macro", "max", COMMAND, "0123456789abcdef", "2 cores, 24 GB"),
        *("2026-11-30T10:00:00", 5234.0, definition, shown, rows),
    )


def sweep_report(arms):
    """The report of a sweep of arms, or of a space with the importance of its parameters."""
    found = results(arms=arms)
    curves = {row.label: _falling(5 + n, 2 + n / 10) for n, row in enumerate(found.ranked[:6])}
    charts = [
        (name, line_chart(curves, name)) for name in ("stage3-pair: loss/contrastive", "loss/mim")
    ]
    shares = {"stage1.train.optimizer.learning_rate": 0.8, "gradient_schedule": 0.2}
    return render(
        found,
        forest=forest(found),
        importance="" if arms else shares_chart(shares, "importance"),
        curves=charts,
        command=COMMAND,
    )


def _working(trial=""):
    text = "step 120/600  mim 0.931  contrastive 2.13  pair_mlm 5.02  1,812 samples/s  40 s left"
    return [
        Working("stage3-pair", "gpu-node-17.cluster.internal", 0.2, text, trial),
        Working("fine-tune-demo-questions-stage2-joint", "", None, "for 12.1 s", trial),
    ]


def dashboard():
    """A storage where a run and a sweep go on, others have ended or failed."""
    both = {"training": _falling(1.05, 0.98), "held-out": _falling(1.05, 0.99)[::5]}
    keys = (("training", colour_class(0)), ("held-out", colour_class(1)))
    svg = line_chart(both, "loss", {"training": 0, "held-out": 1}, dashed=("held-out",))
    charts = [Small(f"stage3-pair, loss {n}", svg, keys) for n in ("mim", "contrastive")]
    job = "19 of 43 stages done, at least 12 min left, not counting stage3-pair, report"
    going = RunView(
        *("demo-20261130-092432", COMMAND, "running", "2026-11-30 09:24", job, 19, 43, "host"),
        *(_working(), (), charts),
    )
    why = "UserError: /data/collections/herbarium/captions.csv has no column image, url or path"
    failed = RunView(
        *("demo-20261129-181200", COMMAND, "failed", "2026-11-29 18:12", "2 of 43 stages done"),
        *(2, 43, "host", (), [("prepare-pair", why)]),
    )
    rows = sweep_rows()
    best = best_of(rows, "macro", "max").in_words("macro", "max")
    trials = {"each trial": [(n, 0.5 + n % 3 / 10) for n in range(1, 9)]}
    small = Small("macro by trial", line_chart(trials, "x", dots=("each trial",), x_name="trial"))
    labels = {row.label: _falling(5 + n, 2) for n, row in enumerate(rows[:4])}
    keys = tuple((label, colour_class(n)) for n, label in enumerate(labels))
    curves = Small("stage3-pair, loss contrastive", line_chart(labels, "x"), keys)
    sweep = SweepView(
        *("objectives-hour", "running", "2026-11-30 08:00", 24, 8, 3, 1, 2, "macro", best),
        *("about 1 h 45 min left", False, _working(rows[0].label + ", seed 2"), [small, curves]),
    )
    ended = SweepView(
        *("a_sweep_with_a_rather_long_name-2026-11-29", "ended", "2026-11-29 08:00"),
        *(8, 8, 0, 0, 0, "macro", best, "", True, (), [small]),
    )
    leases = [("stage2-joint", "another-machine.internal, process 123456")]
    seen = Overview("/data/collections/runs", [going, failed], [sweep, ended], leases)
    links = [
        Link("Optuna", "http://127.0.0.1:8091/", "trials, values, importance; live"),
        Link("Ray", "", "Ray's own dashboard: start the sweep with --dashboard"),
    ]
    return index_page(seen, "objectives-hour", links, has_report=False, has_latest=True)


def side_by_side():
    """Three runs compared."""
    runs = [
        ComparedRun(
            f"objectives-hour:without matching:{n}",
            {f"stage3-pair: task.{name}": f"0.{n}" for name in ("matching", "pair_mlm")},
            {f"tasks/demo/task_number_{t}": 0.1 * t + n for t in range(4)},
            {f"stage3-pair: {name}": _falling(5 + n, 2) for name in ("loss/mim", "loss/mlm")},
        )
        for n in range(3)
    ]
    return comparison(runs)


PAGES = {
    "report": report,
    "evaluation": evaluation,
    "sweep of arms": lambda: sweep_report(True),
    "sweep of a space": lambda: sweep_report(False),
    "dashboard": dashboard,
    "runs side by side": side_by_side,
}
