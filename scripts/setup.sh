#!/bin/sh
# Makes the virtual environment once. Every failure is one line that says what to do.
set -eu
VENV="${VENV:-.venv}"
NEEDED_MB=8500

fail() { echo "setup: $1" >&2; exit 1; }

# The first of some interpreters that is new enough.
find_python() {
    for candidate in "$@"; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"; return 0
        fi
    done
    return 1
}

asked="${PYTHON:-python3}"
if [ "$asked" = python3 ]; then
    interpreter=$(find_python python3 python3.11 python3.12 python3.13) ||
        fail "Python 3.11 or newer is needed, found $(python3 --version 2>&1 || true). Install it, or name it: make PYTHON=/path/to/python3.11 ..."
elif ! command -v "$asked" >/dev/null 2>&1; then
    fail "PYTHON=$asked: no such program. Give the path of a Python 3.11 or newer, or leave PYTHON out."
else
    interpreter=$(find_python "$asked") ||
        fail "PYTHON=$asked: Python 3.11 or newer is needed, it is $("$asked" --version 2>&1 | head -n 1)."
fi

free_mb=$(df -Pm . | awk 'NR == 2 {print $4}')
if [ ! -x "$VENV/bin/ray" ] && [ "$free_mb" -lt "$NEEDED_MB" ]; then
    fail "the installation needs ${NEEDED_MB} MB, $(pwd) has ${free_mb} MB free. Make room, or clone to another disk."
fi

log="$VENV/install.log"
"$interpreter" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$interpreter has no venv module. Install it (on Debian and Ubuntu: apt install python3-venv)."
[ -x "$VENV/bin/python" ] || "$interpreter" -m venv "$VENV"
echo "setup: installing the locked dependencies into $VENV (about 5 minutes and 7.7 GB; log: $log)"
if ! "$VENV/bin/python" -m pip install --disable-pip-version-check --retries 2 \
    -r requirements.lock >"$log" 2>&1; then
    if grep -qiE 'no space left' "$log"; then
        fail "the disk is full ($(df -Pm . | awk 'NR == 2 {print $4}') MB free, ${NEEDED_MB} MB needed). Make room and run the same command again."
    elif grep -qiE 'connection|timed out|name resolution|max retries|unreachable|proxy|ssl' "$log"; then
        fail "the package registry is out of reach. Check the network or pip's settings (pip config list), then run the same command again; details in $log."
    fi
    tail -n 5 "$log" >&2
    fail "pip could not install requirements.lock; details in $log."
fi
"$VENV/bin/python" -m pip install --disable-pip-version-check --no-deps --no-build-isolation \
    -e . >>"$log" 2>&1 || fail "pip could not install this project; details in $log."
echo "setup: done"
