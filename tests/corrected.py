"""Published differences, corrected for their number, apart from the project's own code."""

import json
from pathlib import Path
from statistics import fmean

from scipy import stats

import experiments

ROOT = Path(experiments.__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
COUNT = {  # the runs from which each experiment's answer is made, and those looked at beforehand
    "flava": ("flava-codebook-3-2026-11-27", "flava-seeds-3-5-2026-11-27"),
    **{
        name: (f"{name}-2026-11-{day}",)
        for name, day in {
            **dict.fromkeys(("shared_layers", "model_size", "objectives", "shared_passes"), 27),
            **dict.fromkeys(("images_in_stage3", "initialisation", "mask_ratios"), 27),
            **dict.fromkeys(("training_stages", "joint_stage", "gradient_schedule"), 26),
            "modality_weights": 27,
        }.items()
    },
}


def differences(content):
    """Arm → differences by seed from the first arm, of one published run."""
    metric, first = content["metric"], next(iter(content["definition"]["arms"]))
    rows = {row["label"]: row["seeds"] for row in content["rows"]}
    return {
        arm: [numbers[metric] - rows[first][seed][metric] for seed, numbers in seeds.items()]
        for arm, seeds in rows.items()
        if arm != first
    }


def corrected(experiment):
    """Arm → (mean, Holm's p) by its last run alone, whose seeds nobody had looked at."""
    found = {}
    for stem in COUNT[experiment]:
        found |= differences(json.loads((RESULTS / f"{stem}.json").read_text()))
    p = {arm: stats.ttest_1samp(values, 0.0).pvalue for arm, values in found.items()}
    result, largest = {}, 0.0
    for place, arm in enumerate(sorted(p, key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - place) * p[arm]))
        result[arm] = (fmean(found[arm]), largest)
    return result
