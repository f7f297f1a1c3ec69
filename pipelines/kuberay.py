"""Checks of what KubeRay is given, a RayJob or a RayService, without a Kubernetes: fields, pods,
open doors, growth. What only a RayService has is in `rayservice.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from momo_platform.stages import UserError

_TOTAL = "MOMO_CLUSTER_RESOURCES"
_EXAMPLES = "clusters/kuberay.yaml, clusters/rayservice.yaml"
_GPU = "nvidia.com/gpu"
Manifest = Mapping[str, Any]
FIELDS = Path(__file__).parents[1] / "clusters" / "kuberay.crd.yaml"
"""The fields of both as KubeRay documents them, in a CRD's form; pods are Kubernetes' affair."""
_CLUSTER = {"RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}
"""Where each kind has its cluster."""


def is_for_kuberay(config: Manifest) -> bool:
    """Whether a file holds a RayJob or a RayService, not a cluster of `ray up`."""
    return config.get("kind") in _CLUSTER


def cluster_of(config: Manifest) -> Manifest:
    """The cluster that the manifest asks for. Raises UserError where it has none."""
    kind = str(config.get("kind"))
    try:
        return config["spec"][_CLUSTER[kind]]
    except (KeyError, TypeError) as error:
        raise UserError(f"the {kind} has no {error}: see {_EXAMPLES}") from error


def groups(config: Manifest) -> Iterator[tuple[str, Manifest]]:
    """(name, group) of the head and of every kind of workers."""
    try:
        cluster = cluster_of(config)
        yield "head", cluster["headGroupSpec"]
        for group in cluster.get("workerGroupSpecs", ()):
            yield group["groupName"], group
    except (KeyError, TypeError) as error:
        raise UserError(f"the {config.get('kind')} has no {error}: see {_EXAMPLES}") from error


def container_of(name: str, group: Manifest) -> Manifest:
    try:
        return group["template"]["spec"]["containers"][0]
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"group {name}: its template has no container") from error


def cpus(quantity: str | float) -> float:
    """32 for "32", 0.5 for "500m"."""
    text = str(quantity)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _resources(name: str, group: Manifest) -> dict[str, float]:
    """As Ray will see a pod: its limits, unless the start parameters say otherwise."""
    limits = container_of(name, group).get("resources", {}).get("limits", {})
    told = group.get("rayStartParams", {})
    found = {
        "CPU": cpus(told.get("num-cpus", limits.get("cpu", 0))),
        "GPU": cpus(told.get("num-gpus", limits.get(_GPU, 0))),
    }
    return {key: amount for key, amount in found.items() if amount or key == "CPU"}


def _replicas(group: Manifest) -> tuple[int, int]:
    return int(group.get("minReplicas", 0)), int(group.get("maxReplicas", 0))


def as_cluster(config: Manifest) -> dict[str, Any]:
    """The node types, in the form of a `ray up` file: what stages are packed onto."""
    types, most = {}, 0
    for name, group in groups(config):
        least, count = (0, 0) if name == "head" else _replicas(group)
        types[name] = {
            "resources": _resources(name, group),
            "min_workers": least,
            "max_workers": count,
        }
        most += count
    return {"available_node_types": types, "head_node_type": "head", "max_workers": most}


def growth_of(config: Manifest) -> dict[str, float]:
    """What all groups together grow to."""
    total: dict[str, float] = {}
    for kind in as_cluster(config)["available_node_types"].values():
        for name, amount in kind["resources"].items():
            total[name] = total.get(name, 0.0) + kind["max_workers"] * amount
    return total


def problems(config: Manifest) -> list[str]:
    """What of a RayJob could be reached from outside, runs without a token, or says another
    growth."""
    found = cluster_problems(config)
    if not config["spec"].get("entrypoint"):
        found.append("spec.entrypoint is empty: nothing would run")
    head = cluster_of(config)["headGroupSpec"]
    told = {e["name"]: e.get("value") for e in container_of("head", head).get("env", ())}
    try:
        growth = {k: float(v) for k, v in json.loads(told.get(_TOTAL) or "{}").items()}
    except (ValueError, AttributeError) as error:
        raise UserError(f"head: {_TOTAL}: {error}") from error
    if growth != growth_of(config):
        found.append(f"head: {_TOTAL} is {growth}, the groups grow to {growth_of(config)}")
    return found


def cluster_problems(config: Manifest) -> list[str]:
    """What of a cluster could be reached from outside, runs without a token, or can't grow."""
    found = []
    name, cluster = _CLUSTER[config["kind"]], cluster_of(config)
    if config.get("apiVersion") != "ray.io/v1":
        found.append(f"apiVersion {config.get('apiVersion')}: give ray.io/v1")
    if cluster.get("authOptions", {}).get("mode") != "token":
        found.append(f"{name}.authOptions.mode is not token: anyone inside could run code")
    head = cluster["headGroupSpec"]
    if head.get("serviceType", "ClusterIP") != "ClusterIP" or head.get("enableIngress"):
        found.append("the head's service is open: give serviceType ClusterIP and no ingress")
    service = (head.get("headService") or {}).get("spec") or {}
    if service.get("type", "ClusterIP") != "ClusterIP":
        found.append(f"headService has type {service['type']}: give ClusterIP")
    if not cluster.get("enableInTreeAutoscaling"):
        found.append(f"{name}.enableInTreeAutoscaling is not true: groups would not grow")
    if config["spec"].get("suspend") or cluster.get("suspend"):
        found.append("suspend is true: nothing would run")
    for name, group in groups(config):
        pod = group["template"]["spec"]
        if pod.get("hostNetwork"):
            found.append(f"group {name} has hostNetwork: its ports would be the machine's")
        containers = [*pod["containers"], *pod.get("initContainers", ())]
        if any("hostPort" in port for c in containers for port in c.get("ports", ())):
            found.append(f"group {name} opens a hostPort")
    return found


def check_pods(config: Manifest) -> None:
    """Raise UserError for a pod that the newest known Kubernetes would refuse, or a field of one
    that it would drop."""
    try:
        import kubernetes_validate
    except ImportError as error:  # pragma: no cover
        raise UserError("pip install kubernetes-validate, to check the pods") from error

    for name, group in groups(config):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
        pod["spec"] = group["template"].get("spec", {})
        try:
            kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            place = ".".join(str(part) for part in error.path)
            raise UserError(f"group {name}: {place}: {error.message}") from error


def check_crd(config: Manifest, file: str) -> None:
    """Against the schema of a CRD file: FIELDS, or the operator's own (`kubectl get crd
    rayjobs.ray.io rayservices.ray.io -o yaml`, one or both). Raises UserError for a value it
    refuses and for a field it does not know, which Kubernetes would drop."""
    import yaml
    from jsonschema import Draft7Validator, SchemaError

    try:
        crd = _crd_of(yaml.safe_load(Path(file).read_text(encoding="utf-8")), config.get("kind"))
        wanted = str(config["apiVersion"]).partition("/")[2]
        (version,) = [v for v in crd["spec"]["versions"] if v["name"] == wanted]
        schema = version["schema"]["openAPIV3Schema"]
    except OSError as error:
        raise UserError(f"--crd {file}: {error.strerror}") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"--crd {file}: no CRD of {config.get('apiVersion')}: {error}") from error
    try:
        Draft7Validator.check_schema(schema)
        errors = list(Draft7Validator(schema).iter_errors(_without_int_or_string(config, schema)))
    except (SchemaError, re.error, AttributeError, TypeError) as error:
        raise UserError(f"--crd {file}: its schema can't be used: {error}") from error
    for error in errors:
        place = ".".join(str(part) for part in error.absolute_path)
        raise UserError(f"{place or config['kind']}: {error.message}")
    if unknown := list(_unknown(config, schema, "")):
        raise UserError(f"no such field: {', '.join(unknown)}")


def _crd_of(found: Any, kind: Any) -> Any:
    """The CRD of a kind among several, or the only one. Raises ValueError where it is another's."""
    if "items" in found:
        found = {item["spec"]["names"]["kind"]: item for item in found["items"]}[kind]
    name = found["spec"].get("names", {}).get("kind", kind)
    if name != kind:
        raise ValueError(f"it is that of a {name}, not of a {kind}")
    return found


def _without_int_or_string(value: Any, schema: Manifest) -> Any:
    """`value` where fields that may be a number or a text are texts, as Kubernetes stores them."""
    if schema.get("x-kubernetes-int-or-string") and isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        known, other = schema.get("properties", {}), schema.get("additionalProperties", {})
        other = other if isinstance(other, Mapping) else {}
        return {k: _without_int_or_string(v, known.get(k, other)) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_int_or_string(v, schema.get("items", {})) for v in value]
    return value


def _unknown(value: Any, schema: Manifest, place: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, schema.get("items", {}), f"{place}.{index}")
    if not isinstance(value, Mapping) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    known, other = schema.get("properties"), schema.get("additionalProperties")
    for name, item in value.items():
        inner = (known or {}).get(name, other if isinstance(other, Mapping) else None)
        free = known is None and not isinstance(other, Mapping)  # metadata, and anything goes
        if inner is not None:
            yield from _unknown(item, inner, f"{place}.{name}".lstrip("."))
        elif not free and not other:
            yield f"{place}.{name}".lstrip(".")
