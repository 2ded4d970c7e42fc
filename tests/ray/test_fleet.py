"""Node health on a real cluster: its one node is probed, a dead probe is replaced, a frozen actor is ended."""

import contextlib
import os
import signal

import psutil
import pytest

from platformops.delivery.decisions import explain
from platformops.fleet import STATUS
from platformops.health.nodes import NODES, node_from
from platformops.home import home_at
from platformops.store.open import open_store
from tests.ray.serving_kit import await_true

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]
"""Ray warns about itself while it starts."""


class Site:
    def __init__(self, root):
        self.home = home_at(root)
        self.home.root.mkdir(parents=True, exist_ok=True)
        self.store = open_store(self.home.store_url)

    def row(self):
        entry = self.store.get(STATUS)
        rows = [r for r in entry.value["nodes"] if r["liveness"] != "dead"] if entry else []
        return rows[0] if rows else None

    def is_heard(self):
        row = self.row()
        return row is not None and row["heard_s_ago"] is not None and row["heard_s_ago"] < 3.0

    def record(self):
        return node_from(self.store.get(NODES + self.row()["id"]).value)

    def told(self):
        return [d.decision for d in explain(self.store, self.row()["id"])]


@pytest.fixture(scope="module")
def site(ray_cluster, tmp_path_factory):
    from platformops.on_ray.controller import start_controller, stop_controller

    made = Site(tmp_path_factory.mktemp("fleet"))
    stop_controller()
    start_controller(made.home)
    await_true(made.is_heard)
    yield made
    stop_controller()
    for probe in probes():
        probe.kill()


def probes():
    """Of this cluster."""
    raylets = {str(p.pid) for p in psutil.Process().children(recursive=True) if p.name() == "raylet"}
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            if "platformops.on_ray.probe" in (process.info["cmdline"] or []):
                found += [process] if process.environ().get("RAY_RAYLET_PID") in raylets else []
    return found


def test_a_node_is_probed_and_shown_with_its_readings(site):
    await_true(lambda: "memory_available_ratio" in site.row()["readings"])
    row = site.row()
    assert (row["state"], row["is_head"], row["is_cordoned"]) == ("healthy", True, False)
    assert row["costs_slot_s"]


def test_a_frozen_actor_is_ended_and_its_node_left_alone(site):
    import ray

    class Frozen:
        def pid(self):
            return os.getpid()

    actor = ray.remote(Frozen).options(num_cpus=0, max_restarts=1, max_task_retries=1).remote()
    pid = ray.get(actor.pid.remote(), timeout=120)
    os.kill(pid, signal.SIGSTOP)
    await_true(lambda: site.record().killed)
    assert ray.get(actor.pid.remote(), timeout=120) != pid
    assert site.told()[0] == "restart worker"
    assert not site.record().is_dead
    ray.kill(actor)


def test_a_dead_probe_is_replaced(site):
    import ray

    before, running = site.record().incarnation, probes()
    assert len(running) == 1
    running[0].kill()
    await_true(lambda: site.record().incarnation > before)
    await_true(site.is_heard)
    assert "restart its probe" in site.told()
    assert ray.nodes()[0]["Alive"]
