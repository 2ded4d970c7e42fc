"""What only real worker processes show: crashes, leftovers, output, and that nothing outlives the runner."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from platformops.clock import SystemClock
from platformops.pipeline.launcher import WorkerLauncher
from platformops.pipeline.process import is_alive, owner_of, this_owner
from platformops.pipeline.wire import CRASHED, STOPPED, TIMED_OUT, Returned, StepRequest

pytestmark = pytest.mark.real

STAGES = '''
import os, signal, subprocess, sys, threading, time
from pathlib import Path

def pid(context):
    return {"pid": os.getpid()}

def prints(context):
    print("to out")
    print("to err", file=sys.stderr)
    subprocess.run(["echo", "from a child"])
    os.write(1, b"no newline")

def flood(context, lines):
    for _ in range(lines):
        print("x" * 1000)
    return {"lines": lines}

def binary(context):
    os.write(1, b"caf\\xe9 \\x1b[31m\\n" + b"y" * 200000 + b"\\n")

def dies(context, number=9):
    os.kill(os.getpid(), number)
    time.sleep(60)

def leaves(context):
    os._exit(0)

def closes_all(context):
    os.closerange(3, 256)
    time.sleep(60)

def leaves_children(context):
    """A child, a grandchild that was orphaned, and a daemon in a session of its own."""
    code = "import time; time.sleep(600)"
    pids = [subprocess.Popen([sys.executable, "-c", code]).pid]
    orphan = subprocess.Popen(["sh", "-c", "sleep 600 & echo $! > " + str(context.scratch / "orphan")])
    orphan.wait()
    script = "echo $$ > " + str(context.scratch / "daemon") + "; exec sleep 600"
    daemon = subprocess.Popen(["setsid", "-f", "sh", "-c", script])
    daemon.wait()
    for name in ("orphan", "daemon"):
        while not (path := context.scratch / name).exists() or not path.read_text().strip():
            time.sleep(0.01)
        pids.append(int(path.read_text()))
    (context.scratch / "pids").write_text(" ".join(map(str, pids)))
    if (context.scratch / "hang").exists():
        (context.scratch / "ready").touch()
        time.sleep(600)
    return {"pids": pids}

def deaf(context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (context.scratch / "ready").touch()
    while True:
        time.sleep(60)

def tidy(context):
    try:
        (context.scratch / "ready").touch()
        time.sleep(600)
    finally:
        (context.scratch / "tidied").touch()

def moves(context):
    os.chdir("/")

def where(context):
    return {"folder": os.getcwd()}

def thread(context):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return {"pid": os.getpid()}

def reads_stdin(context):
    return {"read": sys.stdin.read() if not sys.stdin.closed else ""}

def environment(context):
    return {"value": os.environ.get("MARK", "")}

def many_reports(context):
    for number in range(100000):
        context.progress(number / 100000, str(number))
    context.progress(1.0, "end")

def bad_ratio(context):
    context.progress(7, "more than all")

def figures(context):
    context.progress(1.0, "far", loss=0.5, bad=float("nan"), **{"step_seconds.rank1": 2})
'''


@pytest.fixture
def root(tmp_path):
    (tmp_path / "stages.py").write_text(STAGES)
    return tmp_path


@pytest.fixture
def launcher():
    launcher = WorkerLauncher(environment={**os.environ, "MARK": "given"}, clock=SystemClock())
    yield launcher
    launcher.close()


class Asker:
    def __init__(self, launcher, root):
        self.launcher, self.news = launcher, []
        self.output, self.scratch = root / "output", root / "scratch"
        self.output.mkdir()
        self.scratch.mkdir()
        self.plain = StepRequest("one", "", "f" * 64, {}, {}, self.output, self.scratch, root)

    def __call__(self, function, *, stop=None, on_cluster=False, timeout_s=None, **params):
        self.news = []
        request = replace(self.plain, uses=f"stages:{function}", params=params, timeout_s=timeout_s)
        request = replace(request, on_cluster=on_cluster)
        return self.launcher.run(request, stop=stop or threading.Event(), on_news=self.news.append)

    def printed(self):
        return [news.message for news in self.news if news.kind == "output"]


@pytest.fixture
def ask(launcher, root):
    return Asker(launcher, root)


def gone(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def wait_until(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.01)


def test_steps_share_a_worker_until_something_ends_it(ask):
    first = ask("pid").summary["pid"]
    assert ask("pid").summary["pid"] == first
    assert ask("dies").kind == CRASHED
    assert ask("pid").summary["pid"] != first


def test_what_a_stage_prints_goes_to_the_log_line_by_line(ask):
    assert isinstance(ask("prints"), Returned)
    assert ask.printed()[:3] == ["to out", "to err", "from a child"]


def test_a_flood_is_cut_and_the_step_still_ends(ask, monkeypatch):
    monkeypatch.setattr("platformops.pipeline.launcher.MOST_OUTPUT_BYTES", 100_000)
    assert ask("flood", lines=5000).summary == {"lines": 5000}
    assert 90 <= len(ask.printed()) <= 110
    assert "left out" in ask.printed()[-1]


def test_bytes_that_are_no_text_and_endless_lines_reach_the_log_safely(ask):
    assert isinstance(ask("binary"), Returned)
    assert ask.printed()[0] == "caf\\xe9 \x1b[31m"
    assert all(len(line) <= 140_000 for line in ask.printed())


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (6, "SIGABRT")])
def test_a_crash_names_its_signal(ask, number, name):
    failure = ask("dies", number=number)
    assert (failure.kind, failure.message) == (CRASHED, f"its process was ended by {name}")


def test_a_stage_that_leaves_its_process_is_a_crash(ask):
    assert ask("leaves").message == "its process ended with code 0 in the middle of the step"


def test_a_stage_that_closes_our_pipes_is_a_crash_and_not_a_hang(ask):
    assert ask("closes_all").kind == CRASHED


@pytest.mark.parametrize("on_cluster", [False, True])
def test_children_orphans_and_daemons_end_with_their_stage(ask, on_cluster):
    outcome = ask("leaves_children", on_cluster=on_cluster)
    assert len(outcome.summary["pids"]) == 3
    assert all(gone(pid) for pid in outcome.summary["pids"])


@pytest.mark.parametrize("way", ["stop", "timeout", "crash"])
def test_children_orphans_and_daemons_end_however_the_stage_ends(ask, way):
    (ask.scratch / "hang").touch()
    stop = threading.Event()

    def watch():
        wait_until((ask.scratch / "ready").exists, timeout_s=20)
        if way == "stop":
            stop.set()
        elif way == "crash":
            (worker,) = [w for w in ask.launcher._all]
            os.kill(worker._pid, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    failure = ask("leaves_children", stop=stop, timeout_s=4.0 if way == "timeout" else None)
    assert failure.kind == {"stop": STOPPED, "timeout": TIMED_OUT, "crash": CRASHED}[way]
    pids = list(map(int, (ask.scratch / "pids").read_text().split()))
    assert len(pids) == 3
    assert all(gone(pid) for pid in pids)


def test_a_stage_that_ignores_sigterm_is_killed_after_a_moment(ask):
    stop = threading.Event()
    threading.Thread(target=lambda: (wait_until((ask.scratch / "ready").exists), stop.set()), daemon=True).start()
    assert ask("deaf", stop=stop).kind == STOPPED


def test_a_stopped_stage_may_tidy_up(ask):
    stop = threading.Event()
    threading.Thread(target=lambda: (wait_until((ask.scratch / "ready").exists), stop.set()), daemon=True).start()
    ask("tidy", stop=stop)
    assert (ask.scratch / "tidied").exists()


def test_a_changed_working_directory_does_not_reach_the_next_stage(ask):
    before = ask("where").summary["folder"]
    ask("moves")
    assert ask("where").summary["folder"] == before


def test_a_worker_with_leftover_threads_is_replaced_but_not_that_of_the_cluster(ask):
    assert ask("thread").summary["pid"] != ask("pid").summary["pid"]
    assert ask("thread", on_cluster=True).summary["pid"] == ask("pid", on_cluster=True).summary["pid"]


def test_steps_on_the_cluster_have_a_worker_of_their_own(ask):
    assert ask("pid").summary["pid"] != ask("pid", on_cluster=True).summary["pid"]
    assert ask("pid", on_cluster=True).summary["pid"] == ask("pid", on_cluster=True).summary["pid"]


def test_a_stage_cannot_eat_the_runners_input(ask):
    assert ask("reads_stdin").summary == {"read": ""}


def test_a_stage_sees_the_environment_it_was_given(ask):
    assert ask("environment").summary == {"value": "given"}


def test_reports_are_thinned_but_the_last_one_comes(ask):
    ask("many_reports")
    assert len(ask.news) < 100
    assert (ask.news[-1].ratio, ask.news[-1].message) == (1.0, "end")
    ask("bad_ratio")
    assert ask.news[0].ratio == 1.0


def test_figures_that_a_stage_tells_arrive_and_what_is_no_number_does_not(ask):
    ask("figures")
    assert ask.news[0].figures == {"loss": 0.5, "step_seconds.rank1": 2.0}


def test_a_file_of_the_user_named_like_one_of_pythons_does_not_break_the_worker(ask, root, monkeypatch):
    (root / "json.py").write_text("raise SystemExit('wrong json')\n")
    (root / "select.py").write_text("raise SystemExit('wrong select')\n")
    monkeypatch.chdir(root)
    assert isinstance(ask("pid"), Returned)


def test_closing_ends_every_worker(ask):
    pids = [ask("pid").summary["pid"], ask("pid", on_cluster=True).summary["pid"]]
    ask.launcher.close()
    assert all(gone(pid) for pid in pids)


RUNNER = """
import os, sys, threading
from pathlib import Path
from platformops.clock import SystemClock
from platformops.pipeline.launcher import WorkerLauncher
from platformops.pipeline.wire import StepRequest

root = Path(sys.argv[1])
request = StepRequest("one", "stages:leaves_children", "f" * 64, {}, {}, root / "output", root / "scratch", root)
launcher = WorkerLauncher(environment=dict(os.environ), clock=SystemClock())
launcher.run(request, stop=threading.Event(), on_news=lambda news: None)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_runner_that_is_killed(root, number):
    for name in ("output", "scratch"):
        (root / name).mkdir()
    (root / "scratch" / "hang").touch()
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(root)])
    wait_until((root / "scratch" / "ready").exists, timeout_s=30)
    pids = list(map(int, (root / "scratch" / "pids").read_text().split()))
    assert not any(gone(pid) for pid in pids)
    runner.send_signal(number)
    runner.wait()
    wait_until(lambda: all(gone(pid) for pid in pids))


def test_an_owner_is_known_alive_dead_or_not_at_all():
    child = subprocess.Popen(["sleep", "600"])
    owner = owner_of(child.pid)
    assert is_alive(this_owner()) is True
    assert is_alive(owner) is True
    child.kill()
    child.wait()
    assert is_alive(owner) is False
    assert is_alive(replace(this_owner(), started=1)) is False, "the process id is used again by another process"
    assert is_alive(replace(owner, machine="another")) is None


def test_a_zombie_counts_as_dead():
    child = subprocess.Popen(["true"])
    owner = None
    try:
        owner = owner_of(child.pid)
        wait_until(lambda: is_alive(owner) is False)
    finally:
        child.wait()
