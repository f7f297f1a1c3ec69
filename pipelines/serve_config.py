"""Write pipelines/serve.yaml, the config file for `serve run` and `serve deploy`.

    python pipelines/serve_config.py [--model runs/latest/model]

Made by Ray's own `serve build` with what the endpoint needs besides: it listens on 127.0.0.1, has
the name that `pipelines/serve.py` uses, and takes its model from `args` or from MOMO_MODEL.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momo_platform.exit_codes import exit_code
from momo_platform.machine import with_our_modules
from momo_platform.stages import UserError
from pipelines.serve import DEFAULT_MODEL, NAME, ServeOptions, config_of

FILE = Path(__file__).with_name("serve.yaml")
_HEAD = """\
# Written by `python pipelines/serve_config.py`, from Ray's `serve build`; change that, not this.
#
#     MOMO_MODEL=$PWD/runs/latest/model serve run pipelines/serve.yaml
#     serve deploy pipelines/serve.yaml            # on a running Ray, which has MOMO_MODEL
#
# Or give folders below `args`, absolute ones: model, index, keys; and precision (fp32, tf32, bf16,
# int8). A GPU: num_gpus below `ray_actor_options`. Deploying again with another model replaces it
# without a failed request. Give keys before another host than 127.0.0.1.
"""


@dataclass(frozen=True)
class ConfigOptions:
    """What to write."""

    model: str = DEFAULT_MODEL
    """Any exported model: `serve build` makes the application once; its place is not kept."""
    output: str = str(FILE)


def build(model: str) -> dict[str, Any]:
    """The config as `serve build` writes it for that model."""
    import yaml

    config_of(ServeOptions(model=model))  # its errors are clearer than a trace from the command
    tool = Path(sys.executable).with_name("serve")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "built.yaml"
        done = subprocess.run(
            [str(tool), "build", "pipelines.serve:built", "-o", str(file)],
            env=with_our_modules(MOMO_MODEL=str(Path(model).resolve())),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise UserError(f"`serve build` failed: {done.stderr[-2000:]}")
        return yaml.safe_load(file.read_text(encoding="utf-8"))


def adapted(built: dict[str, Any]) -> dict[str, Any]:
    """What is checked in: nothing of the machine that built it, and closed to other machines."""
    (application,) = built["applications"]
    for deployment in application["deployments"]:
        del deployment["user_config"]  # the application's own, from `args` or the environment
    application |= {
        "name": NAME,
        "import_path": "pipelines.serve:app",
        "args": {},
    }
    return {
        "proxy_location": built["proxy_location"],
        "http_options": {"host": "127.0.0.1", "port": built["http_options"]["port"]},
        "logging_config": built["logging_config"] | {"enable_access_log": False},
        "applications": [application],
    }


def run(options: ConfigOptions) -> int:
    """Write the file."""
    import yaml

    text = yaml.safe_dump(adapted(build(options.model)), sort_keys=False)
    Path(options.output).write_text(_HEAD + text, encoding="utf-8")
    print(f"wrote {options.output}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for bad input."""

    def work() -> int:
        import tyro

        how = {"prog": "serve_config.py", "description": __doc__}
        return run(tyro.cli(ConfigOptions, args=arguments, **how))

    return exit_code(work, "nothing is written", place="--output")


if __name__ == "__main__":
    sys.exit(main())
