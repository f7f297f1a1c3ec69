"""Pictures are prepared in a process of its own, which may end: none but the guilty one goes."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from momo_platform.data import contained
from momo_platform.data.config import ImageConfig
from momo_platform.data.contained import prepare_pictures
from momo_platform.data.images import BadImage, prepare_picture

CONFIG = ImageConfig(size_cap=16)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{}</svg>'
CRASHES = SVG.format("<g>" * 400 + '<rect width="9" height="9"/>' + "</g>" * 400).encode()
SLOW = SVG.format(
    '<filter id="a"><feTurbulence baseFrequency="0.1" numOctaves="3000000"/></filter>'
    '<rect filter="url(#a)" width="9" height="9"/>'
).encode()


def picture(number, size=(20, 24)):
    buffer = io.BytesIO()
    image = Image.new("RGB", size, (number % 256, 0, 0))
    image.putpixel((number % 16, 3), (0, 255, 0))
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_what_comes_back_is_what_this_process_would_make():
    raws = [picture(n) for n in range(150)]
    expected = [prepare_picture(raw, CONFIG) for raw in raws]
    assert [*prepare_pictures(((raw, False) for raw in raws), CONFIG)] == expected
    assert [*prepare_pictures([], CONFIG)] == []
    (bad,) = prepare_pictures([(b"no picture \xff", False)], CONFIG)
    assert isinstance(bad, BadImage)
    assert str(bad) == "not a picture in a known format"


def test_other_configs_and_plain_pictures_without_a_look():
    plain = io.BytesIO()
    Image.new("RGB", (30, 20), "white").save(plain, "PNG")
    for config in (CONFIG, ImageConfig(size_cap=8, encoding="jpeg")):
        (made,) = prepare_pictures([(plain.getvalue(), False)], config)
        assert made == prepare_picture(plain.getvalue(), config)
        assert made.look is None


def test_a_picture_that_ends_the_process_goes_and_the_others_stay(monkeypatch):
    monkeypatch.setattr(contained, "SECONDS", 2)
    pictures = [(picture(n), False) for n in range(70)]
    for place in (0, 5, 6, 69):
        pictures[place] = (CRASHES, True)
    pictures[30] = (SLOW, True)
    found = [*prepare_pictures(pictures, CONFIG)]
    bad = {n: str(one) for n, one in enumerate(found) if isinstance(one, BadImage)}
    crash = "the decoder crashed (SIGSEGV)"
    slow = "decoding it took longer than 2 s"
    assert bad == {0: crash, 5: crash, 6: crash, 69: crash, 30: slow}
    assert found[31] == prepare_picture(picture(31), CONFIG)


def ended(process):
    """Whether it has, or is only waited for by a parent."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(processes):
    for _ in range(600):
        if all(ended(process) for process in processes):
            return
        time.sleep(0.1)
    pytest.fail(f"one of {processes} goes on")


def children(process):
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [*found, *(one for child in found for one in children(child))]


def processes_at_work():
    """The server and the process that it forked; other tests have others."""
    [*prepare_pictures([(picture(1), False)], CONFIG)]
    server = contained._process_of(os.getpid())._server._process.pid
    return [str(server), *children(server)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV"])
@pytest.mark.parametrize("which", [0, -1])
def test_a_process_that_ends_while_it_has_nothing_to_do_costs_no_picture(name, which):
    before = set(processes_at_work())
    process = int(processes_at_work()[which])
    os.kill(process, getattr(signal, name))
    wait_for([process])
    for count in (1, 70):
        raws = [picture(n) for n in range(count)]
        found = [*prepare_pictures([(raw, False) for raw in raws], CONFIG)]
        assert found == [prepare_picture(raw, CONFIG) for raw in raws]
    assert set(processes_at_work()) != before


def test_crashes_start_no_server_again(monkeypatch):
    [*prepare_pictures([(picture(1), False)], CONFIG)]
    monkeypatch.setattr(contained.subprocess, "Popen", None)
    found = [*prepare_pictures([(CRASHES, True), (picture(2), False)] * 5, CONFIG)]
    assert [isinstance(one, BadImage) for one in found] == [True, False] * 5


def test_an_interrupted_task_leaves_no_answers_to_the_next():
    def interrupt(*_):
        raise KeyboardInterrupt

    some = SLOW.replace(b"3000000", b"100000")
    [*prepare_pictures([(picture(1), False)], CONFIG)]
    earlier = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            [*prepare_pictures([(some, True)] * 60, CONFIG)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
    raws = [picture(n) for n in range(5)]
    found = [*prepare_pictures([(raw, False) for raw in raws], CONFIG)]
    assert found == [prepare_picture(raw, CONFIG) for raw in raws]


def test_an_answer_to_another_request_is_refused(monkeypatch):
    own = contained._Process()
    own.prepare([(picture(1), False)], CONFIG)
    ask = contained._Server.ask
    monkeypatch.setattr(
        contained._Server, "ask", lambda server, number, *rest: ask(server, number - 1, *rest)
    )
    with pytest.raises(RuntimeError, match="an answer to request 1 of pictures, not to 2"):
        own.prepare([(picture(1), False)], CONFIG)
    monkeypatch.undo()
    assert own.prepare([(picture(1), False)], CONFIG) == [prepare_picture(picture(1), CONFIG)]
    own.close()


PARENT = """
import test_contained_pictures as test
test.contained.SECONDS = 600
print(*test.processes_at_work(), flush=True)
[*test.prepare_pictures([(test.SLOW.replace(b"3000000", b"300000000"), True)], test.CONFIG)]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_outlives_a_task_that_is_killed():
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
    ) as parent:
        assert parent.stdout is not None
        processes = parent.stdout.readline().decode().split()
        assert processes
        time.sleep(1)  # it is at the picture
        parent.kill()
    wait_for(processes)


def test_a_process_that_cannot_start_says_why_and_costs_no_picture(monkeypatch, tmp_path):
    own = contained._Process()
    bare = tmp_path / "python"  # that finds no package, wherever it is installed
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setattr("sys.executable", "/bin/false")
        with pytest.raises(RuntimeError, match=r"can't be prepared.*exit status 1\)\. Run `"):
            own.prepare([(picture(1), False)], CONFIG)
    with monkeypatch.context() as patched:
        patched.setattr("sys.path", ["/nowhere"])
        patched.setattr("sys.executable", str(bare))
        told = r"ModuleNotFoundError: No module named 'momo_platform.*environment must be that of"
        with pytest.raises(RuntimeError, match=told):
            own.prepare([(picture(1), False)], CONFIG)
    assert own.prepare([(picture(1), False)], CONFIG) == [prepare_picture(picture(1), CONFIG)]
    own.close()
