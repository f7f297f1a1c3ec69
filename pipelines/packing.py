"""What a stage asks for at once, and the nodes of a cluster file that hold it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from momo_platform.stages import Stage, UserError

Bundle = Mapping[str, float]


def bundles(stage: Stage) -> Iterator[Bundle]:
    """What a stage asks for at once; each must lie on one node."""
    asked = stage.resources
    for _ in range(asked.workers):
        yield _bundle(asked.worker_cpus, asked.worker_gpus)
    if asked.num_cpus or asked.num_gpus:
        yield _bundle(asked.num_cpus, asked.num_gpus)
    for _ in range(int(asked.data_cpus)):
        yield _bundle(1.0, 0.0)


def _bundle(cpus: float, gpus: float) -> Bundle:
    return {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount}


def pack(asked: Sequence[Bundle], config: Mapping[str, Any]) -> dict[str, int]:
    """Node type → how many nodes hold all bundles, smallest and preferred types first. Raises
    UserError for what fits nowhere or needs more nodes than the file allows."""
    types = config.get("available_node_types", {})
    head = config.get("head_node_type", "")
    left_in_all = int(config.get("max_workers", 0))
    left = {n: int(t.get("max_workers", left_in_all)) for n, t in types.items() if n != head}
    sizes = {name: types[name].get("resources", {}) for name in left}
    first = {n: -int(types[n].get("priority", 0)) for n in sizes}  # Ray prefers higher ones
    by_size = sorted(
        sizes, key=lambda n: (sizes[n].get("GPU", 0), sizes[n].get("CPU", 0), first[n])
    )
    nodes: list[tuple[str, dict[str, float]]] = []
    for bundle in sorted(asked, key=lambda b: (-b.get("GPU", 0), -b.get("CPU", 0))):
        for _, room in nodes:
            if _fits(bundle, room):
                break
        else:
            fitting = [name for name in by_size if _fits(bundle, sizes[name])]
            if not fitting:
                raise UserError(f"no node type holds {dict(bundle)}")
            free = next((name for name in fitting if left[name] > 0), None)
            if free is None or left_in_all <= 0:
                raise UserError(
                    f"{len(asked)} times {dict(bundle)} needs more nodes than max_workers allows "
                    f"({', '.join(fitting)})"
                )
            left[free], left_in_all = left[free] - 1, left_in_all - 1
            room = dict(sizes[free])
            nodes.append((free, room))
        for name, amount in bundle.items():
            room[name] -= amount
    return {name: sum(1 for n, _ in nodes if n == name) for name, _ in nodes}


def _fits(bundle: Bundle, room: Mapping[str, float]) -> bool:
    return all(room.get(name, 0.0) >= amount for name, amount in bundle.items())


def always_there(config: Mapping[str, Any]) -> dict[str, int]:
    """Node type → nodes that run all the time. Raises UserError for more than there may be."""
    found = {}
    for name, kind in config.get("available_node_types", {}).items():
        least, most = int(kind.get("min_workers", 0)), kind.get("max_workers")
        if most is not None and least > int(most):
            raise UserError(f"{name}: min_workers {least} is more than max_workers {most}")
        if least:
            found[name] = least
    return found
