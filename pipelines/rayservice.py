"""Checks of a RayService without a Kubernetes: what Serve is told, who is asked for a key, and
whether the replicas fit into the pods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from momo_platform.stages import UserError
from pipelines.kuberay import (
    Manifest,
    as_cluster,
    cluster_of,
    cluster_problems,
    container_of,
    groups,
)
from pipelines.serve import ServeOptions, config_elsewhere, options_of_app

_IMPORT = "pipelines.serve:app"
_HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"
_FOLDERS = ("model", "index", "classifier", "keys")


def serve_config(config: Manifest) -> dict[str, Any]:
    """`serveConfigV2`, read. Raises UserError for what Serve itself would refuse."""
    import yaml
    from pydantic import ValidationError
    from ray.serve.schema import ServeDeploySchema

    try:
        found = yaml.safe_load(config["spec"]["serveConfigV2"])
        ServeDeploySchema.model_validate(found)
    except (KeyError, AttributeError) as error:
        raise UserError("spec.serveConfigV2 is missing: nothing would be served") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise UserError(f"spec.serveConfigV2: {error}") from error
    if len(found["applications"]) != 1 or found["applications"][0]["import_path"] != _IMPORT:
        raise UserError(f"spec.serveConfigV2: give one application, {_IMPORT}")
    return found


def options_of(config: Manifest) -> ServeOptions:
    """The application's `args`, as it takes them. Raises UserError for what it would refuse, a name
    that there is not or a wrong value, and for replicas without a CPU."""
    given = serve_config(config)["applications"][0].get("args") or {}
    try:
        options = options_of_app(given)
        options = replace(options, max_replicas=config_elsewhere(options).max_replicas)
        if not options.cpus:
            raise UserError(
                "cpus: 0: all replicas could come to lie in one pod, or on the head; give 1 or more"
            )
    except UserError as error:
        raise UserError(f"spec.serveConfigV2: args: {error}") from error
    return options


def problems(config: Manifest) -> list[str]:
    """What could be reached from outside or without a key, and replicas that no pod can hold."""
    options = options_of(config)
    found = cluster_problems(config)
    service = (config["spec"].get("serveService") or {}).get("spec") or {}
    if service.get("type", "ClusterIP") != "ClusterIP":
        found.append(f"serveService has type {service['type']}: give ClusterIP, and an ingress")
    if not options.keys:
        found.append("serveConfigV2: args has no keys: whoever reaches the service could use it")
    for name, group in groups(config):
        container = container_of(name, group)
        told = {entry["name"]: entry.get("value") for entry in container.get("env", ())}
        if told.get(_HAPROXY) != "1":
            found.append(f"group {name} has no {_HAPROXY}=1: Python would handle every request")
        mounted = [mount["mountPath"] for mount in container.get("volumeMounts", ())]
        for argument in _FOLDERS:
            place = getattr(options, argument)
            if place and not any(PurePosixPath(place).is_relative_to(m) for m in mounted):
                found.append(f"group {name} mounts nothing that holds {argument} {place}")
    return found + _without_room(config, options)


def room(config: Manifest) -> int:
    """How many replicas all pods hold when the groups have grown."""
    cpus = options_of(config).cpus
    return sum(
        int(kind["resources"]["CPU"] // cpus) * kind["max_workers"] for kind in _workers(config)
    )


def _without_room(config: Manifest, options: ServeOptions) -> list[str]:
    found = []
    if all(kind["resources"]["CPU"] < options.cpus for kind in _workers(config)):
        found.append(f"no group has pods of {options.cpus:g} CPUs: a replica would wait for ever")
    elif room(config) < options.max_replicas:
        found.append(
            f"the groups grow to {room(config)} replicas of {options.cpus:g} CPUs, max_replicas is "
            f"{options.max_replicas}"
        )
    head = as_cluster(config)["available_node_types"]["head"]
    if head["resources"]["CPU"]:
        found.append('the head offers CPUs: a replica could be on it; give num-cpus "0"')
    if not cluster_of(config).get("workerGroupSpecs"):
        found.append("there are no worker groups")
    return found


def _workers(config: Manifest) -> list[Mapping[str, Any]]:
    kinds = as_cluster(config)["available_node_types"]
    return [kind for name, kind in kinds.items() if name != "head"]
