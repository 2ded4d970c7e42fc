"""What counting costs: the same gateway with metrics on, and scraped each second, against one that counts nothing.

    python benchmarks/metrics_overhead.py [--short]

Replicas stand in the gateway's process and take 0.3 ms of its core an item, as a small model does. Both gateways run
all the time and are loaded in short turns, so that whatever else the machine does falls on both alike; ratios are
medians of pairs. Throughput is requests per CPU second of the gateway's process: it has one thread that is busy all the
time, and a wall clock would count what others do on the machine. What the store says is read once in five seconds by
another thread, and is not in this.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

FOLDER = Path(__file__).resolve().parent
TARGETS = {"throughput_ratio": ">= 0.98", "p99_added_ms": "<= 1"}
CONNECTIONS = 8
WORK_MS = 0.3
TURN_S = 0.6


@contextlib.contextmanager
def server(kind: str) -> Iterator[tuple[int, str, int]]:
    command = [sys.executable, str(FOLDER / "metrics_server.py"), kind, str(WORK_MS)]
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield int(told["port"]), str(told["key"]), int(told["pid"])
    finally:
        process.kill()
        process.wait()


def measured(port: int, key: str, pid: int, body: Path) -> dict[str, float]:
    command = [sys.executable, str(FOLDER / "load_generator.py"), str(port), "/bench/predict", "--body", str(body)]
    command += ["--connections", str(CONNECTIONS), "--seconds", str(TURN_S)]
    command += ["--header", "Content-Type: image/jpeg", "--header", f"Authorization: Bearer {key}"]
    before_s = sum(psutil.Process(pid).cpu_times()[:2])
    figures: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert not figures["errors"], figures
    figures["per_cpu_s"] = figures["requests"] / (sum(psutil.Process(pid).cpu_times()[:2]) - before_s)
    return figures


def scrape(port: int, stopped: threading.Event) -> None:
    while not stopped.wait(1.0):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read()


def compared(rounds: int) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Pairs of with and without, the order changing from one to the next."""
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file, server("on") as on, server("off") as off:
        body = Path(file.name)
        body.write_bytes(bytes(900))
        stopped = threading.Event()
        thread = threading.Thread(target=scrape, args=(on[0], stopped), daemon=True)
        thread.start()
        measured(*on, body), measured(*off, body)
        pairs = []
        for turn in range(rounds):
            first, second = (on, off) if turn % 2 else (off, on)
            figures = {first: measured(*first, body), second: measured(*second, body)}
            pairs.append((figures[on], figures[off]))
        stopped.set()
        thread.join()
    return pairs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    pairs = compared(24 if parser.parse_args().short else 80)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {CONNECTIONS} connections, {len(pairs)} pairs")
    for i, name in enumerate(("with metrics", "without")):
        rps, cpu = (statistics.median(pair[i][f] for pair in pairs) for f in ("rps", "per_cpu_s"))
        p99_ms = statistics.median(pair[i]["p99_ms"] for pair in pairs)
        print(f"{name:14}{rps:>9,.0f} requests/s, {cpu:,.0f} per CPU second, p99 {p99_ms:.2f} ms")
    figures = {
        "throughput_ratio": round(statistics.median(a["per_cpu_s"] / b["per_cpu_s"] for a, b in pairs), 4),
        "p99_added_ms": round(statistics.median(a["p99_ms"] - b["p99_ms"] for a, b in pairs), 3),
        "pairs": len(pairs),
    }
    passed = figures["throughput_ratio"] >= 0.98 and figures["p99_added_ms"] <= 1.0
    print(json.dumps({"name": "metrics_overhead", "figures": figures, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
