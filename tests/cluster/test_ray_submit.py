"""`ray up`, `ray submit`, `ray down` for real, on this machine by SSH."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def cluster_file(machine):
    """The checked-in file's commands and mounts on a `local` provider."""
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    start = [
        c.replace("--port=6379", "--port=6399 --num-cpus=2")
        for c in config["head_start_ray_commands"]
    ]
    local = {
        "cluster_name": "momo-test",
        "provider": {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []},
        "auth": {"ssh_user": "root", "ssh_private_key": str(machine.key)},
        "file_mounts": {
            "~/momo": str(ROOT),
            "~/.momo.env": str(machine.work / ".cluster" / "env"),
            "~/.ray/auth_token": str(machine.token),
        },
        "rsync_exclude": config["rsync_exclude"],
        "rsync_filter": config["rsync_filter"],
        "head_start_ray_commands": start,
        "worker_start_ray_commands": config["worker_start_ray_commands"],
    }
    file = machine.work / "cluster.yaml"
    file.write_text(yaml.safe_dump(local))
    return file


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_up_submit_and_down(machine):
    file, runs = cluster_file(machine), machine.work / "runs"
    up = machine.client("ray", "up", "-y", "--no-config-cache", file, timeout=300)
    assert up.returncode == 0, up.stdout[-3000:] + up.stderr[-3000:]
    script = ["ray", "submit", file, ROOT / "pipelines/full.py"]
    submit = [*script, "--preset", "smoke", "--storage", runs]
    done = machine.client(*submit, timeout=1200)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    again = machine.client(*submit, timeout=300)  # all is there already
    assert again.returncode == 0, again.stdout[-3000:]
    assert "stages to run" not in again.stdout
    job = ["ray", "job", "submit", "--address", "http://127.0.0.1:8265", "--"]
    entry = f"python {machine.home}/momo/pipelines/full.py --preset smoke --storage {runs}"
    sent = machine.client(*job, *entry.split(), timeout=300)  # with our token, as through a tunnel
    assert sent.returncode == 0, sent.stdout[-3000:] + sent.stderr[-3000:]
    assert "stages to run" not in sent.stdout
    assert "report:" in sent.stdout
    wrong = machine.client(*script, "--preset", "smok", timeout=300)
    assert wrong.returncode != 0
    assert "did you mean smoke?" in wrong.stdout + wrong.stderr
    down_to = machine.work / "report"
    fetch = machine.client(
        "ray", "rsync-down", file, f"{runs}/latest/report/", f"{down_to}/", timeout=120
    )
    assert fetch.returncode == 0, fetch.stdout + fetch.stderr
    assert (down_to / "index.html").stat().st_size > 10_000
    down = machine.client("ray", "down", "-y", file, timeout=120)
    assert down.returncode == 0, down.stdout[-3000:]
    assert machine.processes() == []
