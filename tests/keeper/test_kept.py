"""The keeper's own process over servers that only look like Ray's: real processes, real signals, no Ray."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from platformops.clock import SystemClock
from platformops.home import home_at
from platformops.keeper import process
from platformops.keeper.errands import Errand
from platformops.on_ray import cluster, servers
from platformops.store.open import open_store

pytestmark = pytest.mark.real
SERVER = """
import socket, sys, time
open("/proc/self/comm", "w").write(sys.argv[1])
with socket.socket() as listening:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", int(sys.argv[2])))
    listening.listen()
    time.sleep(600)
"""


def until(true, *, within_s=30.0):
    deadline = time.monotonic() + within_s
    while not (answer := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return answer


class Kept:
    """A home whose recorded cluster is two small servers, and the keeper that was started for it."""

    def __init__(self, root):
        self.where = home_at(root / "home")
        self.where.root.mkdir()
        self.store = open_store(self.where.store_url)
        self.mark = str(root / "temp")
        self.port = cluster.free_port()
        self.store.put(
            cluster.RECORD, asdict(cluster.Cluster(f"127.0.0.1:{self.port}", "token", True, self.mark)), expect=None
        )
        self.processes = [self.start(servers.GCS, self.port), self.start(servers.RAYLET, cluster.free_port())]
        until(lambda: self.server(servers.GCS) and self.server(servers.RAYLET))
        process.ensure(self.where, os.environ)
        until(lambda: process.keeper_of(self.where) and self.events())

    def start(self, name, port):
        environment = os.environ | {servers.MARK: self.mark, "RAY_gcs_storage": "rocksdb"}
        return subprocess.Popen([sys.executable, "-c", SERVER, name, str(port)], env=environment)

    def server(self, name):
        return servers.server(self.mark, name)

    def events(self):
        log = self.where.logs / "keeper.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def acts(self):
        return [(line["event.action"], line["platformops.act"]) for line in self.events() if "platformops.act" in line]

    def end(self):
        with contextlib.suppress(psutil.Error):
            process.stop(self.where, SystemClock())
        servers.kill_processes(servers.processes_of(self.mark))
        for one in self.processes:
            one.wait()
        self.store.close()


@pytest.fixture
def kept(tmp_path):
    kept = Kept(tmp_path)
    yield kept
    kept.end()


def test_a_killed_gcs_runs_again_by_the_same_command_while_the_raylet_goes_on(kept):
    before, raylet = kept.server(servers.GCS), kept.server(servers.RAYLET)
    command = before.cmdline()
    before.kill()
    after = until(lambda: (p := kept.server(servers.GCS)) and p.pid != before.pid and p)
    assert after.cmdline() == command
    assert kept.server(servers.RAYLET).pid == raylet.pid
    until(lambda: ("done", "start the GCS again") in kept.acts())


def test_a_process_that_a_signal_holds_still_is_killed_and_nobody_elses(kept):
    ours, other = kept.start("replica", cluster.free_port()), subprocess.Popen(["sleep", "600"])
    try:
        for one in (ours, other):
            os.kill(one.pid, signal.SIGSTOP)
        assert ours.wait(timeout=30) == -signal.SIGKILL
        assert psutil.Process(other.pid).status() == psutil.STATUS_STOPPED
    finally:
        other.kill()
        other.wait()


def test_an_errand_that_was_left_is_run_and_down_ends_the_keeper_first(kept):
    kept.where.errands.mkdir()
    errand = Errand(("models",), str(kept.where.root), {})
    (kept.where.errands / "1-a.json").write_text(json.dumps(asdict(errand)))
    log = until(lambda: next(iter(kept.where.logs.glob("resumed-*.log")), None))
    until(lambda: log.read_text())
    assert ("decided", "resume 1-a.json") in kept.acts()
    assert process.stop(kept.where, SystemClock())
    assert process.keeper_of(kept.where) is None
    kept.server(servers.GCS).kill()
    assert process.stop(kept.where, SystemClock()) is False


def test_a_cluster_that_is_wanted_no_more_ends_its_keeper(kept):
    kept.store.put(cluster.RECORD, {}, expect=None)
    until(lambda: process.keeper_of(kept.where) is None)
    assert not [act for act in kept.acts() if "start" in act[1]]


def test_a_second_keeper_of_the_same_home_ends_at_once(kept):
    pid = process.keeper_of(kept.where)
    environment = os.environ | {"PLATFORMOPS_HOME": str(kept.where.root), "PYTHONPATH": str(Path.cwd())}
    second = subprocess.run([sys.executable, "-m", process.ENTRY], env=environment, timeout=60, check=False)
    assert second.returncode == 0
    assert process.keeper_of(kept.where) == pid
