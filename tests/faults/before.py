"""Runs the tests of faults on an earlier commit and here: a test must fail where the fault is.

    python tests/faults/before.py COMMIT
    python tests/faults/before.py COMMIT tests/faults/test_fault_leases.py -k stolen

The earlier tree gets today's `tests/faults` and the files that lie directly in `tests`. Prints
JSON: test → how it ended before, with the first line of why, and how it ends now. The exit code is
1 where a test does not pass now; how many passed before, some by intent, is said on standard error.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_file(tree: Path, name: str, more: list[str]) -> dict[str, tuple[str, str]]:
    """Test → (outcome, why) of one file, run in a tree by a pytest of its own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        paths = [str(tree), str(tree / "platform"), str(tree / "tests")]
        command = [sys.executable, "-m", "pytest", name, "-q", "-m", "not slow", *more]
        command += ["-p", "no:cacheprovider", f"--junitxml={report}"]
        done = subprocess.run(
            command,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
        )
        found = _outcomes(name, report) if report.is_file() else {}
    if not found and done.returncode != 5:  # 5: no test was chosen
        lines = (done.stdout + done.stderr).strip().splitlines()
        found[name] = ("error", lines[-1] if lines else f"pytest ended with {done.returncode}")
    return found


def _outcomes(name: str, report: Path) -> dict[str, tuple[str, str]]:
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        outcome, why = "passed", ""
        for kind, word in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")):
            told = case.find(kind)
            if told is not None:
                outcome, why = word, told.get("message", "").strip().partition("\n")[0][:200]
                break
        found[f"{name}::{case.get('name')}"] = (outcome, why)
    return found


def lay_tests(tree: Path) -> None:
    """Today's tests of faults, and what they import from `tests`, into an earlier tree."""
    shutil.rmtree(tree / "tests" / "faults", ignore_errors=True)
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tests" / "faults", tree / "tests" / "faults", ignore=leave)
    for file in (ROOT / "tests").glob("*.py"):
        shutil.copy(file, tree / "tests" / file.name)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit")
    parser.add_argument("files", nargs="*", help="default: all of tests/faults/test_fault_*.py")
    parser.add_argument("-k", default="", help="as pytest's")
    parser.add_argument("--timeout", type=int, default=300, help="seconds a test")
    given = parser.parse_args()
    all_files = sorted((ROOT / "tests" / "faults").glob("test_fault_*.py"))
    names = given.files or [str(file.relative_to(ROOT)) for file in all_files]
    more = [f"--timeout={given.timeout}", *(["-k", given.k] if given.k else [])]
    folder = Path(tempfile.mkdtemp(prefix="before-"))
    tree = folder / "tree"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(tree), given.commit], check=True)
    told: dict[str, dict[str, str]] = {}
    try:
        lay_tests(tree)
        for name in names:
            before, now = run_file(tree, name, more), run_file(ROOT, name, more)
            for test in sorted({*before, *now}):
                (was, why), (ends, why_now) = (d.get(test, ("missing", "")) for d in (before, now))
                told[test] = {"before": was, "why": why, "now": ends}
                if ends != "passed":
                    told[test]["why_now"] = why_now
                print(f"{was} -> {ends}  {test}", file=sys.stderr, flush=True)
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(told, indent=1))
    counts = Counter((t["before"], t["now"]) for t in told.values())
    for (was, ends), count in sorted(counts.items()):
        print(f"{count} {was} before, {ends} now", file=sys.stderr)
    return 0 if all(t["now"] == "passed" for t in told.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
