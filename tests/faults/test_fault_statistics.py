"""Claims beyond the figures: uncorrected verdicts, seeds added after a look, equality without a
margin, and intervals that don't say what they cover. The corrections are computed here anew."""

import json
import re
import subprocess
import sys

import numpy as np
from corrected import COUNT, ROOT, corrected
from scipy import stats


def test_the_readme_gives_no_figure_that_correction_takes_away():
    """Every "by N points" of its table of findings is a confirmed difference."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    part = readme.split("## What mattered")[1].split("\n## ")[0]
    confirmed = {
        f"{abs(mean) * 100:.1f}"
        for experiment in COUNT
        for mean, p in corrected(experiment).values()
        if p < 0.05
    }
    assert set(re.findall(r"(?<![−+\d.])(\d+(?:\.\d)?) points?", part)) <= confirmed
    assert not re.search(r"harms|falls to|is better\W|are better", part.lower())


EQUALITY = re.compile(
    r"as good as|(?:the )?same quality|equally good|without (?:a )?loss of quality|no worse"
    r"|for free|makes no difference|no difference (?:is|was) shown",
    re.I,
)


def test_no_text_claims_equality():
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("experiments/*.py")]
    found = {
        f"{file.name}: {match[0]}"
        for file in texts
        if file.name != "CHANGELOG.md"
        for match in EQUALITY.finditer(" ".join(file.read_text(encoding="utf-8").split()))
    }
    assert found == set()


def begun(folder):
    """A run of the smoke budget that has been begun with seeds 0 to 2, as its driver leaves it."""
    own = folder / "sweeps" / "objectives-smoke"
    own.mkdir(parents=True)
    definition = {"seeds": [0, 1, 2], "base": "0", "arms": {}, "metric": "macro"}
    (own / "sweep.json").write_text(json.dumps(definition))


def test_seeds_can_not_be_added_to_a_run_even_with_fresh(tmp_path):
    """Finished stages stay, so `--fresh` with more seeds costs seconds."""
    begun(tmp_path)
    command = [sys.executable, "experiments/objectives.py", "--budget", "smoke", "--plan"]
    command += ["--storage", str(tmp_path)]
    for more in (["--seeds", "0", "1", "2", "3", "4", "--fresh"], ["--seeds", "0", "1", "2", "3"]):
        ran = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
        assert ran.returncode == 2, ran.stdout + ran.stderr
        assert "is a new run, so give it a --name and as many seeds that no run has" in ran.stderr
        assert len(ran.stderr.strip().splitlines()) == 1
    fresh = [*command, "--seeds", "3", "4", "5", "--name", "objectives-fresh"]
    assert subprocess.run(fresh, cwd=ROOT, capture_output=True).returncode == 0


def test_luck_among_many_arms_is_told_by_the_sweeps_report():
    """Twelve arms of pure noise, of which the raw interval of some leaves 0."""
    from momo_platform.sweeps.report import markdown
    from momo_platform.sweeps.rows import Results, TrialRow

    draw = np.random.default_rng(46)
    arms = {f"arm {i}": draw.normal(0.5, 0.02, 3) for i in range(13)}
    rows = [
        TrialRow(
            name, name, {}, [], "done", {str(s): {"macro": float(v)} for s, v in enumerate(values)}
        )
        for name, values in arms.items()
    ]
    raw = [stats.ttest_rel(values, arms["arm 0"]).pvalue for values in list(arms.values())[1:]]
    assert min(raw) < 0.05 < 12 * min(raw)  # luck, and not more
    definition = {"arms": dict.fromkeys(arms), "space": {}, "seeds": [0, 1, 2]}
    about = ("noise", "macro", "max", "c", "", "x", "2030-01-01", 1.0, definition, ["macro"])
    table = markdown(Results(*about, rows))
    head = next(line for line in table.splitlines() if line.startswith("| trial"))
    column = (
        [cell.strip() for cell in head.split("|")].index("p (Holm)") if "p (Holm)" in head else 0
    )
    assert column, f"no corrected p-values beside the intervals: {head}"
    cells = [line.split("|")[column].strip() for line in table.splitlines() if "| arm" in line]
    assert len(cells) == 13
    assert all(cell == "–" or float(cell) > 0.05 for cell in cells)
    assert "no clear winner" in table


def test_tables_say_what_their_intervals_cover():
    """One training's interval is the test sample's; over six seeds easy-VQA is far wider."""
    from momo.hf.card import render_card
    from pipelines.report.tables import markdown_table

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("## What the demo reaches")[1].split("\n## ")[0]
    assert "0.397–0.674" in table
    assert "test sample alone" in table
    values = {"metric": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6, "n": 500}
    row = {**values, "baseline": 0.1, "baseline_method": "chance", "group": "image", "note": ""}
    row |= {"chance": 0.1, "untrained": None, "limit": 0}
    covered = {group: [1, 1] for group in ("image", "text", "multimodal")}
    summary = {"tasks": {"demo/easy_vqa": row}, "groups": dict.fromkeys(covered, 0.5)}
    summary |= {"covered": covered, "not_available": {}}
    for text in (
        markdown_table({"m": summary}),
        render_card("m", recipe={}, tasks=summary["tasks"]),
    ):
        assert "0.400" in text
        assert "another seed moves a value too" in text
