"""The embeddings endpoint.

    python pipelines/serve.py [--model runs/latest/model] [--index FOLDER] [--keys FILE]
    serve run pipelines.serve:app                          # the same by Ray Serve's own command
    serve run pipelines.serve:app model=… index=… keys=…

Listens on 127.0.0.1:8000 unless told otherwise. `pipelines/index.py` makes an index.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from momo_platform.exit_codes import exit_code
from momo_platform.serving.config import Limits, Precision, ServingConfig, read_keys
from momo_platform.stages import UserError
from pipelines.commands.help_pages import SERVE
from pipelines.commands.short_help import for_parser, help_asked

DEFAULT_MODEL = "runs/latest/model"
NAME = "momo"
"""Of the application on Ray Serve."""


@dataclass(frozen=True)
class ServeOptions:
    """What to serve and where."""

    model: str = DEFAULT_MODEL
    """An exported model's folder; by default the newest report's."""
    index: str = ""
    """An index of `pipelines/index.py`, for search and the page."""
    classifier: str = ""
    """A fine-tuned classifier's folder, for /v1/classify."""
    keys: str = ""
    """A file with accepted bearer keys, one a line, readable by you alone; empty: no keys."""
    host: str = "127.0.0.1"
    """Other machines reach it only with another address here; give --keys then."""
    port: int = 8000
    allowed_hosts: tuple[str, ...] = ()
    """Names that requests may call it by, beside localhost and addresses; `*`: any. A stranger's
    page could have its own name resolve to this machine, and read answers that ask for no key."""
    cors_origins: tuple[str, ...] = ()
    """Pages of these origins may ask from a browser, e.g. https://example.org."""
    min_replicas: int = 1
    max_replicas: int = 1
    cpus: float = 1.0
    """Of each replica."""
    gpus: float = 0.0
    """Of each replica; 0.5: two share one. Without one the model runs on CPUs."""
    precision: Precision = "fp32"
    """Of the model's products: fp32, tf32 (on GPUs), bf16 or int8 (on CPUs)."""
    batch_size: int = 64
    batch_wait_ms: float = 1.0
    limits: Limits = Limits()
    cluster: str = "auto"
    verbose: bool = False


def config_of(options: ServeOptions) -> ServingConfig:
    """Raises UserError for a model, an index, a classifier or keys that are not there."""
    model = Path(options.model).expanduser().resolve()
    if not (model / "config.json").is_file():
        hint = " (run `make demo` first, or give --model)" if not model.exists() else ""
        raise UserError(f"--model {options.model}: no exported model there{hint}")
    index = ""
    if options.index:
        index = str(Path(options.index).expanduser().resolve())
        if not (Path(index) / "vectors.npy").is_file():
            raise UserError(
                f"--index {options.index}: no index there; make one with pipelines/index.py"
            )
    classifier = ""
    if options.classifier:
        classifier = str(Path(options.classifier).expanduser().resolve())
        if not (Path(classifier) / "classifier.safetensors").is_file():
            raise UserError(
                f"--classifier {options.classifier}: no classifier there; give a folder that "
                "momo.save_classifier wrote"
            )
    keys = read_keys(options.keys) if options.keys else ()
    return _config(options, model=str(model), index=index, classifier=classifier, keys=keys)


def config_elsewhere(options: ServeOptions) -> ServingConfig:
    """`config_of` for other machines, whose folders and keys can't be looked at here. Raises
    UserError for all else that it refuses."""
    return _config(options, model=options.model, index=options.index, classifier=options.classifier)


def _config(options: ServeOptions, **places: Any) -> ServingConfig:
    try:
        return ServingConfig(
            **places,
            name=NAME,
            title="MoMo embeddings",
            allowed_hosts=options.allowed_hosts,
            cors_origins=options.cors_origins,
            min_replicas=options.min_replicas,
            max_replicas=max(options.min_replicas, options.max_replicas),
            cpus=options.cpus,
            gpus=options.gpus,
            precision=options.precision,
            batch_size=options.batch_size,
            batch_wait_ms=options.batch_wait_ms,
            limits=options.limits,
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def app(arguments: Mapping[str, Any]) -> Any:
    """For `serve run` and Serve's config files: model, index, classifier, keys, allowed_hosts and
    cors_origins (with commas, or lists), replicas, cpus, gpus and precision; by default from
    MOMO_MODEL, MOMO_INDEX, MOMO_CLASSIFIER, MOMO_KEYS, MOMO_ALLOWED_HOSTS and MOMO_CORS_ORIGINS."""
    from momo_platform.serving.deployment import application
    from pipelines.serving import LOADERS

    environment = {n: os.environ.get(f"MOMO_{n.upper()}", "") for n in (*_PLACES, *_LISTS)}
    given = {n: v for n, v in environment.items() if v} | dict(arguments)
    return application(LOADERS, config_of(options_of_app(given)))


_PLACES = ("model", "index", "classifier", "keys")
_LISTS = ("allowed_hosts", "cors_origins")
_NUMBERS = {"min_replicas": int, "max_replicas": int, "cpus": float, "gpus": float}


def options_of_app(arguments: Mapping[str, Any]) -> ServeOptions:
    """`app`'s arguments, as text or as YAML has them. Raises UserError for a name that there is
    not, and for a value of another kind."""
    texts = (*_PLACES, "precision")
    known = {*texts, *_LISTS, *_NUMBERS}
    if unknown := sorted(set(arguments) - known):
        raise UserError(f"unknown {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        try:
            if name in _NUMBERS:
                found[name] = _NUMBERS[name](value)
                if found[name] != float(value):
                    raise ValueError
            elif name in _LISTS:
                parts = value.split(",") if isinstance(value, str) else list(value)
                found[name] = tuple(part for text in parts if (part := text.strip()))
            else:
                found[name] = value.strip()
        except (TypeError, ValueError, AttributeError):
            kind = "number" if name in _NUMBERS else "list" if name in _LISTS else "text"
            raise UserError(f"{name}: {value!r} is no {kind}") from None
    return ServeOptions(**found)


def __getattr__(name: str) -> Any:
    """`built`: the application with what the environment says, for `serve build`, which takes no
    function."""
    if name == "built":
        return app({})
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def deploy(options: ServeOptions) -> None:
    """Start or change the application; returns when it answers. Needs a Ray. Raises UserError for a
    model or an index that can't be served; what served before goes on then."""
    from momo_platform.serving.deployment import application
    from momo_platform.serving.launch import launch
    from momo_platform.serving.state import load_state
    from pipelines.serving import LOADERS

    config = config_of(options)
    _check_gpus(config.gpus)
    try:  # before Serve is told: it would stop what serves now for what can't
        # On the CPU: this machine may have no GPU, or it is another's.
        places = (config.model, config.index)
        load_state(LOADERS, *places, 1, "cpu", config.precision, config.classifier)
    except Exception as error:
        raise UserError(f"--model {options.model} can't be served: {error}") from error
    launch(application(LOADERS, config), config.name, options.host, options.port)


def _check_gpus(wanted: float) -> None:
    """Raise UserError where a replica would wait for ever for its GPU."""
    import ray

    from momo_platform.cluster import growth

    most = max(found.get("GPU", 0.0) for found in (ray.cluster_resources(), growth()))
    if wanted > most:
        raise UserError(
            f"--gpus {wanted:g}: the cluster has {most:g}; give fewer, or none for a model on CPUs"
        )


def _check_alone() -> None:
    """Raise UserError where Serve runs on this cluster already, maybe at another address."""
    import ray

    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return
    raise UserError(
        "Ray Serve runs on this cluster already, at its own address: use `serve deploy` there, "
        "or --cluster local for a private Ray"
    )


def _check_port(options: ServeOptions) -> None:
    """Raise UserError where nobody could listen."""
    if not 1 <= options.port <= 65_535:
        raise UserError(f"--port {options.port}: give one from 1 to 65535")
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise UserError(
            f"--host {options.host} --port {options.port}: can't listen there ({error.strerror}); "
            "end what does, or give another --port"
        ) from error


@contextlib.contextmanager
def serving(options: ServeOptions) -> Iterator[str]:
    """Serve for the length of a `with` block, then drain: the address. Raises UserError for what
    can't be served and for an address where nobody can listen."""
    from momo_platform.cluster import start_ray
    from momo_platform.serving.front import use_haproxy
    from momo_platform.serving.launch import stop

    config_of(options)
    if options.host not in ("127.0.0.1", "localhost", "::1") and not options.keys:
        raise UserError(
            f"--host {options.host}: others could reach it without a key; give --keys FILE"
        )
    _check_port(options)
    front = use_haproxy(options.host, options.port)
    import ray.serve  # noqa: F401 - reads the environment, and sets its logger up

    if not options.verbose:  # Serve tells of each of its steps
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
    with start_ray(
        options.cluster, verbose=options.verbose, worker_output=options.verbose
    ) as connection:
        if connection.notice:
            print(connection.notice, file=sys.stderr)
        _check_alone()
        inside = replace(options, host="127.0.0.1") if front and connection.owned else options
        try:
            deploy(inside)
            yield f"http://{options.host}:{options.port}"
        finally:
            stop(NAME)


def run(options: ServeOptions) -> int:
    """Serve until SIGINT or SIGTERM, then drain."""
    ended = threading.Event()
    with serving(options) as where:
        for number in (signal.SIGINT, signal.SIGTERM):  # now: Ray's start takes SIGTERM over
            signal.signal(number, lambda *_: ended.set())
        print(f"serving {options.model} at {where}/ (API: {where}/docs); Ctrl-C ends", flush=True)
        ended.wait()
        print("draining", flush=True)
    return 0


def parse(arguments: Sequence[str]) -> ServeOptions:
    """The options of a command line."""
    import tyro

    return tyro.cli(
        ServeOptions, args=for_parser(arguments), prog="momo serve", description=__doc__
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after Ctrl-C, 2 for bad input."""
    given = sys.argv[1:] if arguments is None else list(arguments)

    def work() -> int:
        return 0 if help_asked("serve", SERVE, given) else run(parse(given))

    return exit_code(work, "nothing is lost", place="TMPDIR")


if __name__ == "__main__":
    sys.exit(main())
