"""kill -9 of whatever carries a pipeline, at random moments: the next run finishes, and nothing was done twice."""

import os
import random
import signal
import time

import pytest

from platformops.registry.registry import list_versions
from platformops.store.artifacts import Artifacts
from tests.end_to_end.platform_kit import DIGITS
from tests.faults.processes import command_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
KILLS = 3
WORKERS = ("RayTrainWorker", "ray::Map", "ray::Reader", "ImplicitFunc", "run_trial")
"""How Ray titles the processes that train, map, read and try."""
SPAN_S = 25.0
"""About as long as the pipeline takes: kills fall into every stage."""


def check_nothing_was_done_twice(platform, finished):
    assert finished["state"] == "succeeded"
    done = platform.finished_steps()
    assert len(done) == len(set(done)), "no finished step ran twice"
    with platform.store() as store:
        versions = list_versions(store, "digits")
        artifacts = Artifacts(str(platform.home / "artifacts"), cache=platform.home / "cache")
        for place in versions[-1].artifacts.values():
            artifacts.open(place["fingerprint"], place["manifest_digest"])
    return versions


def arguments(seed):
    """A short form of the digits pipeline; another seed makes another model."""
    overrides = ("search.trials=2", "search.epochs=2", "train.epochs=6", f"train.seed={seed}")
    return ["run", DIGITS, *(part for override in overrides for part in ("--set", override))]


@pytest.fixture
def moments(request):
    return random.Random(request.node.name)


def test_a_killed_driver_leaves_a_run_that_the_next_one_finishes(on_live_cluster, moments):
    for _ in range(KILLS):
        driver = on_live_cluster.start(*arguments(seed=1))
        with_timeout(driver, moments.uniform(0.3, SPAN_S))
        driver.kill()
        driver.communicate()
    finished = on_live_cluster.json(*arguments(seed=1))
    assert len(check_nothing_was_done_twice(on_live_cluster, finished)) == 1


def test_killed_workers_and_train_controllers_cost_attempts_and_never_the_run(live, on_live_cluster, moments):
    run_under_kills(live, on_live_cluster, moments, ["worker", "TrainController", "worker", "TrainController"], seed=2)


def test_a_killed_controller_actor_costs_neither_the_release_nor_a_second_version(live, moments):
    versions = len(live.json("models")["models"])
    changes = ("train.epochs=5", "search.trials=2", 'release.steps=["100%"]')
    command = live.start("up", DIGITS, *(word for c in changes for word in ("--set", c)), "--json")
    killed = 0
    while command.poll() is None:
        with_timeout(command, moments.uniform(1.0, SPAN_S / KILLS * 2))
        killed += killed < KILLS and kill_one(live, "ControllerProcess")
    out, err = command.communicate()
    assert killed, "the controller was there to be killed"
    assert command.returncode == 0, f"{out[-2000:]}\n{err[-4000:]}"
    assert len(live.json("models")["models"]) == versions + 1
    (system,) = live.json("status")["systems"]
    assert sum(system["weights"].values()) == 100
    assert live.json("rollback", "digits")["state"] == "promoted", "others find the system as it was"


def run_under_kills(live, platform, moments, victims, *, seed):
    """Kills a process of each kind, at random moments, in as many runs as that takes; then a run must finish."""
    left, runs = list(victims), 0
    while left:
        runs += 1
        assert runs <= 2 * len(victims), f"{left} were not there to be killed"
        command = platform.start(*arguments(seed=seed * 100 + runs), "--json")
        while command.poll() is None and left:
            with_timeout(command, moments.uniform(0.5, SPAN_S / len(victims)))
            if command.poll() is None and kill_one(live, left[0]):
                left.pop(0)
        command.communicate()
        if command.returncode != 0:
            platform.json(*arguments(seed=seed * 100 + runs))
    finished = platform.json(*arguments(seed=seed * 100 + runs))
    assert len(check_nothing_was_done_twice(platform, finished)) == runs


def with_timeout(process, duration_s):
    """Lets the process run for so long; a process that ends earlier ends the wait."""
    deadline = time.monotonic() + duration_s
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def kill_one(live, what):
    """Whether a process of this kind was there: `worker` stands for whatever computes for a stage."""
    found = [p for p in live.cluster_processes() if is_one(command_of(p), what)]
    if not found:
        return False
    try:
        os.kill(max(found, key=lambda p: p.pid).pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def is_one(command, what):
    if what == "worker":
        return any(
            kind in command for kind in ("RayTrainWorker", "ray::Reader", "ray::Map", "run_trial", "ImplicitFunc")
        )
    return what in command
