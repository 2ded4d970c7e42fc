"""The crank of node health over real datagrams, beside real probes and servers of their kind; only Ray is a fake."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from platformops.clock import SystemClock
from platformops.fleet import STATUS, FleetController
from platformops.health.nodes import NODES, Member, node_from
from platformops.on_ray.fleet import RayFleet
from platformops.store.memory import MemoryStore
from tests.on_ray.test_probe import ROOT, SERVER

pytestmark = pytest.mark.real
CLOCK = SystemClock()
DEADLINE_S = 60.0


class FakeHands:
    """Ray's table and calls over processes that this test started; a probe is the real one."""

    def __init__(self, folder, num_nodes):
        self.folder, self.servers, self.members, self.workers = folder, {}, {}, {}
        self.unregistered, self.avoided = [], ()
        for number in range(num_nodes):
            node = f"{os.getpid():08x}{number:048x}"
            server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
            port, worker = map(int, server.stdout.readline().split())
            self.servers[node], self.workers[node] = (server, port), worker
            self.members[node] = Member(node, f"10.0.0.{number}", True, number == 0, cpus=2.0, free_cpus=2.0)

    def table(self):
        addresses = {n: ("127.0.0.1", self.servers[n][1]) for n, m in self.members.items() if m.is_alive}
        return list(self.members.values()), addresses

    def waiting(self):
        return [{"name": "train-1", "team": "ada", "since": 1.0, "reason": "room for 0 of 2"}]

    def serving(self):
        return {}

    def lives(self):
        return []

    def begin_probe(self, node, incarnation, key, controller, server):
        given = {
            "node": node, "incarnation": incarnation, "key": key.hex(), "controller": controller, "site": [],
            "raylet_pid": self.servers[node][0].pid, "raylet": server, "folder": str(self.folder),
        }  # fmt: skip
        command = [sys.executable, "-S", "-P", "-m", "platformops.on_ray.probe"]
        environment = {"PYTHONPATH": str(ROOT), "TESTED_NODE": node}
        subprocess.run(command, input=json.dumps(given), text=True, env=environment, check=True, timeout=60)

    def failure(self, begun):
        return ""

    def unregister(self, node, reason):
        self.unregistered.append(node)
        self.members[node] = replace(self.members[node], is_alive=False)

    def drain(self, node, reason):
        raise AssertionError("nothing is to be drained here")

    def checkpoint(self, node, at):
        raise AssertionError("nothing is trained here")

    def avoid(self, nodes, suspects, rates_per_s):
        self.avoided = tuple(nodes)

    def share(self, teams):
        self.teams = dict(teams)

    def probe(self, node):
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("TESTED_NODE") == node:
                    return process
        return None

    def close(self):
        for node, (server, _) in self.servers.items():
            for process in (
                psutil.Process(self.workers[node]) if psutil.pid_exists(self.workers[node]) else None,
                server,
            ):
                with contextlib.suppress(psutil.Error):
                    if process is not None:
                        process.kill()
            server.wait()
            server.stdout.close()


class Bench:
    def __init__(self, folder):
        self.store, self.hands = MemoryStore(), FakeHands(folder, 4)
        self.nodes = list(self.hands.members)
        self.ports = RayFleet(self.store, CLOCK, self.hands, "127.0.0.1")
        self.fleet = FleetController(self.store, self.ports, CLOCK, "test")

    def until(self, condition):
        """Seconds until it was true, with a turn four times a second."""
        began = CLOCK.monotonic()
        while not condition():
            assert CLOCK.monotonic() - began < DEADLINE_S, self.store.get(STATUS)
            self.fleet.turn()
            CLOCK.sleep(0.25)
        return CLOCK.monotonic() - began

    def record(self, number):
        entry = self.store.get(NODES + self.nodes[number])
        return node_from(entry.value)

    def run(self, duration_s):
        began = CLOCK.monotonic()
        self.until(lambda: CLOCK.monotonic() - began >= duration_s)

    def is_heard(self):
        """Whether every living node was, within the last seconds."""
        entry = self.store.get(STATUS)
        rows = [row for row in entry.value["nodes"] if row["liveness"] != "dead"] if entry else []
        return bool(rows) and all((99.0 if (s := row["heard_s_ago"]) is None else s) < 2.5 for row in rows)


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.ports.dismiss(made.fleet.epoch)
    made.ports.close()
    made.hands.close()


def test_servers_that_are_killed_and_frozen_workers_and_probes_are_each_answered_as_they_ought_to_be(bench):
    """One story, as every chapter needs nodes that have beaten for a while."""
    bench.until(bench.is_heard)
    bench.run(6.0)  # fewer beats condemn nobody
    os.kill(bench.hands.workers[bench.nodes[3]], signal.SIGSTOP)
    bench.until(lambda: bench.record(3).killed)
    bench.hands.servers[bench.nodes[1]][0].kill()
    bench.until(lambda: bench.record(1).is_dead)
    bench.hands.servers[bench.nodes[2]][0].send_signal(signal.SIGSTOP)
    bench.until(lambda: bench.record(2).is_dead)
    bench.until(lambda: bench.hands.servers[bench.nodes[2]][0].poll() is not None)
    assert bench.hands.unregistered == [bench.nodes[1], bench.nodes[2]]
    bench.hands.probe(bench.nodes[3]).kill()
    bench.until(lambda: bench.record(3).incarnation == 2)
    bench.run(1.0)
    bench.until(bench.is_heard)
    assert not bench.record(0).is_dead
    assert not bench.record(3).is_dead
    assert bench.hands.avoided == ()
