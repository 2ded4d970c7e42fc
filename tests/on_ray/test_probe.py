"""The probe as a process, beside a server that answers as Ray's do and is then stopped and killed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from platformops.clock import SystemClock
from platformops.health.vitals import GPU_COUNT, GPU_ECC, GPU_TEMPERATURE, GPU_THROTTLED
from platformops.health.wire import Order, RayletState, order_bytes, report_from
from platformops.on_ray.answering import Answer, Question
from platformops.on_ray.gpus import GpuReading, gpu_readings

ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import socket, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], child.pid, flush=True)
while True:
    c, _ = s.accept()
    c.recv(100)
    c.sendall(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
    c.close()
"""
KEY = b"7" * 32


class Node:
    """A server with one worker, its probe, and the controller's end of the link."""

    def __init__(self, folder):
        self.server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
        port, worker = map(int, self.server.stdout.readline().split())
        self.worker = psutil.Process(worker)
        self.link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.link.bind(("127.0.0.1", 0))
        self.link.settimeout(30)
        self.given = {
            "node": f"test-{os.getpid()}", "incarnation": 2, "key": KEY.hex(), "controller": self.link.getsockname(),
            "raylet_pid": self.server.pid, "raylet": ["127.0.0.1", port], "folder": str(folder), "site": [],
        }  # fmt: skip
        self.environment = {"PYTHONPATH": str(ROOT), "TESTED_NODE": self.given["node"]}
        self.start()

    def start(self):
        command = [sys.executable, "-S", "-P", "-m", "platformops.on_ray.probe"]
        told = json.dumps(self.given)
        subprocess.run(command, input=told, text=True, env=self.environment, check=True, timeout=60)

    def heard(self, condition=lambda report: True):
        """The next report of which it is true."""
        while True:
            datagram, self.probe = self.link.recvfrom(9000)
            report = report_from(datagram, KEY)
            if condition(report):
                return report

    def order(self, report, **changes):
        order = {"epoch": 1, "incarnation": 2, "answers": report.heartbeat.sequence, **changes}
        self.link.sendto(order_bytes(Order(report.heartbeat.node, **order), KEY), self.probe)

    def close(self):
        for process in (self.worker, psutil.Process(self.server.pid)):
            if process.is_running():
                process.kill()
        self.server.wait()
        self.server.stdout.close()
        self.link.close()


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    made.close()


def pids_of_probes(node):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found += [process.pid] if process.environ().get("TESTED_NODE") == node.given["node"] else []
    return found


@pytest.mark.real
def test_a_probe_beats_tells_of_a_frozen_worker_and_ends_it_when_told(node):
    first = node.heard()
    assert (first.raylet, first.heartbeat.sequence, first.heartbeat.incarnation) == (RayletState.ANSWERS, 0, 2)
    assert first.readings["disk_free_ratio"] > 0
    node.start()  # another one of the same number ends at once
    assert [node.heard().heartbeat.sequence for _ in range(2)] == [1, 2]
    node.worker.suspend()
    told = node.heard(lambda report: report.stopped)
    (stopped,) = told.stopped
    assert stopped.pid == node.worker.pid
    node.order(told, kill=((stopped.pid, stopped.started + 1),))
    assert node.heard(lambda report: True).stopped, "another process that had its number is not ended"
    node.order(told, kill=((stopped.pid, stopped.started),))
    assert node.heard(lambda report: not report.stopped)


@pytest.mark.real
def test_a_probe_tells_of_a_stopped_server_ends_it_when_told_and_ends_with_it(node):
    node.heard()
    node.server.send_signal(signal.SIGSTOP)
    told = node.heard(lambda report: report.raylet is RayletState.STOPPED)
    assert node.heard().heartbeat.sequence == told.heartbeat.sequence, "no beat of the node meanwhile"
    node.order(told, end_server=True)
    assert node.heard(lambda report: report.raylet is RayletState.GONE)
    gone_by = SystemClock().monotonic() + 20
    while pids_of_probes(node) and SystemClock().monotonic() < gone_by:
        os.sched_yield()
    assert not pids_of_probes(node)


def test_a_refused_connection_is_told_from_one_that_nobody_answers():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        question = Question(*silent.getsockname())
        assert question.wait(0.01) is Answer.WAITING
        accepted, _ = silent.accept()
        accepted.sendall(bytes(9))
        assert question.wait(5.0) is Answer.ANSWERED
        accepted.close()
        address = silent.getsockname()
    assert Question(*address).wait(5.0) is Answer.REFUSED


def test_a_network_that_leads_nowhere_refuses_nothing():
    assert Question("255.255.255.255", 9).wait(5.0) is Answer.WAITING


class RecordedGpus:
    """A trace of what a driver said: one GPU that grows hot, is throttled, and falls off the bus."""

    TRACE = (
        (GpuReading(61.0, False, 0, 0), GpuReading(60.0, False, 0, 0)),
        (GpuReading(93.0, True, 2, None), GpuReading(60.0, None, None, 0)),
        (GpuReading(60.0, False, 0, 0),),
        (),
    )

    def __init__(self):
        self._at = iter(self.TRACE)

    def read(self):
        return next(self._at)


def test_gpus_are_told_by_the_worst_of_them_and_none_is_not_zero():
    gpus = RecordedGpus()
    assert gpu_readings(gpus.read())[GPU_COUNT] == 2.0
    hot = gpu_readings(gpus.read())
    assert (hot[GPU_TEMPERATURE], hot[GPU_THROTTLED], hot[GPU_ECC]) == (93.0, 1.0, 2.0)
    assert gpu_readings(gpus.read())[GPU_COUNT] == 1.0
    assert gpu_readings(gpus.read())[GPU_TEMPERATURE] is None
