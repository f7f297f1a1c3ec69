"""The RayService, checked without a Kubernetes."""

from pathlib import Path

import pytest
import yaml

from momo_platform.stages import UserError
from pipelines.cluster_check import main
from pipelines.kuberay import FIELDS, check_crd, check_pods
from pipelines.rayservice import options_of, problems, room

ROOT = Path(__file__).parents[2]
FILE = ROOT / "clusters" / "rayservice.yaml"


@pytest.fixture
def service():
    return yaml.safe_load(FILE.read_text())


def cluster(service):
    return service["spec"]["rayClusterConfig"]


def served(service, **changes):
    """Change the application's `args`; None takes one away."""
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    arguments = config["applications"][0]["args"]
    arguments |= changes
    config["applications"][0]["args"] = {k: v for k, v in arguments.items() if v is not None}
    service["spec"]["serveConfigV2"] = yaml.safe_dump(config)


def test_the_checked_in_file_can_be_applied(capsys):
    assert main([str(FILE)]) == 0
    found = capsys.readouterr().out
    assert "Serve's config hold" in found
    assert "1 to 4 replicas of 4 CPUs; the groups grow to 4" in found


def test_it_serves_what_serve_yaml_does_on_the_locks_ray(service):
    """By another host, with keys and with replicas that come with load."""
    ours = yaml.safe_load((ROOT / "pipelines" / "serve.yaml").read_text())
    theirs = yaml.safe_load(service["spec"]["serveConfigV2"])
    for key in ("name", "route_prefix", "import_path"):
        assert theirs["applications"][0][key] == ours["applications"][0][key]
    assert theirs["http_options"]["port"] == ours["http_options"]["port"]
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    assert f"ray=={cluster(service)['rayVersion']}" in lock
    assert ":latest" not in FILE.read_text()


def public(service):
    service["spec"]["serveService"] = {"spec": {"type": "LoadBalancer"}}


def no_keys(service):
    served(service, keys=None)


def larger_replicas(service):
    served(service, cpus=8)


def more_replicas(service):
    served(service, max_replicas=9)


def other_place(service):
    served(service, model="/data/model")


def no_haproxy(service):
    cluster(service)["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["env"] = []


def busy_head(service):
    cluster(service)["headGroupSpec"]["rayStartParams"] = {}


def no_token(service):
    del cluster(service)["authOptions"]


def no_growth(service):
    del cluster(service)["enableInTreeAutoscaling"]


@pytest.mark.parametrize(
    "change, told",
    [
        (public, "serveService has type LoadBalancer"),
        (no_keys, "args has no keys"),
        (larger_replicas, "no group has pods of 8 CPUs"),
        (more_replicas, "grow to 4 replicas of 4 CPUs, max_replicas is 9"),
        (other_place, "mounts nothing that holds model /data/model"),
        (no_haproxy, "group replicas has no RAY_SERVE_ENABLE_HA_PROXY=1"),
        (busy_head, "the head offers CPUs"),
        (no_token, "rayClusterConfig.authOptions.mode is not token"),
        (no_growth, "groups would not grow"),
    ],
)
def test_open_doors_and_replicas_without_a_place_are_told(service, change, told):
    assert problems(service) == []
    change(service)
    found = problems(service)
    assert found
    assert all(told in line for line in found if "mounts" in line or len(found) == 1)
    assert any(told in line for line in found)


def test_what_serve_would_refuse_is_told(service):
    assert options_of(service).max_replicas == 4
    assert room(service) == 4
    served(service, modle="/models/current")
    with pytest.raises(UserError, match="args: unknown modle"):
        problems(service)
    for wrong, told in [
        ({"port": 80}, "unknown port"),
        ({"cpus": "many"}, "cpus: 'many' is no number"),
        ({"cpus": 0}, "cpus: 0: all replicas"),
        ({"max_replicas": 2.5}, "max_replicas: 2.5 is no number"),
        ({"model": 3}, "model: 3 is no text"),
        ({"precision": "fp8"}, "precision"),
        ({"cors_origins": ["example.org"]}, "cors_origins"),
        ({"precision": "int8", "gpus": 1}, "int8"),
    ]:
        served(service, **{"modle": None, "port": None, "cpus": 4, "gpus": None} | wrong)
        with pytest.raises(UserError, match=f"serveConfigV2: args: .*{told}"):
            options_of(service)
        served(service, max_replicas=4, model="/m", precision=None, cors_origins=None)
    served(service, gpus=None, port=None, cpus="4", min_replicas=5, max_replicas=None)
    served(service, allowed_hosts=["a.org ", "b.org"], cors_origins="https://a.org, https://b.org")
    options = options_of(service)
    assert (options.cpus, options.max_replicas) == (4.0, 5)
    assert options.allowed_hosts == ("a.org", "b.org")
    assert options.cors_origins == ("https://a.org", "https://b.org")
    service["spec"]["serveConfigV2"] = "applications: [{name: x}]"
    with pytest.raises(UserError, match=r"(?s)serveConfigV2.*import_path"):
        problems(service)
    del service["spec"]["serveConfigV2"]
    with pytest.raises(UserError, match="serveConfigV2 is missing"):
        problems(service)


def test_kuberays_fields_and_the_pods_are_asked(service):
    check_crd(service, str(FIELDS))
    check_pods(service)
    service["spec"]["excludeHeadPod"] = True
    with pytest.raises(UserError, match=r"no such field: spec\.excludeHeadPod"):
        check_crd(service, str(FIELDS))
    del service["spec"]["excludeHeadPod"]
    cluster(service)["workerGroupSpecs"][0]["maxReplicas"] = "4"
    with pytest.raises(UserError, match=r"workerGroupSpecs\.0\.maxReplicas: '4'"):
        check_crd(service, str(FIELDS))
    pod = cluster(service)["headGroupSpec"]["template"]["spec"]
    pod["initContainers"][0]["comand"] = []
    with pytest.raises(UserError, match=r"group head: .*comand"):
        check_pods(service)


def test_the_schema_of_another_kind_is_refused(service, tmp_path):
    file = tmp_path / "crd.yaml"
    (jobs, _) = yaml.safe_load(FIELDS.read_text())["items"]
    file.write_text(yaml.safe_dump(jobs))
    with pytest.raises(UserError, match="that of a RayJob, not of a RayService"):
        check_crd(service, str(file))
