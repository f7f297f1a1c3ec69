"""A machine of one's own for `ray up`: an sshd in a process namespace, with throw-away keys."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import descendants

from momo_platform.cache import cache_root

ROOT = Path(__file__).parents[2]
SSHD = "/usr/sbin/sshd"


@dataclass
class Machine:
    """`home`: where a login lands. `work`: files of the test. `pid`: of the namespace's parent."""

    home: Path
    work: Path
    key: Path
    pid: int

    def client(self, *command, **options):
        """A command of this side, with a home and a Ray folder of its own."""
        env = {**os.environ, "HOME": str(self.work), "RAY_TMPDIR": str(self.work / "t")}
        env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token), "TERM": "dumb"}
        for name in ("RAY_ADDRESS", "PYTHONPATH"):
            env.pop(name, None)
        path = [str(Path(sys.executable).parent / command[0]), *map(str, command[1:])]
        return subprocess.run(
            path, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options
        )

    @property
    def token(self):
        return self.work / ".cluster" / "auth_token"

    def processes(self):
        """Command lines of all that lives there, sshd's own left out."""
        lines = descendants(self.pid).values()
        return [line for line in lines if line and "sshd" not in line]


def _reason_to_skip():
    if getpass.getuser() != "root":
        return "needs root, to start an sshd"
    for program in (SSHD, "rsync", "ssh", "ssh-keygen", "unshare"):
        if not shutil.which(program):
            return f"needs {program} (apt-get install openssh-server rsync)"
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 22)) == 0:
            return "port 22 of 127.0.0.1 is taken: `ray up` can't be told another one"
    if subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"]).returncode:
        return "this machine allows no process namespace"
    return ""


@pytest.fixture(scope="module")
def machine():
    """An sshd on 127.0.0.1:22. All that is started there ends with its namespace."""
    if reason := _reason_to_skip():
        pytest.skip(reason)
    work = Path(tempfile.mkdtemp(prefix="mc-", dir="/tmp"))  # short: Ray's sockets lie below
    home = work / "home"
    home.mkdir()
    for name in ("host", "key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(work / name)]
        subprocess.run(command, check=True)
    (work / "sshd_config").write_text(
        f"Port 22\nListenAddress 127.0.0.1\nHostKey {work}/host\nPidFile none\n"
        f"AuthorizedKeysFile {work}/key.pub\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nPermitRootLogin yes\nSetEnv HOME={home}\n"
    )
    paths = "$HOME/momo:$HOME/momo/platform"
    (home / ".bashrc").write_text(
        f"cd $HOME\nexport PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={paths}\n"
        f"export RAY_TMPDIR={work}/r XDG_CACHE_HOME={cache_root().parent} RAY_AUTH_MODE=token\n"
        "set -a; [ -f ~/.momo.env ] && . ~/.momo.env; set +a\n"
    )
    (home / ".bash_profile").write_text(". ~/.bashrc\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    subprocess.run(["sh", ROOT / "scripts" / "cluster_env.sh"], cwd=work, check=True)
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [SSHD, "-D", "-e", "-f", str(work / "sshd_config")]
    with (work / "sshd.log").open("wb") as log:
        namespace = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        end = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", 22)) == 0:
                    break
            assert time.monotonic() < end, (work / "sshd.log").read_text()
            time.sleep(0.1)
        yield Machine(home, work, work / "key", namespace.pid)
    finally:
        namespace.kill()
        namespace.wait()
        shutil.rmtree(work, ignore_errors=True)
