#!/bin/sh
# Does the project run on the oldest versions that pyproject.toml allows? Makes an environment of
# its own with Python 3.12 and those versions, then runs the model's tests and the smoke preset
# from source:
#
#     sh scripts/check_older.sh                 # make the environment where it is missing, then check
#     sh scripts/check_older.sh install         # only make it (about 6 GB)
#     PYTHON=/path/to/python3.12 VENV=/elsewhere sh scripts/check_older.sh
set -eu
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3.12}"
VENV="${VENV:-.venv-older}"
TORCH=2.11.0 TORCHVISION=0.26.0 TRANSFORMERS=5.17.0

fail() { echo "check_older: $1" >&2; exit 1; }

if [ ! -f "$VENV/.installed" ]; then
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
        fail "$PYTHON does not run. Name an interpreter: PYTHON=/path/to/python3.12 sh $0"
    [ "$version" = 3.12 ] || fail "$PYTHON is Python $version, 3.12 is needed."
    mkdir -p "$VENV"
    "$PYTHON" -m venv "$VENV"
    # All other versions as locked, but for those that torch and transformers pin themselves.
    grep -vE '^(torch|torchvision|transformers|tokenizers|huggingface_hub|hf-xet|triton|sympy|nvidia-|cuda-)' \
        requirements.lock >"$VENV/constraints.txt"
    # What pyproject.toml asks for, those three at the older versions, and what the tests import.
    "$VENV/bin/python" - >"$VENV/requirements.txt" <<'END'
import re, tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
wanted = project["dependencies"] + project["optional-dependencies"]["platform"]
name = lambda line: re.match(r"[A-Za-z0-9_.-]+", line)[0]
print(*(line for line in wanted if name(line) not in ("torch", "torchvision", "transformers")), sep="\n")
END
    echo "check_older: installing into $VENV (about 5 minutes; log: $VENV/install.log)"
    "$VENV/bin/python" -m pip install --disable-pip-version-check --retries 2 \
        -c "$VENV/constraints.txt" -r "$VENV/requirements.txt" \
        "torch==$TORCH" "torchvision==$TORCHVISION" "transformers==$TRANSFORMERS" \
        pytest pytest-timeout hypothesis psutil timm >"$VENV/install.log" 2>&1 || {
        tail -n 5 "$VENV/install.log" >&2
        fail "pip could not install them; details in $VENV/install.log."
    }
    touch "$VENV/.installed"
fi
[ "${1:-}" = install ] && exit 0

bin=$(cd "$VENV/bin" && pwd)
PYTHONPATH="$PWD:$PWD/platform:$PWD/tests"
export PYTHONPATH
"$bin/python" -c 'import sys, torch, torchvision, transformers as t
print("check_older: Python", sys.version.split()[0], "torch", torch.__version__,
      "torchvision", torchvision.__version__, "transformers", t.__version__)'
"$bin/python" -m pytest tests/momo -m "not slow" -q

storage=$(mktemp -d)
trap 'rm -rf "$storage"' EXIT
"$bin/python" pipelines/full.py --preset smoke --run.storage "$storage" --run.cluster local
echo "check_older: passed"
