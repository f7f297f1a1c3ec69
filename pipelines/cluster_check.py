"""Check cluster files offline: Ray's own schema, what is open, and whether the presets fit.

    python pipelines/cluster_check.py [cluster.yaml clusters/kuberay.yaml …] [--presets base large]

Needs no account. Each stage's workers are packed onto the file's node types; what doesn't fit is
named with its stage. With `--gpu` and `--mfu` hours of training are estimated as `full.py --plan`
does, and what they cost: at the dated prices of clusters/prices.yaml, or at yours (`--price NODE
DOLLARS_AN_HOUR …`). The pods of a RayJob or a RayService are checked by Kubernetes' schema, their
other fields by clusters/kuberay.crd.yaml; of a RayService also whether its replicas fit.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from momo_platform.bounds import check_bounds
from momo_platform.exit_codes import exit_code
from momo_platform.ray_internals import validated_cluster
from momo_platform.stages import Stage, UserError
from pipelines import kuberay, rayservice
from pipelines.mounts import dead_links
from pipelines.packing import always_there, bundles, pack
from pipelines.presets import PRESETS
from pipelines.prices import Prices, prices_of

FILES = (
    *("cluster.yaml", "clusters/gcp.yaml"),
    *("clusters/kuberay.yaml", "clusters/rayservice.yaml"),
)


@dataclass(frozen=True)
class CheckOptions:
    """What to check."""

    files: Annotated[tuple[str, ...], tyro.conf.Positional] = FILES
    """Clusters of `ray up`, RayJobs or RayServices."""
    presets: tuple[str, ...] = ("base", "large")
    """Whose stages must fit."""
    gpu: str = "A100"
    """What hours are estimated for: A100, H100 or another that `full.py --plan` knows."""
    mfu: float = 0.35
    """The share of its peak that training reaches."""
    crd: str = str(kuberay.FIELDS)
    """What to check RayJobs and RayServices by; your operator's own: `kubectl get crd
    rayjobs.ray.io rayservices.ray.io -o yaml`."""
    price: dict[str, float] = field(default_factory=dict)
    """Dollars an hour of one file's node types, e.g. --price gpu-spot 12.5 data-spot 0.5 head 0.4;
    without it those of clusters/prices.yaml."""

    def __post_init__(self) -> None:
        check_bounds(self, mfu=(0.001, 1.0))
        for name, dollars in self.price.items():
            if not 0.0 <= dollars < math.inf:
                raise ValueError(f"price {name} {dollars:g}: give dollars an hour, 0 or more")


def load(file: str) -> dict[str, Any]:
    """A YAML mapping. Raises UserError for what is none."""
    import yaml

    try:
        config = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not valid YAML: {error}") from error
    if not isinstance(config, dict):
        raise UserError(f"{file} holds no cluster: it must be a mapping")
    return config


def read(file: str) -> dict[str, Any]:
    """The cluster file of `ray up` as it stands. Raises UserError that names file and field when
    Ray would refuse it."""
    config = load(file)
    check_schema(file, config)
    return config


def check_schema(file: str, config: dict[str, Any]) -> None:
    """By Ray's own schema, after Ray has filled in its defaults."""
    from jsonschema import ValidationError

    try:
        validated_cluster(config)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.absolute_path) or "the file"
        raise UserError(f"{file}: {place}: {error.message}") from error
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"{file}: {type(error).__name__}: {error}") from error


def open_doors(config: Mapping[str, Any]) -> list[str]:
    """What of a cluster could be reached from outside, or would run without a token."""
    found = []
    starts = [
        *config.get("head_start_ray_commands", ()),
        *config.get("worker_start_ray_commands", ()),
    ]
    for option, host in re.findall(
        r"(--dashboard-host|--ray-client-server-host)[= ]+[\"']?([^\s\"';]*)",
        " ".join(map(str, starts)),
    ):
        if host not in ("127.0.0.1", "localhost"):
            found.append(f"{option} {host}: the port would be open; give 127.0.0.1")
    if not config.get("head_start_ray_commands"):
        found.append("head_start_ray_commands: Ray's own opens the dashboard to every address")
    setup = "\n".join([*config.get("setup_commands", ()), *starts])
    modes = re.findall(r"\bRAY_AUTH_MODE=[\"']?(\w*)", re.sub(r"#.*", "", setup))
    if set(modes) != {"token"}:
        found.append("no command sets RAY_AUTH_MODE=token: anyone in the network could run code")
    if "~/.ray/auth_token" not in (config.get("file_mounts") or {}):
        found.append("file_mounts brings no ~/.ray/auth_token: `make cluster-env` makes it")
    for rule in config.get("provider", {}).get("security_group", {}).get("IpPermissions", ()):
        if rule.get("FromPort") != 22 or rule.get("ToPort") != 22:
            first, last = rule.get("FromPort", "any"), rule.get("ToPort", "any")
            found.append(f"security_group opens ports {first!r} to {last!r}: give 22 alone")
    return found


def stages_of(preset: str) -> list[Stage]:
    """The preset's graph in its order, without corpora."""
    from pipelines.graph import build_graph

    if preset not in PRESETS:
        raise UserError(f"--presets {preset}: there are {', '.join(PRESETS)}")
    config = PRESETS[preset]()
    return list(build_graph(replace(config, run=replace(config.run, plan=True))).values())


def hours_of(stage: Stage, preset: str, options: CheckOptions) -> float | None:
    """Of a training stage on the file's accelerators, as `--plan` estimates them."""
    from pipelines.estimates import device_named, estimate_stage
    from pipelines.training import StageRecipe

    if not isinstance(stage.config, StageRecipe):
        return None
    found = estimate_stage(stage.name, stage.config, PRESETS[preset]().packed_text_length)
    return found.hours(device_named(options.gpu), options.mfu)


def check_preset(config: Mapping[str, Any], preset: str, options: CheckOptions) -> list[str]:
    """Lines about one preset. Raises UserError for a stage that can never run there."""
    lines, cost = [], 0.0
    prices = prices_of(config, options.price, options.gpu)
    always = {str(config.get("head_node_type", "")): 1} | always_there(config)
    for stage in stages_of(preset):
        try:
            nodes = pack(list(bundles(stage)), config)
        except UserError as error:
            raise UserError(f"preset {preset}, stage {stage.name}: {error}") from error
        hours = hours_of(stage, preset, options)
        if hours is None:
            continue
        told = ", ".join(f"{count} {name}" for name, count in nodes.items())
        line = (
            f"  {preset} {stage.name}: {told}; {hours:.1f} h ({options.gpu}, MFU {options.mfu:g})"
        )
        if isinstance(prices, Prices):
            there = {n: max(nodes.get(n, 0), always.get(n, 0)) for n in {**nodes, **always}}
            dollars = prices.dollars(there, hours)
            line = f"{line}, {dollars:,.0f} dollars ({dollars / hours:,.2f} an hour)"
            cost += dollars
        lines.append(line)
    if not lines:
        lines.append(f"  {preset}: every stage fits; hours are not estimated for its trainings")
    elif isinstance(prices, Prices):
        lines.append(f"  {preset}, all three trainings: {cost:,.0f} dollars ({prices.source})")
    else:
        lines.append(f"  {preset}: {prices}")
    return lines


def read_for_kuberay(config: dict[str, Any], options: CheckOptions) -> dict[str, Any]:
    """The node types of a RayJob or a RayService. Raises UserError that names the field which
    Kubernetes or we would refuse."""
    kuberay.check_pods(config)
    check = rayservice if config["kind"] == "RayService" else kuberay
    if found := check.problems(config):
        raise UserError("; ".join(found))
    kuberay.check_crd(config, options.crd)
    return kuberay.as_cluster(config)


def run(options: CheckOptions) -> int:
    """Print what was found; 2 when a file or a preset can't be used."""
    if options.price and len(options.files) > 1:
        raise UserError("--price names node types of one file: give that file too")
    for file in options.files:
        try:
            _check(file, options)
        except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
            raise UserError(
                f"{file}: a field is empty or not of its kind ({type(error).__name__}: {error}); "
                "compare it with the checked-in file"
            ) from error
    return 0


def _check(file: str, options: CheckOptions) -> None:
    config = load(file)
    if not kuberay.is_for_kuberay(config):
        if "provider" not in config:
            raise UserError(
                f"{file} is neither a cluster of `ray up` (no provider) nor a RayJob nor a "
                "RayService"
            )
        check_schema(file, config)
    try:
        print(f"{file}: {_check_content(config, options)}")
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _check_content(config: dict[str, Any], options: CheckOptions) -> str:
    """What was found, as lines. Raises UserError that does not name the file."""
    if config.get("kind") == "RayService":
        read_for_kuberay(config, options)
        served, most = rayservice.options_of(config), rayservice.room(config)
        return (
            "Kubernetes' schema of pods, KubeRay's fields and Serve's config hold; found nothing "
            "open but the service inside the cluster, which asks for keys\n"
            f"  {served.min_replicas} to {served.max_replicas} replicas of {served.cpus:g} CPUs; "
            f"the groups grow to {most}"
        )
    if kuberay.is_for_kuberay(config):
        config = read_for_kuberay(config, options)
        schema = "Kubernetes' schema of pods and KubeRay's fields hold"
        reached = "pods to one another"
    else:
        schema, reached = "Ray's schema holds", "SSH"
        if doors := open_doors(config):
            raise UserError("; ".join(doors))
        if dead := dead_links(config):
            raise UserError(
                f"file_mounts: {dead[0]} is a link to nothing, at which `ray up` ends: delete it"
            )
    types = config.get("available_node_types", {})
    head = types.get(config.get("head_node_type", ""), {})
    if head.get("resources", {}).get("CPU", 1) != 0:
        raise UserError("the head node has CPUs: work would run beside the driver")
    lines = [f"{schema}; found nothing open but {reached}; the head offers no CPUs"]
    for preset in options.presets:
        lines += check_preset(config, preset, options)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for a file or a preset that can't be used."""

    def work() -> int:
        how = {"prog": "cluster_check.py", "description": __doc__}
        return run(tyro.cli(CheckOptions, args=arguments, **how))

    return exit_code(work, "nothing was changed")


if __name__ == "__main__":
    sys.exit(main())
