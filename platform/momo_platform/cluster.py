"""Finding or starting the Ray that a run uses."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momo_platform.application import variable
from momo_platform.private_ray import keep_signals, ray_folder, start_private, take_token
from momo_platform.ray_watch import watch_ray
from momo_platform.stages.errors import UserError

_PROBE_SECONDS = 1.0
_RESOURCES = variable("CLUSTER_RESOURCES")
# Ray Train's controller takes one report an interval (2 s unless told otherwise), and looks that
# often whether a worker has ended.
_ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
# A task that asked for no GPU sees none: Ray leaves all of them visible to it otherwise. Read by
# the workers: those of a private Ray have it from here, those of a cluster that is there already
# from its nodes' environment (cluster.yaml, Dockerfile), on any other from the job's.
_HIDES_GPUS = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}


@dataclass(frozen=True)
class RayConnection:
    """A connected Ray. `owned`: started here, so it ends here. `notice`: a line to show, or ''.
    `dashboard`: its dashboard's host and port, or ''."""

    address: str
    owned: bool
    notice: str = ""
    dashboard: str = ""

    def stop(self) -> None:
        """End the Ray that was started here; leave a cluster that was found, disconnected."""
        import ray

        ray.shutdown()
        take_token()

    def __enter__(self) -> RayConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def current_cluster_file() -> Path:
    """Where `ray start` and `ray up` write the address of this machine's cluster."""
    return ray_folder()[0] / "ray_current_cluster"


def answers(address: str) -> bool:
    """True when something listens at `host:port`."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return False
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_SECONDS):
            return True
    except OSError:
        return False


def find_address(address: str) -> tuple[str, str]:
    """(address, notice): `auto` becomes RAY_ADDRESS, a live cluster of this machine, or `local`.

    Raises UserError for an address that nobody answers at. The notice names a stale
    `ray_current_cluster` file, which makes every trainer end 12 s later.
    """
    told = ""
    if address == "auto" and (from_environment := os.environ.get("RAY_ADDRESS", "")):
        address, told = from_environment, "RAY_ADDRESS: "
    file = current_cluster_file()
    found = _content(file)
    alive = bool(found) and answers(found)
    notice = ""
    if found and not alive:
        notice = (
            f"{file} names a Ray cluster at {found} that does not answer; it slows the end of "
            "every training stage by about 12 s: delete the file"
        )
    if address == "auto":
        return (found if alive else "local"), notice
    place = address.removeprefix("ray://")
    if address != "local" and "://" not in place and not answers(place):
        raise UserError(
            f"{told}no Ray cluster answers at {address}; start one with `ray start --head`, or "
            f"{'unset RAY_ADDRESS' if told else 'leave the address out'} to run on this machine "
            "alone"
        )
    return address, notice


def _content(file: Path) -> str:
    """Of a file that anybody may have left in a folder for all, '' where it can't be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def cluster_cores() -> float:
    """CPUs of the cluster that this process is connected to."""
    import ray

    return float(ray.cluster_resources().get("CPU", 1.0))


def growth() -> dict[str, float]:
    """What the cluster that this machine heads can grow to: Ray resource → most; empty where
    nothing says so. From the application's CLUSTER_RESOURCES (JSON), else from the file that `ray
    up` leaves on the head. Raises UserError when either can't be read."""
    told = os.environ.get(_RESOURCES, "")
    if told:
        try:
            return {name: float(amount) for name, amount in json.loads(told).items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise UserError(
                f'{_RESOURCES}={told!r}: give JSON such as {{"CPU": 64, "GPU": 8}}'
            ) from error
    file = Path("~/ray_bootstrap_config.yaml")
    with contextlib.suppress(RuntimeError):  # a user without a home
        file = file.expanduser()
    if not file.is_file():
        return {}
    import yaml

    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        types, head = config["available_node_types"], config["head_node_type"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is no cluster's config: delete it, or start the cluster"
        ) from error
    most = int(config.get("max_workers") or 0)
    found: dict[str, float] = {}
    sizes: dict[str, list[float]] = {}  # resource → what each worker node could bring
    for name, kind in types.items():
        for resource, amount in (kind.get("resources") or {}).items():
            if not isinstance(amount, int | float):
                continue
            if name == head:
                found[resource] = float(amount)
            else:
                nodes = min(most, int(kind.get("max_workers", most)))
                sizes.setdefault(resource, []).extend([float(amount)] * nodes)
    for resource, amounts in sizes.items():
        largest = sorted(amounts, reverse=True)[:most]
        found[resource] = found.get(resource, 0.0) + sum(largest)
    return found


def start_ray(
    address: str = "auto",
    *,
    num_cpus: int | None = None,
    object_store_mb: int = 512,
    verbose: bool = False,
    dashboard: bool = False,
    worker_output: bool = True,
) -> RayConnection:
    """Connect to a cluster, or start a private Ray on this machine.

    `address` is `auto`, `local`, `host:port` or `ray://…`; `num_cpus` and `object_store_mb` hold
    for a private Ray only, as does `dashboard` (on 127.0.0.1). `worker_output`: what workers print
    is printed here too. Raises UserError when the address does not answer.
    """
    given = os.environ.get("RAY_ADDRESS") or address
    address, notice = find_address(address)
    if given == "auto" and address != "local":
        address = given  # only then does Ray look for the token of this machine's cluster
    for name, value in (_ENVIRONMENT | _HIDES_GPUS).items():
        os.environ.setdefault(name, value)
    import logging

    options: dict[str, Any] = {
        "log_to_driver": worker_output,
        "logging_level": logging.INFO if verbose else logging.WARNING,
    }
    if address != "local":
        _connect(address, options)
        return RayConnection(address, owned=False, notice=notice)
    url = start_private(
        num_cpus=num_cpus,
        include_dashboard=dashboard,
        object_store_memory=object_store_mb * 2**20,
        **options,
    )
    return RayConnection("local", owned=True, notice=notice, dashboard=url)


def _connect(address: str, options: Mapping[str, Any]) -> None:
    """Raises UserError for a cluster of another version, or that takes no token of ours."""
    import ray
    from ray.exceptions import RayError

    try:
        with keep_signals():
            ray.init(address, runtime_env={"env_vars": _HIDES_GPUS}, **options)
        if not address.startswith("ray://"):  # there, a server beside the head is the driver
            head = ray.get_runtime_context().gcs_address
            watch_ray(lambda: answers(head))
    except (ConnectionError, RuntimeError, RayError) as error:
        ray.shutdown()
        ours = f"Ray {ray.__version__} and Python {platform.python_version()}"
        raise UserError(
            f"--cluster {address}: {' '.join(str(error).split())} This process has {ours}: use the "
            "cluster's versions here, or leave the address out to run on this machine alone"
        ) from error
