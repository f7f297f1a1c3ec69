"""The RayJob, checked without a Kubernetes."""

import copy
from pathlib import Path

import pytest
import yaml

from momo_platform.stages import UserError
from pipelines.cluster_check import main
from pipelines.kuberay import FIELDS, as_cluster, check_crd, check_pods, cpus, growth_of, problems

ROOT = Path(__file__).parents[2]
FILE = ROOT / "clusters" / "kuberay.yaml"


@pytest.fixture
def job():
    return yaml.safe_load(FILE.read_text())


def cluster(job):
    return job["spec"]["rayClusterSpec"]


def test_the_checked_in_file_holds_base_and_large(capsys):
    assert main([str(FILE)]) == 0
    found = capsys.readouterr().out
    assert "base stage3-pair: 1 gpu;" in found
    assert "large stage3-pair: 4 gpu;" in found


def test_images_and_versions_are_pinned_and_agree(job):
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    assert f"ray=={cluster(job)['rayVersion']}" in lock
    docker = (ROOT / "Dockerfile").read_text()
    assert "FROM python:3.11." in docker
    assert ":latest" not in docker + FILE.read_text()


def test_groups_become_node_types(job):
    found = as_cluster(job)
    assert found["available_node_types"]["gpu"] == {
        "resources": {"CPU": 96.0, "GPU": 8.0},
        "max_workers": 4,
        "min_workers": 0,
    }
    assert found["available_node_types"]["head"]["resources"] == {"CPU": 0.0}
    assert growth_of(job) == {"CPU": 640.0, "GPU": 32.0}
    assert (cpus("500m"), cpus(2)) == (0.5, 2.0)


def open_service(spec):
    spec["headGroupSpec"]["serviceType"] = "LoadBalancer"


def ingress(spec):
    spec["headGroupSpec"]["enableIngress"] = True


def no_token(spec):
    del spec["authOptions"]


def machines_network(spec):
    spec["workerGroupSpecs"][0]["template"]["spec"]["hostNetwork"] = True


def machines_port(spec):
    pod = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    pod["ports"] = [{"containerPort": 8265, "hostPort": 8265}]


def second_containers_port(spec):
    pod = spec["headGroupSpec"]["template"]["spec"]
    pod["containers"].append({"name": "two", "ports": [{"containerPort": 1, "hostPort": 1}]})


def own_service(spec):
    spec["headGroupSpec"]["headService"] = {"spec": {"type": "LoadBalancer"}}


def no_growth(spec):
    del spec["enableInTreeAutoscaling"]


def suspended(spec):
    spec["suspend"] = True


def more_nodes(spec):
    spec["workerGroupSpecs"][0]["maxReplicas"] = 9


@pytest.mark.parametrize(
    "change, told",
    [
        (second_containers_port, "opens a hostPort"),
        (own_service, "headService has type LoadBalancer"),
        (no_growth, "groups would not grow"),
        (suspended, "nothing would run"),
        (open_service, "head's service is open"),
        (ingress, "head's service is open"),
        (no_token, "authOptions.mode is not token"),
        (machines_network, "group data has hostNetwork"),
        (machines_port, "group head opens a hostPort"),
        (more_nodes, "the groups grow to"),
    ],
)
def test_open_doors_and_a_wrong_growth_are_told(job, change, told):
    assert problems(job) == []
    change(cluster(job))
    (line,) = problems(job)
    assert told in line


def test_a_field_that_no_pod_has_is_named(job):
    check_pods(job)
    cluster(job)["workerGroupSpecs"][1]["template"]["spec"]["nodeSelektor"] = {}
    with pytest.raises(UserError, match=r"group gpu: spec: .*nodeSelektor"):
        check_pods(job)


def schema_of(job):
    """A CRD of the file's own shape, in the form in which KubeRay's is written."""

    def shape(value):
        if isinstance(value, dict):
            return {"type": "object", "properties": {k: shape(v) for k, v in value.items()}}
        if isinstance(value, list):
            return {"type": "array", "items": shape(value[0])}
        kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
        return {"type": kinds[type(value)]}

    found = shape({k: v for k, v in job.items() if k != "metadata"})
    found["properties"]["metadata"] = {"type": "object"}
    spec = found["properties"]["spec"]["properties"]["rayClusterSpec"]["properties"]
    spec["workerGroupSpecs"]["items"] = {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    }
    spec["headGroupSpec"]["properties"]["rayStartParams"] = {
        "type": "object",
        "additionalProperties": {"type": "string"},
    }
    spec["autoscalerOptions"]["properties"]["idleTimeoutSeconds"] = {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
    }
    return {"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": found}}]}}


def test_the_operators_own_schema_is_asked(job, tmp_path):
    file = tmp_path / "crd.yaml"
    file.write_text(yaml.safe_dump(schema_of(job)))
    check_crd(job, str(file))
    wrong = copy.deepcopy(job)
    cluster(wrong)["rayVersion"] = 2.6
    with pytest.raises(UserError, match=r"spec.rayClusterSpec.rayVersion: 2.6"):
        check_crd(wrong, str(file))
    wrong = copy.deepcopy(job)
    wrong["spec"]["backofLimit"] = 1
    with pytest.raises(UserError, match=r"no such field: spec.backofLimit"):
        check_crd(wrong, str(file))
    file.write_text("spec: {versions: []}")
    with pytest.raises(UserError, match="no CRD of ray.io/v1"):
        check_crd(job, str(file))
    with pytest.raises(UserError, match="--crd nowhere"):
        check_crd(job, "nowhere")


def misspelt(spec):
    spec["workerGroupSpecs"][0]["maxReplica"] = 3


def other_mode(spec):
    spec["autoscalerOptions"]["upscalingMode"] = "Fast"


def number_for_text(spec):
    spec["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def no_pod(spec):
    del spec["workerGroupSpecs"][1]["template"]


def fewer_than_none(spec):
    spec["workerGroupSpecs"][0]["minReplicas"] = -1


@pytest.mark.parametrize(
    "change, told",
    [
        (misspelt, "no such field: spec.rayClusterSpec.workerGroupSpecs.0.maxReplica"),
        (other_mode, "autoscalerOptions.upscalingMode: 'Fast' is not one of"),
        (number_for_text, "rayStartParams.num-cpus: 0 is not of type 'string'"),
        (no_pod, "workerGroupSpecs.1: 'template' is a required property"),
        (fewer_than_none, "workerGroupSpecs.0.minReplicas: -1 is less than the minimum"),
    ],
)
def test_kuberays_documented_fields_are_asked_without_a_cluster(job, change, told):
    check_crd(job, str(FIELDS))
    change(cluster(job))
    with pytest.raises(UserError) as caught:
        check_crd(job, str(FIELDS))
    assert told in str(caught.value)


def no_version(job):
    job["apiVersion"] = "ray.io/v9"


def no_entry(job):
    job["spec"]["entrypoint"] = None


def empty_auth(job):
    cluster(job)["authOptions"] = None


def empty_limits(job):
    cluster(job)["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"] = None


@pytest.mark.parametrize(
    "change, told",
    [
        (no_version, "give ray.io/v1"),
        (no_entry, "spec.entrypoint is empty"),
        (empty_auth, "a field is empty or not of its kind"),
        (empty_limits, "a field is empty or not of its kind"),
    ],
)
def test_what_is_empty_or_of_another_kind_is_one_line(job, tmp_path, change, told, capsys):
    change(job)
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    assert main([str(file)]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{type: objekt}", '{type: string, pattern: "("}'])
def test_a_schema_that_is_none_is_told_with_its_file(job, tmp_path, text):
    file = tmp_path / "crd.yaml"
    wanted = f"{{name: v1, schema: {{openAPIV3Schema: {text}}}}}"
    file.write_text(f"spec: {{versions: [{wanted}]}}")
    with pytest.raises(UserError, match=r"--crd .*crd.yaml: its schema can't be used"):
        check_crd(job, str(file))
