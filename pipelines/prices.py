"""What a cluster file's nodes cost an hour: the user's prices, else the dated table's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momo_platform.stages import UserError

TABLE = Path(__file__).parents[1] / "clusters" / "prices.yaml"


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


def machine_of(node_type: Mapping[str, Any]) -> str:
    """The provider's name of a node type's machine, "" where the file names none."""
    config = node_type.get("node_config") or {}
    return str(config.get("InstanceType") or config.get("machineType") or "")


def prices_of(config: Mapping[str, Any], given: Mapping[str, float]) -> Prices | str:
    """For a `ray up` file. Where neither the user nor the table knows every node type's price: why,
    as a text."""
    if given:
        return Prices(given, "--price")
    import yaml

    table = yaml.safe_load(TABLE.read_text())
    region = str((config.get("provider") or {}).get("region") or "")
    known = table["regions"].get(region)
    if known is None:
        there = ", ".join(sorted(table["regions"]))
        return f"no prices for {region or 'this file'} (there are {there}): give --price"
    machines = {n: machine_of(kind) for n, kind in config.get("available_node_types", {}).items()}
    unknown = sorted(f"{n} ({m or 'no machine'})" for n, m in machines.items() if m not in known)
    if unknown:
        return f"no prices in {region} for {', '.join(unknown)}: give --price"
    hourly = {name: float(known[machine]) for name, machine in machines.items()}
    return Prices(hourly, f"on-demand list prices of {table['date']}, {region}")
