"""What clients and a training see when gateway, GCS or everything dies: on a platform of its own, under load."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from benchmarks.recovery import Training
from platformops.home import Home, home_at
from platformops.keeper.process import keeper_of
from platformops.on_ray import cluster, servers
from platformops.store.open import open_store

PROJECT = Path(__file__).resolve().parents[1]
OPTIONS = ("search.trials=1", "search.epochs=1", "train.epochs=4", "gates.accuracy='>= 0.5'")
CLIENTS = 4
WATCHED_S = 10.0
GATEWAY, GATEWAY_KILLS = "GatewayProcess", 5
AGAIN_S = 0.2
"""Before a client that got no answer asks again."""
PATIENCE_S = 180.0


class Load:
    """Clients that ask all the time; every answer with when it was asked for and when it came."""

    def __init__(self, endpoint: str, key: str, sample: Path) -> None:
        self.answers: list[tuple[float, float, int]] = []
        """(asked at, answered at, status), 0 for no answer."""
        self.port = httpx.URL(endpoint).port
        self._ended = threading.Event()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "image/png"}
        for _ in range(CLIENTS):
            threading.Thread(target=self._ask, args=(endpoint, headers, sample.read_bytes()), daemon=True).start()

    def since(self, at: float) -> list[tuple[float, float, int]]:
        return [answer for answer in list(self.answers) if answer[0] >= at]

    def end(self) -> None:
        self._ended.set()

    def _ask(self, endpoint: str, headers: dict[str, str], image: bytes) -> None:
        with httpx.Client(headers=headers, timeout=30.0, trust_env=False) as client:
            while not self._ended.is_set():
                asked, status = time.monotonic(), 0
                with contextlib.suppress(httpx.TransportError):
                    status = client.post(endpoint, content=image).status_code
                self.answers.append((asked, time.monotonic(), status))
                time.sleep(0.02 if status else AGAIN_S)


@contextlib.contextmanager
def platform() -> Iterator[tuple[Home, Load]]:
    """A served system with a cluster, a keeper and a home of its own, under load."""
    root = Path(tempfile.mkdtemp(prefix="pc", dir="/tmp"))
    home = home_at(root / "home")
    try:
        said = command(
            home, "up", str(PROJECT / "configs" / "digits.yaml"), *_options(), "--port", str(cluster.free_port())
        )
        endpoint, sample = (_found(pattern, said) for pattern in (r"endpoint: (\S+)", r"--data-binary @(\S+)"))
        load = Load(endpoint, (home.keys / "digits.key").read_text().strip(), Path(sample))
        time.sleep(2.0)
        yield home, load
        load.end()
    finally:
        command(home, "down")
        shutil.rmtree(root, ignore_errors=True)


def lose_servers() -> dict[str, float]:
    """Seconds without an answer when the gateway dies; requests that fail and the longest pause of a training when the
    GCS does; seconds to serve after a power cut."""
    with platform() as (home, load):
        refused_s, waited_s = zip(*(_lose_gateway(load) for _ in range(GATEWAY_KILLS)), strict=True)
        failed, asked, gap_s = _lose_gcs(home, load)
        return {
            "gateway_refused_s": round(max(refused_s), 2),
            "gateway_waited_s": round(max(waited_s), 2),
            "gcs_failed_requests": failed,
            "gcs_requests": asked,
            "gcs_training_gap_s": round(gap_s, 2),
            "power_cut_s": round(_lose_everything(home, load), 1),
        }


def _lose_gateway(load: Load) -> tuple[float, float]:
    """Seconds from the kill of the process that listens to the last request that got no answer, and to the first
    answer."""
    (gateway,) = [p for p in psutil.process_iter(["cmdline"]) if _is_gateway(p, load.port)]
    began = time.monotonic()
    gateway.kill()
    while not (right := [answered for _, answered, status in load.since(began) if status == 200]):
        assert time.monotonic() - began < PATIENCE_S, "nothing is served again"
        time.sleep(0.01)
    time.sleep(WATCHED_S)  # so that the next one finds everything at rest
    refused = [answered for _, answered, status in load.answers if answered >= began and status != 200]
    return max(refused, default=began) - began, right[0] - began


def _is_gateway(process: psutil.Process, port: int | None) -> bool:
    """Whether it is the gateway that listens at `port`; the keeper has that socket too."""
    if GATEWAY not in " ".join(process.info["cmdline"] or []):
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections("tcp"))


def _lose_gcs(home: Home, load: Load) -> tuple[int, int, float]:
    address, temp_dir = _cluster_of(home)
    training = Training("ours", home.root, address)
    try:
        training.until(lambda account: account.steps > 20, PATIENCE_S)
        began, steps = time.monotonic(), [time.time()]
        server = servers.server(temp_dir, servers.GCS)
        assert server is not None
        server.kill()
        while time.monotonic() - began < WATCHED_S:
            account = training.account()
            if account is not None and account.at > steps[-1]:
                steps.append(account.at)
            time.sleep(0.05)
    finally:
        training.end()
    answers = load.since(began)
    gaps = [later - earlier for earlier, later in zip(steps, [*steps[1:], time.time()], strict=True)]
    return sum(status != 200 for _, _, status in answers), len(answers), max(gaps)


def _lose_everything(home: Home, load: Load) -> float:
    """Cluster and keeper are killed; seconds from `up` to the first right answer."""
    _, temp_dir = _cluster_of(home)
    keeper = keeper_of(home)
    assert keeper is not None
    psutil.Process(keeper).kill()
    servers.kill_processes(servers.processes_of(temp_dir))
    began = time.monotonic()
    up = threading.Thread(target=command, args=(home, "up", str(PROJECT / "configs" / "digits.yaml"), *_options()))
    up.start()
    while not (right := [answered for _, answered, status in load.since(began) if status == 200]):
        assert time.monotonic() - began < PATIENCE_S, "nothing is served again"
        time.sleep(0.1)
    up.join()
    return right[0] - began


def command(home: Home, *arguments: str) -> str:
    """What `platformops` prints with these arguments; raises when it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PLATFORMOPS_HOME": str(home.root), "PYTHONPATH": str(PROJECT), "HOME": str(home.root)}
    done = subprocess.run(
        [sys.executable, "-m", "platformops.cli.main", *arguments], env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise SystemExit(f"{arguments}: exit {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def _cluster_of(home: Home) -> tuple[str, str]:
    """Address and temp dir; from here on this process may join it."""
    store = open_store(home.store_url)
    try:
        found = cluster.recorded(store)
    finally:
        store.close()
    assert found is not None
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(home.root / ".ray" / "auth_token")}
    return found.address, found.temp_dir


def _options() -> list[str]:
    return [part for option in OPTIONS for part in ("--set", option)]


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, f"{pattern} is not in {text}"
    return found.group(1)


if __name__ == "__main__":
    print(json.dumps(lose_servers()))
