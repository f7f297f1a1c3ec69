"""A graph on a cluster of Ray's fake provider that starts with a head alone; prints what came.

Run in a process namespace: everything it starts ends with it. Arguments: a folder for all files.
"""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HEAD = "f" * 51 + "00000"
NODES = {
    "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    "gpu": {"resources": {"CPU": 1, "GPU": 2}, "node_config": {}, "max_workers": 1},
    "data": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 2},
}
CONFIG = {
    "cluster_name": "fake",
    "provider": {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "launch_multiple": True,
        "head_node_id": HEAD,
    },
    "available_node_types": NODES,
    "head_node_type": "ray.head.default",
    "max_workers": 3,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 0.1,
    # what the autoscaler asks of every file
    **{"auth": {}, "file_mounts": {}, "file_mounts_sync_continuously": False},
    **{f"{kind}_commands": [] for kind in ("initialization", "setup")},
    **{f"{node}_setup_commands": [] for node in ("head", "worker")},
    **{f"{node}_start_ray_commands": [] for node in ("head", "worker")},
    **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
}


@dataclass(frozen=True)
class Nothing:
    """No settings."""


def tell_node(config, inputs, context):
    """Stage: the resources of the node that it runs on."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    (node,) = [n for n in ray.nodes() if n["NodeID"] == here]
    (context.output / "node.txt").write_text(here)
    return {k: v for k, v in node["Resources"].items() if k in ("CPU", "GPU")}


def start_head(folder, port):
    """`ray start` with the fake provider, one second between its looks."""
    file = folder / "cluster.json"
    provider = CONFIG["provider"] | {"gcs_address": f"127.0.0.1:{port}"}
    file.write_text(json.dumps(CONFIG | {"provider": provider}))
    command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", "--num-cpus=0"]
    command += [f"--port={port}", f"--temp-dir={folder / 'r'}", f"--autoscaling-config={file}"]
    command += ["--include-dashboard=false", "--object-store-memory=100000000"]
    env = os.environ | {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    env |= {"RAY_enable_autoscaler_v2": "1"}
    env |= {"RAY_CLOUD_INSTANCE_ID": HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD}
    log = (folder / "head.log").open("wb")
    head = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    deadline = time.monotonic() + 90
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert head.poll() is None, (folder / "head.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def kinds(ray):
    """Living nodes by the resources that tell them apart."""
    alive = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    return sorted("gpu" if r.get("GPU") else "data" if r.get("CPU") else "head" for r in alive)


def main(folder):
    """Run the graph, then wait for the nodes to go."""
    import ray

    from momo_platform.cluster import growth, start_ray
    from momo_platform.machine import free_ports
    from momo_platform.stages import Stage, make_plan, open_storage
    from momo_platform.stages.executor import execute
    from momo_platform.stages.stage import Resources

    (port,) = free_ports(1)
    start_head(folder, port)
    most = {"CPU": 3.0, "GPU": 2.0}
    os.environ["MOMO_CLUSTER_RESOURCES"] = json.dumps(most)
    seen, waited = [], set()

    def view(statuses):
        waited.update(s.detail for s in statuses if s.detail)
        if (now := kinds(ray)) not in seen[-1:]:
            seen.append(now)

    with start_ray(f"127.0.0.1:{port}"):
        first = Stage("data", tell_node, Nothing(), resources=Resources(num_cpus=1))
        second = Stage(
            "train",
            tell_node,
            Nothing(),
            {"data": first},
            resources=Resources(num_cpus=1, num_gpus=2),
        )
        storage = open_storage(folder / "runs")
        plan = make_plan([second], storage)
        made = execute(plan, storage, view, growth=growth(), wait_seconds=120)
        deadline = time.monotonic() + 120
        while kinds(ray) != ["head"] and time.monotonic() < deadline:
            time.sleep(0.5)
        result = {
            "stages": {name: made[name].metrics for name in ("data", "train")},
            "seen": seen,
            "waited": sorted(waited),
            "left": kinds(ray),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
