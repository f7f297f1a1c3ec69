"""The replicas on Ray Serve: what the application is, and its options. Imports Ray."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve

from momo_platform.serving.config import ServingConfig
from momo_platform.serving.encoder import Loaders
from momo_platform.serving.replica import Replica
from momo_platform.serving.routes import api


class Endpoint(Replica):
    """A replica as Ray Serve starts and changes it."""

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What takes its requests (`ray.serve.ingress`)."""
        return api(self)

    async def reconfigure(self, chosen: dict[str, str]) -> None:
        """Serve's `user_config`: `Replica.load` on the device that Serve reserved. Raises
        RuntimeError where a GPU is asked for and Serve reserved none."""
        await self.load(chosen, self.config.device_for(ray.get_gpu_ids()))


def application(loaders: Loaders, config: ServingConfig) -> Any:
    """The Serve application. Change its model while it runs by deploying it again with another
    `model`, `index` or `classifier`: replicas load it beside the old one and lose no request."""
    options: dict[str, Any] = {
        "name": "Endpoint",
        "ray_actor_options": {"num_cpus": config.cpus, "num_gpus": config.gpus},
        "autoscaling_config": {
            "min_replicas": config.min_replicas,
            "max_replicas": config.max_replicas,
            "target_ongoing_requests": config.batch_size,
        },
        # Ours answers 503 with Retry-After before Serve's own queue fills.
        "max_ongoing_requests": 2 * config.limits.queued_items,
        "max_queued_requests": 2 * config.limits.queued_items,
        "graceful_shutdown_timeout_s": config.limits.seconds + 5,
        "health_check_period_s": 5,
        # A line a request would cost more than a short text's embedding; /metrics counts them.
        "logging_config": {"enable_access_log": False},
        "user_config": {
            "model": config.model,
            "index": config.index,
            "classifier": config.classifier,
        },
    }
    # Without the folders: where what a replica is built with changes, Serve replaces the replica.
    built_with = replace(config, model="", index="", classifier="")
    return serve.deployment(**options)(serve.ingress()(Endpoint)).bind(loaders, built_with)
