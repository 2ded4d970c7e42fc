"""The same file on a cluster that somebody else started: two nodes by `ray start`, and as a Ray job."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from platformops.on_ray.cluster import free_port
from tests.end_to_end.platform_kit import DIGITS, PROJECT, Platform
from tests.faults.processes import command_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
MARK = "PLATFORMOPS_TEST_CLUSTER"
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
SHORT = [part for o in ("search.trials=2", "search.epochs=2", "train.epochs=6") for part in ("--set", o)]


class ByHand:
    """A token-authenticated cluster of one or two nodes, two CPUs in all, started with `ray start`."""

    def __init__(self, folder: Path, platform: Platform, *, nodes: int) -> None:
        self.platform, self.dashboard, port = platform, free_port(), free_port()
        token = Path(platform.environment["HOME"]) / ".ray" / "auth_token"
        token.parent.mkdir(mode=0o700)
        token.write_text("5" * 64)
        token.chmod(0o600)
        self.mark = str(folder)
        self.environment = platform.environment | {"RAY_AUTH_MODE": "token", MARK: self.mark}
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{self.environment['PATH']}"
        options = [
            f"--num-cpus={2 // nodes}",
            f"--temp-dir={folder}",
            "--object-store-memory=200000000",
            "--disable-usage-stats",
        ]
        head = ["start", "--head", f"--port={port}", f"--dashboard-port={self.dashboard}", *options]
        agent = f"--dashboard-agent-listen-port={free_port()}"
        self.ray(*head, agent, f"--ray-client-server-port={free_port()}")
        self.address = (folder / "ray_current_cluster").read_text().strip()
        for _ in range(nodes - 1):
            agent = f"--dashboard-agent-listen-port={free_port()}"
            self.ray("start", f"--address={self.address}", "--num-cpus=1", "--object-store-memory=200000000", agent)
        platform.environment["RAY_ADDRESS"] = self.address

    def ray(self, *arguments: str, timeout_s: float = 120) -> str:
        done = subprocess.run(
            [*RAY, *arguments],
            env=self.environment,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def wait_for_agent(self) -> None:
        """Jobs are taken only once the head's agent has registered, some seconds after `ray start` returned."""
        deadline = time.monotonic() + 60
        while True:
            done = subprocess.run(
                [*RAY, "job", "submit", f"--address=http://127.0.0.1:{self.dashboard}", "--", "true"],
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            if done.returncode == 0:
                return
            assert time.monotonic() < deadline, done.stderr[-2000:]

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes():
                try:
                    process.send_signal(number)
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(self.processes(), timeout=10)


@contextlib.contextmanager
def started_by_hand(root: Path, *, nodes: int):
    with tempfile.TemporaryDirectory(prefix="po", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = None
        try:
            cluster = ByHand(Path(folder), Platform(root), nodes=nodes)
            yield cluster
        finally:
            if cluster is not None:
                cluster.stop()


@pytest.fixture
def two_nodes(tmp_path):
    with started_by_hand(tmp_path, nodes=2) as cluster:
        yield cluster


@pytest.fixture
def head(tmp_path):
    """One node: two on one machine share the folder of a job's files, and the second deletes it under the first."""
    with started_by_hand(tmp_path, nodes=1) as cluster:
        yield cluster


def test_up_serves_on_a_running_cluster_of_two_nodes_and_down_leaves_it_running(two_nodes):
    platform = two_nodes.platform
    document = platform.json("up", DIGITS, *SHORT)
    assert document["state"] == "succeeded"
    assert document["endpoint"]
    assert len(platform.json("status")["nodes"]) == 2
    stopped = platform.json("down")
    assert stopped["systems"] == ["digits"]
    names = [command_of(p) for p in two_nodes.processes()]
    assert sum("raylet/raylet" in name for name in names) == 2, "the cluster is not ours to stop"
    assert not [name for name in names if "GatewayProcess" in name or "ControllerProcess" in name]


def test_the_same_file_runs_as_a_ray_job(head):
    head.wait_for_agent()
    document_of_job = re.compile(r'^\{"run_id".*$', re.MULTILINE)
    out = head.ray(
        "job",
        "submit",
        f"--address=http://127.0.0.1:{head.dashboard}",
        "--working-dir=.",
        "--",
        *("python", "jobs/run_pipeline.py", "configs/digits.yaml", *SHORT),
        timeout_s=500,
    )
    document = json.loads(document_of_job.findall(out)[-1])
    assert document["state"] == "succeeded"
    assert not next(step for step in document["steps"] if step["name"] == "train")["cached"]
    assert document["metrics"]["accuracy"] > 0.9
    assert document["endpoint"]
    assert head.platform.json("status")["systems"][0]["state"] == "live"
