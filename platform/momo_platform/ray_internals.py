"""What is used of Ray that Ray keeps to itself: imported here and nowhere else, with the reason.

Nothing of it is promised to stay. A new version of Ray has to be tried against
`tests/platform/test_ray_internals.py` first. Importing this module imports no Ray.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


def token_loader() -> Any:
    """Ray's own look for its token; has `has_token(ignore_auth_mode=True)` and `reset_cache()`.

    Why: Ray would write a new token into the home, which may be read-only or none, and keeps the
    first one that it finds. Neither can be asked or changed by anything public.
    """
    from ray._raylet import AuthenticationTokenLoader  # pyright: ignore[reportAttributeAccessIssue]

    return AuthenticationTokenLoader.instance()


def dead_processes() -> list[str]:
    """Names ('raylet', 'gcs_server', …) of the dead ones among the processes of the Ray that this
    process started.

    Why: Ray itself notices by the wall clock, after a minute without its GCS, and then ends the
    driver without a word; `ray.is_initialized` stays true until then.
    """
    node = connection()
    try:
        return [] if node is None else [name for name, _ in node.dead_processes()]
    except RuntimeError:  # another thread is just ending it
        return []


def connection() -> Any:
    """What this process is connected to: another object after every `ray.init`, None without one.

    Why: `ray.is_initialized` doesn't tell one Ray from the next, and takes Ray's own lock.
    """
    from ray._private import worker

    return worker._global_node


def validated_cluster(config: dict[str, Any]) -> None:
    """Check the file of `ray up`, once Ray has filled in its defaults. Raises what Ray raises:
    jsonschema's ValidationError, and KeyError, TypeError and others for what that trips over.

    Why: `ray up` checks only when it is about to start machines.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


def worker_group_callback(
    on_start: Callable[[], None], on_resize: Callable[[float], None], seconds: float
) -> Any:
    """A Ray Train callback that calls `on_start()` on every worker's main thread when a group has
    started, and `on_resize(seconds)` on every worker before the group gets another size, which
    waits so long at most.

    Why: training runs in another thread of the worker, where Python takes no signal handler, and
    a public `UserCallback` learns neither of a group's start nor of its end.
    """
    import ray
    from ray.exceptions import RayError
    from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback

    class OnWorkers(WorkerGroupCallback, ControllerCallback):
        group: Any = None

        def after_worker_group_start(self, worker_group: Any) -> None:
            self.group = worker_group
            worker_group.execute(on_start)

        def before_worker_group_shutdown(self, worker_group: Any) -> None:
            self.group = None

        def before_controller_execute_resize_decision(self, resize_decision: Any) -> None:
            group, self.group = self.group, None
            status = group and group.get_latest_poll_status()
            if status is None or status.errors or status.finished:  # nobody there to save
                return
            try:
                ray.get(group.execute_async(on_resize, seconds), timeout=seconds)
            except (RayError, TimeoutError) as error:
                logger.warning("resizing without the last steps (%s)", error)

    return OnWorkers()
