"""Real processes that hang: their stacks are told and they are ended; those that beat are left alone."""

import json
import os
import signal
import subprocess
import sys

import pytest

from platformops.clock import ManualClock
from platformops.on_ray.pulse import beat_file
from platformops.on_ray.stuck import Section, beat_from
from platformops.on_ray.watching import StuckWatch

pytestmark = pytest.mark.real
WORKER = """
import sys, time
from pathlib import Path
from platformops.clock import SystemClock
from platformops.on_ray.pulse import Pulse
from platformops.on_ray.stuck import Section
def a_lock_that_nobody_gives_back():
    time.sleep(600)
with Pulse(Path(sys.argv[1]), 0, SystemClock()) as pulse:
    for _ in range(20):
        pulse.enter(Section.STEP)
        time.sleep(0.02)
    print("steps", flush=True)
    if sys.argv[2] == "hang":
        a_lock_that_nobody_gives_back()
"""


def started(folder, what):
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(folder), what], stdout=subprocess.PIPE, text=True)
    assert worker.stdout.readline() == "steps\n"
    return worker


@pytest.fixture
def hanging(tmp_path):
    worker = started(tmp_path, "hang")
    yield worker
    worker.kill()
    worker.wait()
    worker.stdout.close()


def looked(folder, *, seconds):
    """What a watcher told that looked twice a second, in a time that passes at once."""
    told, clock = [], ManualClock()
    watch = StuckWatch(folder, clock, lambda *said: told.append(said))
    for _ in range(2 * seconds):
        clock.sleep(0.5)
        watch.look()
    return told


def test_a_hanging_worker_is_ended_with_its_stack_told(tmp_path, hanging):
    limit_s = beat_from(beat_file(tmp_path, 0).read_text()).limit_s
    assert looked(tmp_path, seconds=int(limit_s) - 2) == []
    ((said, stack),) = looked(tmp_path, seconds=int(limit_s) + 2)
    assert hanging.wait(timeout=60) == -signal.SIGKILL
    assert "no progress in its step" in said
    assert "a_lock_that_nobody_gives_back" in stack


def test_a_worker_held_still_by_a_signal_is_ended_at_once(tmp_path, hanging):
    os.kill(hanging.pid, signal.SIGSTOP)
    ((said, _),) = looked(tmp_path, seconds=4)
    assert hanging.wait(timeout=60) == -signal.SIGKILL
    assert "held still" in said


def test_a_worker_that_ended_is_left_alone_and_its_successor_learns_from_it(tmp_path):
    for groups in (1, 2):
        worker = started(tmp_path, "end")
        assert worker.wait(timeout=60) == 0
        worker.stdout.close()
        beat = beat_from(beat_file(tmp_path, 0).read_text())
        assert (beat.section, beat.limit_s, beat.groups, beat.steps) == (Section.ENDED, None, groups, 19)
    assert looked(tmp_path, seconds=600) == []


def test_a_process_that_has_the_id_of_a_dead_worker_is_not_ended(tmp_path, hanging):
    path = beat_file(tmp_path, 0)
    beat = json.loads(path.read_text())
    beat["owner"]["started"] = "another time"
    path.write_text(json.dumps(beat))
    assert looked(tmp_path, seconds=600) == []
    assert hanging.poll() is None
