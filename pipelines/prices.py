"""What a cluster file's nodes cost an hour: the user's prices, else the dated table's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momo_platform.stages import UserError

TABLE = Path(__file__).parents[1] / "clusters" / "prices.yaml"


@dataclass(frozen=True)
class Machine:
    """A line of the table: dollars an hour, the kind of its GPUs and their number."""

    dollars: float
    gpu: str = ""
    gpus: int = 0

    def __post_init__(self) -> None:
        kind = isinstance(self.dollars, int | float) and not isinstance(self.dollars, bool)
        if not kind or not 0.0 < self.dollars < math.inf:
            raise ValueError(f"dollars {self.dollars!r}: give dollars an hour, above 0")


@dataclass(frozen=True)
class Prices:
    """Dollars an hour of node types, and where they are from."""

    hourly: Mapping[str, float]
    source: str

    def dollars(self, nodes: Mapping[str, int], hours: float) -> float:
        """Of so many nodes of each type for `hours`. Raises UserError for one without a price."""
        if missing := sorted(set(nodes) - set(self.hourly)):
            raise UserError(f"--price: give dollars an hour of {', '.join(missing)} too")
        return hours * sum(self.hourly[name] * count for name, count in nodes.items())


def read_table(file: Path = TABLE) -> tuple[str, dict[str, dict[str, Machine]]]:
    """(date, region → machine → its line). Raises UserError that names the file and the place."""
    import yaml

    place = "the file"
    try:
        table = yaml.safe_load(file.read_text(encoding="utf-8"))
        place = "date"
        date = table["date"].isoformat()
        place = "regions"
        found: dict[str, dict[str, Machine]] = {}
        for region, machines in table["regions"].items():
            found[region] = {}
            for name, line in machines.items():
                place = f"regions.{region}.{name}"
                found[region][name] = Machine(**line)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: {place}: {error}; compare it with the checked-in file") from error
    return date, found


def machine_of(node_type: Mapping[str, Any]) -> str:
    """The provider's name of a node type's machine, "" where the file names none."""
    config = node_type.get("node_config") or {}
    return str(config.get("InstanceType") or config.get("machineType") or "")


def prices_of(config: Mapping[str, Any], given: Mapping[str, float], gpu: str) -> Prices | str:
    """For a `ray up` file whose hours are those of `gpu`. Where neither the user nor the table has
    every node type's price: why, as a text. Raises UserError for a price of no node type and for a
    file whose machines have another number of GPUs."""
    types = config.get("available_node_types", {})
    if given:
        if unknown := sorted(set(given) - set(types)):
            there = ", ".join(types)
            raise UserError(f"--price {', '.join(unknown)}: no such node type; there are {there}")
        return Prices(given, "--price")
    date, regions = read_table()
    region = str((config.get("provider") or {}).get("region") or "")
    known = regions.get(region)
    if known is None:
        there = ", ".join(sorted(regions))
        return f"no prices for {region or 'this file'} (there are {there}): give --price"
    machines = {name: machine_of(kind) for name, kind in types.items()}
    unknown = sorted(f"{n} ({m or 'no machine'})" for n, m in machines.items() if m not in known)
    if unknown:
        return f"no prices in {region} for {', '.join(unknown)}: give --price"
    for name, machine in machines.items():
        line, said = known[machine], (types[name].get("resources") or {}).get("GPU", 0)
        if said != line.gpus:
            raise UserError(f"{name}: {machine} has {line.gpus} GPUs, resources say {said}")
        if line.gpus and line.gpu != gpu:
            return f"no dollars: the hours are of {gpu}, {machine} has {line.gpu}; give --gpu"
    hourly = {name: known[machine].dollars for name, machine in machines.items()}
    return Prices(hourly, f"on-demand list prices of {date}, {region}")
