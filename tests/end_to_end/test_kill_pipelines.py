"""Pure pipelines of real processes on a real store, killed at random moments: the next run always finishes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from platformops.errors import StoreUnavailable
from platformops.home import home_at
from platformops.store.artifacts import Artifacts
from platformops.store.open import open_store
from platformops.store.sqlite import SqliteStore
from tests.faults.processes import below, is_gone, wait_until

pytestmark = pytest.mark.real

STAGES = """
import os, time

def note(context, what, name):
    with open(context.root / "effects", "a") as file:  # one write of one line: whole or not at all
        file.write(f"{what} {name}\\n")

def step(context, name, seconds=0.01):
    note(context, "began", name)
    context.progress(0.5, "half")
    time.sleep(seconds)
    lines = [name]
    for parent, folder in sorted(context.inputs.items()):
        lines += (folder / "out.txt").read_text().splitlines()
    (context.output / "out.txt").write_text("\\n".join(lines))
    (context.output / "deep").mkdir()
    (context.output / "deep" / "more.bin").write_bytes(os.urandom(64))
    note(context, "ended", name)
    return {"name": name}

def for_ever(context):
    (context.root / "ready").touch()
    time.sleep(600)
"""
DRIVER = '''
import json, os, sys, threading
from pathlib import Path
from platformops.clock import SystemClock
from platformops.home import home_at
from platformops.pipeline import journal, runner
from platformops.pipeline.identity import FileIdentity
from platformops.pipeline.launcher import WorkerLauncher
from platformops.pipeline.plan import make_plan
from platformops.pipeline.process import this_owner
from platformops.pipeline.records import Stage
from platformops.pipeline.runner import exit_code, run_plan
from platformops.store.artifacts import Artifacts
from platformops.store.open import open_store

root = Path(sys.argv[1])
journal.LEASE_S, runner.RENEW_S = float(os.environ.get("LEASE_S", journal.LEASE_S)), 0.2
home, clock = home_at(root / "home"), SystemClock()
store = open_store(home.store_url)
identity = FileIdentity(root=root, data_root=None, store=store, clock=clock)
graph = {"a": [], "b": [], "c": ["a"], "d": ["a", "b"], "e": ["c", "d"], "f": ["e"], "g": ["b"], "h": ["f", "g"]}
stages = [Stage(n, "stages:step", tuple(needs), {"name": n}, on_cluster=n in "ch") for n, needs in graph.items()]
plan = make_plan("demo", stages, identity=identity)
launcher = WorkerLauncher(environment=dict(os.environ), clock=clock)
artifacts = Artifacts(home.artifacts_url, cache=home.cache)
(root / "started").touch()
try:
    result = run_plan(plan, store=store, artifacts=artifacts, home=home, clock=clock, launcher=launcher,
                      owner=this_owner(), root=root, identity=identity, verify=tuple(graph))
finally:
    launcher.close()
steps = [[s.name, s.state.value, s.cached, s.fingerprint, s.manifest_digest] for s in result.steps]
print(json.dumps({"state": result.state.value, "reason": result.reason, "steps": steps}))
sys.exit(exit_code(result))
'''  # fmt: skip
NAMES = "abcdefgh"


class Project:
    def __init__(self, root):
        self.root = root
        (root / "stages.py").write_text(STAGES)
        (root / "driver.py").write_text(DRIVER)
        self.home = home_at(root / "home")
        self.home.root.mkdir()

    def start(self, **environment):
        command = [sys.executable, str(self.root / "driver.py"), str(self.root)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=os.environ | environment, **pipes)

    def finish(self, runner):
        out, err = runner.communicate(timeout=60)
        assert runner.returncode == 0, out + err
        return json.loads(out.splitlines()[-1])

    def began(self):
        """Name -> how many times the step's function was entered."""
        path = self.root / "effects"
        lines = path.read_text().splitlines() if path.exists() else []
        return {name: lines.count(f"began {name}") for name in NAMES}

    def done(self):
        store = open_store(self.home.store_url)
        try:
            return {entry.value["stage"] for entry in store.scan("step/") if entry.value["state"] == "done"}
        finally:
            store.close()

    def check(self, answer):
        """Every step is done, every artifact whole, nothing left aside."""
        assert answer["state"] == "succeeded", answer
        assert self.done() == set(NAMES)
        artifacts = Artifacts(self.home.artifacts_url, cache=self.home.cache)
        for name, state, _, fingerprint, digest in answer["steps"]:
            assert state == "done"
            lines = (artifacts.open(fingerprint, digest) / "out.txt").read_text().splitlines()
            assert lines[0] == name
        assert not list((self.home.root / "artifacts" / ".quarantine").glob("*"))
        assert not list(self.home.scratch.glob("*"))


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_a_run_that_nobody_kills_does_each_step_once(project):
    project.check(project.finish(project.start()))
    assert project.began() == dict.fromkeys(NAMES, 1)
    answer = project.finish(project.start())
    assert all(cached for _, _, cached, _, _ in answer["steps"])
    assert project.began() == dict.fromkeys(NAMES, 1)


@pytest.mark.parametrize("seed", range(8))
def test_a_runner_that_is_killed_leaves_what_it_finished_and_the_next_goes_on(project, seed):
    luck = random.Random(seed)
    kept = {}
    for _ in range(4):
        (project.root / "started").unlink(missing_ok=True)
        runner = project.start()
        wait_until((project.root / "started").exists)
        time.sleep(luck.uniform(0.0, 0.35))  # the moment of the kill: the point of this test
        family = below(runner.pid)
        runner.kill()
        runner.communicate()
        wait_until(lambda family=family: all(is_gone(pid) for pid in family))
        began, done = project.began(), project.done()
        assert all(began[name] == count for name, count in kept.items()), "a finished step ran again"
        kept = {name: began[name] for name in done}
    project.check(project.finish(project.start()))
    assert all(project.began()[name] == count for name, count in kept.items()), "a finished step ran again"


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_worker_or_guard_is_replaced_within_the_same_run(project, seed):
    luck = random.Random(100 + seed)
    runner = project.start()
    wait_until((project.root / "started").exists)
    for _ in range(2):
        time.sleep(luck.uniform(0.05, 0.2))
        if family := below(runner.pid):
            pid = luck.choice(family)
            if not is_gone(pid):
                os.kill(pid, signal.SIGKILL)
    answer = project.finish(runner)
    project.check(answer)
    assert sum(project.began().values()) <= len(NAMES) + 2 * 2, "each kill costs at most the steps that it met"


def test_runners_that_race_on_one_store_do_each_step_once(project):
    runners = [project.start() for _ in range(3)]
    answers = [project.finish(runner) for runner in runners]
    for answer in answers:
        project.check(answer)
    assert project.began() == dict.fromkeys(NAMES, 1)
    assert len({json.dumps([step[3:] for step in answer["steps"]]) for answer in answers}) == 1


@pytest.mark.parametrize("seed", range(3))
def test_when_one_of_two_racing_runners_is_killed_the_other_finishes_for_it(project, seed):
    runners = [project.start() for _ in range(2)]
    wait_until((project.root / "started").exists)
    time.sleep(random.Random(200 + seed).uniform(0.05, 0.3))
    runners[0].kill()
    runners[0].communicate()
    project.check(project.finish(runners[1]))
    assert sum(project.began().values()) <= len(NAMES) + 2, "only what the killed one was at began again"


def pause_outside_a_write(project, runner):
    """SQLite has one writer at a time: a process that is stopped within a write keeps everybody else waiting."""
    path = Path(project.home.store_url.removeprefix("sqlite:///"))
    while True:
        runner.send_signal(signal.SIGSTOP)
        store = SqliteStore(path, busy_timeout_s=0.3)
        try:
            store.put("lease/probe", {}, expect=None)
            return
        except StoreUnavailable:
            runner.send_signal(signal.SIGCONT)
        finally:
            store.close()


def test_a_runner_that_was_paused_for_longer_than_its_lease_takes_the_others_results(project):
    first = project.start(LEASE_S="1.0")
    wait_until(lambda: sum(project.began().values()) >= 1)
    pause_outside_a_write(project, first)
    try:
        began = project.began()
        answer = project.finish(project.start(LEASE_S="1.0"))
        project.check(answer)
    finally:
        first.send_signal(signal.SIGCONT)
    late = project.finish(first)
    project.check(late)
    assert [step[3:] for step in late["steps"]] == [step[3:] for step in answer["steps"]]
    again = {name: count - began[name] for name, count in project.began().items() if began[name]}
    assert sum(again.values()) <= 2, "only what the paused one held at that moment began again"


SPEC = """system: demo
stages:
  - {name: quick, uses: "stages:step", with: {name: quick}}
  - {name: slow, uses: "stages:for_ever", needs: [quick]}
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_that_is_interrupted_says_so_and_the_next_one_goes_on(project, number):
    (project.root / "demo.yaml").write_text(SPEC)
    environment = {**os.environ, "PLATFORMOPS_HOME": str(project.home.root)}
    program = "import sys; from platformops.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "run", "demo.yaml", "--json"]

    def start():
        return subprocess.Popen(
            command, cwd=project.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    runner = start()
    wait_until((project.root / "ready").exists)
    family = below(runner.pid)
    runner.send_signal(number)
    out, err = runner.communicate(timeout=30)
    assert runner.returncode == 130, out + err
    assert all(is_gone(pid) for pid in family)
    answer = json.loads(out.splitlines()[-1])
    assert (answer["state"], [step["state"] for step in answer["steps"]]) == ("cancelled", ["done", "cancelled"])
    (project.root / "stages.py").write_text(STAGES.replace("time.sleep(600)", "pass"))
    again = start()
    out, err = again.communicate(timeout=30)
    assert again.returncode == 0, out + err
