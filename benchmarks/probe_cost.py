"""What the probe of a node costs it, beside Ray's real server with idle workers: share of a core, and memory.

    python benchmarks/probe_cost.py [--short]

The probe is started as the controller starts it, by a task of Ray, and is answered once a beat as the controller
answers. `core_ratio` is CPU seconds, its children's included, by seconds of the clock; `rss_mb` counts every page that
it maps, `pss_mb` those that it shares only in part. `beat_late_ms` is how late a beat came against its period, of a
hundred the second worst.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))
TARGETS = {"core_ratio": 0.01, "rss_mb": 60.0}
KEY = b"7" * 32
WORKERS = 8
SETTLING_BEATS = 12


class Controller:
    """The end of the link that hears the probe and answers it."""

    def __init__(self) -> None:
        self.link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.link.bind(("127.0.0.1", 0))
        self.link.settimeout(60.0)

    def beats(self, count: int) -> list[float]:
        """When each of the next `count` beats came; each is answered."""
        from platformops.health.wire import LONGEST_BYTES, Order, order_bytes, report_from

        came: list[float] = []
        while len(came) < count:
            datagram, probe = self.link.recvfrom(LONGEST_BYTES)
            report = report_from(datagram, KEY)
            if report is not None:
                came.append(time.monotonic())
                beat = report.heartbeat
                self.link.sendto(order_bytes(Order(beat.node, 1, beat.incarnation, beat.sequence), KEY), probe)
        return came


class Idle:
    """A worker that has nothing to do."""

    def ready(self) -> bool:
        return True


def probe_process() -> psutil.Process:
    """The one that this cluster's server started."""
    home = os.environ["RAY_AUTH_TOKEN_PATH"]
    for process in psutil.process_iter(["cmdline"]):
        is_probe = "platformops.on_ray.probe" in (process.info["cmdline"] or [])
        if is_probe and process.environ().get("RAY_AUTH_TOKEN_PATH") == home:
            return process
    raise SystemExit("there is no probe")


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def measure(beats: int) -> dict[str, float]:
    import ray

    from platformops.on_ray.probing import begin_probe

    idle = [ray.remote(Idle).options(num_cpus=0).remote() for _ in range(WORKERS)]
    ray.get([actor.ready.remote() for actor in idle])
    (node,) = ray.nodes()
    controller, server = Controller(), (node["NodeManagerAddress"], node["NodeManagerPort"])
    ray.get(begin_probe(node["NodeID"], 1, KEY, controller.link.getsockname(), server, str(PROJECT)))
    controller.beats(SETTLING_BEATS)
    process = probe_process()
    began, used_s = time.monotonic(), cpu_s(process)
    came = controller.beats(beats)
    elapsed_s, used_s, memory = time.monotonic() - began, cpu_s(process) - used_s, process.memory_full_info()
    late_s = sorted(abs(later - earlier - 1.0) for earlier, later in pairwise(came))
    process.kill()
    return {
        "core_ratio": round(used_s / elapsed_s, 5),
        "rss_mb": round(memory.rss / 2**20, 1),
        "pss_mb": round(memory.pss / 2**20, 1),
        "beat_late_ms": round(1e3 * late_s[int(0.99 * (len(late_s) - 1))], 1),
        "workers": WORKERS,
        "beats": beats,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    from benchmarks.serving import cluster
    from benchmarks.verdict import told

    root = Path(tempfile.mkdtemp(prefix="pb", dir="/tmp"))
    try:
        with cluster(root):
            figures = measure(40 if short else 300)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    return told("probe_cost", figures, TARGETS)


if __name__ == "__main__":
    sys.exit(main())
