"""A driver on a Ray that is told of a GPU: prints as JSON what its tasks see of it.

With `local` on a private Ray of the platform's; with `found` on one that another process started
without any of our settings.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import ray
from toy_encoder import ToyEncoder

from momo_platform.cluster import start_ray
from momo_platform.serving.process import ModelProcess


def seen():
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def seen_by_the_model(device):
    process = ModelProcess(ToyEncoder, "here", 1, device)
    variables = Path(f"/proc/{process.pid}/environ").read_bytes().decode().split("\0")
    return dict(v.split("=", 1) for v in variables if "=" in v).get("CUDA_VISIBLE_DEVICES")


class Actor:
    def seen(self):
        return seen()


def main(kind):
    if kind == "start":
        context = ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False)
        command = [sys.executable, __file__, context.address_info["gcs_address"]]
        return subprocess.run(command).returncode
    with start_ray(kind):
        assert ray.cluster_resources()["GPU"] == 1
        task, model = ray.remote(seen), ray.remote(seen_by_the_model)
        found = {
            "none": task.options(num_gpus=0).remote(),
            "one": task.options(num_gpus=1).remote(),
            "none again": task.remote(),
            "half": task.options(num_gpus=0.5).remote(),
            "actor": ray.remote(Actor).options(num_cpus=0).remote().seen.remote(),
            "model on the CPU": model.options(num_gpus=1).remote("cpu"),
            "model on its GPU": model.options(num_gpus=1).remote("cuda"),
        }
        print(json.dumps({name: ray.get(ref) for name, ref in found.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
