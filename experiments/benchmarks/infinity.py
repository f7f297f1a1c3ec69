"""Our endpoint beside infinity-emb, both over HTTP on the same cores.

    python -m venv ENV
    ENV/bin/pip install "infinity-emb[server,torch]==0.0.78" pillow torchvision \
        "transformers<5" "sentence-transformers<4" "click<8.2"
    python experiments/benchmarks/infinity.py --peer-python ENV/bin/python [--size small]

infinity has an environment of its own, since it needs older packages. Its models are made there
(`infinity_models.py`): as many layers, as wide, with as many heads, words, positions and patches as
ours, the same tokenizer, weights at random, vectors as long. For texts it serves a BERT by
sentence-transformers, for pictures, and pictures with texts, CLIP's class; its own defaults
otherwise, torch.compile among them (`--peer-eager`: without). One torch thread on each side; this
process sends the requests, an item each, over loopback. The two take turns; medians.

- short: texts of 2 to 9 words; mixed texts: two in three short, the others of 40 to 119 words;
  texts and pictures: `serving.py`'s mix; pictures: PNG of 160 × 120. All with 32 in flight;
- p50 of short texts and of pictures with one in flight;
- all of it with our model in fp32 and in int8, infinity's in fp32.

About 10 minutes on two cores with size small and `--requests 128`, for each `--precision`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from experiments.benchmarks.harness import Row, compare, finish, in_a_process, in_turn, parser
from experiments.benchmarks.serving import IN_FLIGHT, answering, endpoint, request_of, send
from experiments.benchmarks.serving_peers import make_model, workload
from momo.config import SIZES
from momo.tokenizer import load_tokenizer
from momo_platform.machine import free_ports

VERSION = "0.0.78"
PEER = f"infinity-emb {VERSION}"
Item = dict[str, Any]
_INSTALL = (
    f'ENV/bin/pip install "infinity-emb[server,torch]=={VERSION}" pillow torchvision '
    '"transformers<5" "sentence-transformers<4" "click<8.2"'
)
_COUNTED = 16
"""Texts whose numbers of tokens are compared."""


def _texts(count: int, seed: int, kinds: tuple[str, ...]) -> list[Item]:
    """So many texts of `workload`'s, of its short ones, its long ones, or both."""
    found = [item for item in workload(2 * count, seed) if "text" in item and _kind(item) in kinds]
    return found[:count]


def _kind(item: Item) -> str:
    return "picture" if "image" in item else "short" if len(item["text"].split()) < 20 else "long"


def _pictures(count: int, seed: int) -> list[Item]:
    return [item for item in workload(4 * count, seed) if "image" in item][:count]


LOADS: Mapping[str, Callable[[int, int], list[Item]]] = {
    "short texts": lambda count, seed: _texts(count, seed, ("short",)),
    "mixed texts": lambda count, seed: _texts(count, seed, ("short", "long")),
    "texts and pictures": workload,
    "pictures": lambda count, seed: _pictures(count // 2, seed),
}
"""Name → items, given how many and a seed."""
GOALS = {
    "fp32": {
        "short texts": 1.0,
        "mixed texts": 1.3,
        "texts and pictures": 1.3,
        "pictures": 1.1,
    },
    "int8": dict.fromkeys(LOADS, 2.5),
}
MOST_P50 = 0.7


def peer_request(load: str, item: Item) -> Item:
    """A request to infinity: texts alone go to the BERT, all else to CLIP's class."""
    model = "texts" if load in ("short texts", "mixed texts") else "both"
    if "image" in item:
        picture = "data:image/png;base64," + item["image"]
        return {"model": model, "modality": "image", "input": [picture]}
    return {"model": model, "input": item["text"]}


def checked_peer(python: str) -> Path:
    """The folder of infinity's programs. Raises SystemExit where it is not there, or another."""
    hint = f"make one: python -m venv ENV && {_INSTALL}; then --peer-python ENV/bin/python"
    if not python:
        raise SystemExit(f"--peer-python: give the Python that has infinity-emb; {hint}")
    place = Path(python).expanduser().absolute()
    if not os.access(place, os.X_OK):
        raise SystemExit(f"--peer-python {python}: no program there; {hint}")
    ask = "import importlib.metadata as m; print(m.version('infinity-emb'))"
    asked = subprocess.run([place, "-c", ask], capture_output=True, text=True, env=_peers_own())
    found = asked.stdout.strip()
    if asked.returncode or not (place.parent / "infinity_emb").is_file():
        raise SystemExit(f"--peer-python {python}: it has no infinity-emb; {hint}")
    if found != VERSION:
        raise SystemExit(f"--peer-python {python}: it has infinity-emb {found}, not {VERSION}")
    return place.parent


def _peers_own() -> dict[str, str]:
    """An environment without our modules, hub and telemetry; one thread."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    silent = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    return kept | threads | silent


def make_peer_models(python: Path, ours: Path, folder: Path) -> None:
    """infinity's two models of the size of the export `ours`. Raises SystemExit where it counts
    other tokens than ours."""
    config = json.loads((ours / "config.json").read_text(encoding="utf-8"))
    longest = config["model"]["max_text_length"]
    texts = [item["text"] for item in _texts(_COUNTED, 0, ("short", "long"))]
    facts = {
        "shape": asdict(SIZES["demo"]) | config["model"],
        "text_length": min(config.get("text_length") or longest, longest),
        "tokenizer": str(ours / "tokenizer.json"),
        "texts": texts,
    }
    maker = Path(__file__).with_name("infinity_models.py")
    made = subprocess.run(
        [python, maker, folder, json.dumps(facts)],
        stdout=subprocess.PIPE,
        text=True,
        env=_peers_own(),
    )
    if made.returncode:
        raise SystemExit("infinity's models could not be made; the error stands above")
    encoded = load_tokenizer(ours / "tokenizer.json").encode_batch(texts)
    wanted = [min(len(one.ids), facts["text_length"]) for one in encoded]
    if (found := json.loads(made.stdout.splitlines()[-1])) != wanted:
        raise SystemExit(f"infinity counts {found} tokens, ours {wanted}: no fair comparison")


@contextmanager
def peer_answering(programs: Path, folder: Path, compiled: bool) -> Iterator[str]:
    """infinity's address, once both models embed."""
    (port,) = free_ports(1)
    command = [programs / "infinity_emb", "v2", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--url-prefix", "/v1", "--device", "cpu", "--engine", "torch"]
    command += ["--compile" if compiled else "--no-compile", "--log-level", "error"]
    for name in ("texts", "both"):
        command += ["--model-id", folder / name, "--served-model-name", name]
    process = subprocess.Popen(command, stdout=sys.stderr, env=_peers_own())
    with answering(process, port, {"model": "both", "input": "a tree"}) as url:
        yield url


def measure(ours: str, theirs: str, options: argparse.Namespace) -> list[Row]:
    """Both sides in turn under each load, then one request at a time."""
    side = f"size {options.size}, {options.precision}"
    rows = []
    for load in options.loads:
        items_of = LOADS[load]
        seeds = {"ours": iter(range(100)), "infinity": iter(range(100))}
        calls = {
            name: partial(_rate, url, load, items_of, options.requests, seeds[name], name == "ours")
            for name, url in (("ours", ours), ("infinity", theirs))
        }
        found = in_turn(options.runs, calls, f"{load}, items/s", warm_ups=1)
        goal = GOALS[options.precision][load]
        values = (f"{load}, {side}", found["ours"], PEER, found["infinity"])
        rows.append(compare(*values, unit="items/s", least_ratio=goal))
    for load in [name for name in ("short texts", "pictures") if name in options.loads]:
        items = LOADS[load](max(options.requests // 2, 16), 0)
        calls = {
            name: partial(_p50, url, load, items, name == "ours")
            for name, url in (("ours", ours), ("infinity", theirs))
        }
        found = in_turn(options.runs, calls, f"{load}, p50 at one in flight, ms", warm_ups=1)
        name = f"p50 at one in flight, {load}, {side}"
        values = (name, found["ours"], PEER, found["infinity"])
        rows.append(compare(*values, unit="ms", largest_ratio=MOST_P50))
    return rows


def _bodies(load: str, items: Sequence[Item], is_ours: bool) -> list[Item]:
    return [request_of(item) if is_ours else peer_request(load, item) for item in items]


def _rate(
    url: str,
    load: str,
    items_of: Callable[[int, int], list[Item]],
    count: int,
    seeds: Iterator[int],
    is_ours: bool,
) -> float:
    """Items a second of the next seed's load."""
    bodies = _bodies(load, items_of(count, next(seeds)), is_ours)
    return len(bodies) / send(url, bodies, IN_FLIGHT)[0]


def _p50(url: str, load: str, items: Sequence[Item], is_ours: bool) -> float:
    return 1000 * statistics.median(send(url, _bodies(load, items, is_ours), 1)[1])


def main() -> int:
    """Print the JSON document; progress to standard error."""
    options = parser(__doc__)
    options.add_argument("--peer-python", default="", metavar="FILE", help=_INSTALL)
    options.add_argument("--peer-eager", action="store_true", help="without torch.compile there")
    options.add_argument("--size", default="small", choices=("demo", "small", "base"))
    options.add_argument("--precision", default="both", choices=("fp32", "int8", "both"))
    options.add_argument("--loads", nargs="+", default=list(LOADS), choices=list(LOADS))
    options.add_argument("--requests", type=int, default=256, help="of each run; half for pictures")
    options.add_argument("--runs", type=int, default=5)
    given = options.parse_args()
    if given.quick:
        given.runs, given.requests = 1, 32
    chosen = ("fp32", "int8") if given.precision == "both" else (given.precision,)
    programs = checked_peer(given.peer_python)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        in_a_process(make_model, str(folder / "ours"), given.size)
        make_peer_models(programs / "python", folder / "ours", folder)
        with peer_answering(programs, folder, not given.peer_eager) as theirs:
            for precision in chosen:
                given.precision = precision
                with endpoint(folder / "ours", precision=precision) as ours:
                    rows += measure(ours, theirs, given)
    return finish(rows, peer_compiles=not given.peer_eager)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end too
    sys.exit(main())
