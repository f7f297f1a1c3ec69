"""The replicas on Ray Serve: what the application is, and its options. Imports Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve

from momo_platform.serving.config import ServingConfig
from momo_platform.serving.encoder import Loaders
from momo_platform.serving.replica import Replica
from momo_platform.serving.routes import api

_ANSWER_SECONDS = 2.0
"""In which a replica tells its counters."""


class Endpoint(Replica):
    """A replica as Ray Serve starts and changes it."""

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What takes its requests (`ray.serve.ingress`)."""
        return api(self)

    async def reconfigure(self, chosen: dict[str, str]) -> None:
        """Serve's `user_config`: `Replica.load` on the device that Serve reserved. Raises
        RuntimeError where a GPU is asked for and Serve reserved none."""
        await self.load(chosen, self.config.device_for(ray.get_gpu_ids()))

    @property
    def name(self) -> str:
        """Serve's."""
        return serve.get_replica_context().replica_id.unique_id

    async def expositions(self) -> Mapping[str, str]:
        """Counters of all replicas, by name; of this one alone where others don't tell in time."""
        found = dict([await self.exposition()])
        context = serve.get_replica_context()
        handle = serve.get_deployment_handle(context.deployment, context.app_name)
        try:
            told = await handle.broadcast("exposition").results_async(
                timeout_s=_ANSWER_SECONDS, return_exceptions=True
            )
        except TimeoutError:
            return found
        return found | dict(one for one in told if not isinstance(one, BaseException))

    def __del__(self) -> None:
        """Serve calls it when the replica ends."""
        tracer = getattr(self, "tracer", None)
        if tracer is not None:
            tracer.close()


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
