"""What a drill did is undone when it ends, and when it is killed half way."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from platformops.clock import SystemClock
from platformops.on_ray.undoing import Undoing, marked
from platformops.pipeline.modules import PLATFORM_ROOT

pytestmark = pytest.mark.real
CLOCK = SystemClock()
HOLDER = """
import sys, time
from platformops.on_ray.undoing import Undoing
with Undoing() as undoing:
    undoing.add("remove_group", sys.argv[2])
    undoing.add("kill", sys.argv[1])
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def victim():
    mark = f"TESTED_DRILL=undoing-{os.getpid()}"
    name, _, value = mark.partition("=")
    process = subprocess.Popen(["sleep", "60"], env={name: value})
    process.mark = mark
    yield process
    process.kill()
    process.wait()


def test_the_end_of_a_drill_undoes_everything_in_reverse_order(victim, tmp_path):
    folder = tmp_path / "group"
    folder.mkdir()
    with Undoing() as undoing:
        undoing.add("remove_group", str(folder))
        undoing.add("kill", victim.mark)
        assert marked(victim.mark) == [victim.pid]
    assert victim.wait(timeout=60) == -signal.SIGKILL
    assert not folder.exists()


def test_a_drill_that_is_killed_half_way_leaves_nothing_behind(victim, tmp_path):
    folder = tmp_path / "group"
    folder.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, victim.mark, str(folder)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(PLATFORM_ROOT)},
    )  # fmt: skip
    assert holder.stdout.readline() == "ready\n"
    undoer = psutil.Process(holder.pid).children()[0]
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert victim.wait(timeout=60) == -signal.SIGKILL
    psutil.wait_procs([undoer], timeout=20)
    assert not folder.exists()
