"""The checked-in config file for Ray Serve's own commands."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from momo_platform.machine import free_ports, with_our_modules
from momo_platform.serving import Client, ServiceError
from momo_platform.stages import UserError
from pipelines.serve_config import FILE, adapted, build


def test_it_is_what_serve_build_writes_now(folders):
    assert yaml.safe_load(FILE.read_text()) == adapted(build(folders["one"]))


def test_it_is_closed_to_other_machines_and_names_no_machine():
    text = FILE.read_text()
    assert yaml.safe_load(text)["http_options"]["host"] == "127.0.0.1"
    assert "user_config" not in text


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="no exported model there"):
        build(str(tmp_path))


@pytest.mark.slow
def test_serve_run_takes_it(folders, tmp_path):
    (port,) = free_ports(1)
    config = yaml.safe_load(FILE.read_text())
    config["http_options"]["port"] = port
    config["applications"][0]["args"] = {"model": folders["one"]}
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    env = with_our_modules(RAY_ADDRESS="local")
    command = [str(Path(sys.executable).with_name("serve")), "run", str(file)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=env)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                assert (
                    Client(f"http://127.0.0.1:{port}", retries=0).embed(texts=["a"]).shape[1] == 24
                )
                break
            except (ServiceError, OSError):
                assert time.monotonic() < end, (tmp_path / "log").read_text()[-3000:]
                assert server.poll() is None, (tmp_path / "log").read_text()[-3000:]
                time.sleep(1)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
