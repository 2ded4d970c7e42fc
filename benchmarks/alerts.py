"""Every alert is made to fire once: all that can be wrong is told to a real Prometheus with the rules that are shipped.

    python benchmarks/alerts.py [--short]

`--short` does not wait as long as the rules want trouble to last. Needs Prometheus and Alertmanager in PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
from prometheus_client import start_http_server

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from platformops.cli import observing
from platformops.gateway.exchange import Exchange
from platformops.gateway.metrics import GatewayMetrics
from platformops.home import Home, home_at
from platformops.observation import metrics
from platformops.observation.metrics import Reading
from platformops.observation.stack import rules
from platformops.observation.stack.export import as_yaml
from platformops.observation.stack.servers import Targets
from platformops.on_ray.cluster import free_port

LONGEST_S = 480.0
TARGETS = {"fired": "== alerts"}
TROUBLE = (
    Reading(metrics.SLO_ERROR_RATIO, 0.001, ("digits",)),
    Reading(metrics.SLO_P99_SECONDS, 0.08, ("digits",)),
    Reading(metrics.CONTROLLER_AGE, 90.0),
    Reading(metrics.CONTROLLER_PROBLEMS, 2.0),
    Reading(metrics.STORE_UP, 0.0),
    Reading(metrics.BACKUP_AGE, 3 * 86_400.0),
    Reading(metrics.RUN_HEARTBEAT_AGE, 600.0, ("digits",)),
    Reading(metrics.NODES, 1.0, ("dead",)),
    Reading(metrics.NODE_RISK, 0.8, ("4f2a",)),
    Reading(metrics.DRIFT_CONFIRMED, 1.0, ("digits",)),
    Reading(metrics.ROLLOUT, 1.0, ("digits", "paused")),
)


def answer_badly(gateway: GatewayMetrics) -> None:
    """Half of the answers are slow, the others errors."""
    for status in (200, 503):
        gateway.answered(
            Exchange("a" * 24, time.time(), "POST", "/digits/predict", "", system="digits", revision="digits-r1",
                     status=status, seconds=1.0, items=1)
        )  # fmt: skip


def firing(prometheus: str) -> set[str]:
    found = httpx.get(f"{prometheus}/api/v1/alerts", timeout=10.0, trust_env=False).raise_for_status().json()
    return {str(a["labels"]["alertname"]) for a in found["data"]["alerts"] if a["state"] == "firing"}


def shorten(where: Home) -> None:
    """Prometheus takes the same rules again, without their waits."""
    path = observing.folder_of(where) / observing.PROMETHEUS / "rules.yml"
    document = json.loads(json.dumps(rules.rules_document()))
    for group in document["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    path.write_text(as_yaml(document), encoding="utf-8")
    for server in observing.running(where):
        if server.name == observing.PROMETHEUS:
            os.kill(server.owner.pid, signal.SIGHUP)


def fired(gateway: GatewayMetrics, prometheus: str) -> Mapping[str, float]:
    """Seconds until each alert fired."""
    wanted, began, found = {alert.name for alert in rules.alerts()}, time.monotonic(), dict[str, float]()
    while set(found) != wanted and time.monotonic() - began < LONGEST_S:
        answer_badly(gateway)
        for name in sorted(firing(prometheus) - set(found)):
            found[name] = time.monotonic() - began
            print(f"{found[name]:>7.1f} s  {name}", flush=True)
        time.sleep(0.5)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    short, gateway = parser.parse_args().short, GatewayMetrics()
    gateway.tell(TROUBLE)
    with tempfile.TemporaryDirectory(prefix="pa") as folder:
        where, key = home_at(Path(folder) / "home"), Path(folder) / "key"
        key.write_text("unused")
        port, nobody = free_port(), free_port()
        server, thread = start_http_server(port, "127.0.0.1", gateway.registry)
        answer_badly(gateway)
        settings = observing.Settings(Targets((f"127.0.0.1:{port}", f"127.0.0.1:{nobody}"), str(key)), scrape_s=1)
        try:
            told = observing.start(where, settings, webhook=f"http://127.0.0.1:{nobody}/")
            if short:
                shorten(where)
            found = fired(gateway, told[observing.PROMETHEUS])
        finally:
            observing.stop(where)
            server.shutdown()
            thread.join()
    figures = {
        "alerts": len(rules.alerts()), "fired": len(found),
        "missing": sorted({a.name for a in rules.alerts()} - set(found)), "longest_s": round(max(found.values()), 1),
    }  # fmt: skip
    passed = figures["alerts"] == figures["fired"]
    print(json.dumps({"name": "alerts", "figures": figures, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
