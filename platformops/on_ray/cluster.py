"""Finds, starts and stops the Ray cluster of this machine; needs no import of ray for any of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from platformops.clock import SystemClock
from platformops.errors import ClusterError
from platformops.home import Home
from platformops.on_ray.authentication import ensure_token, token_environment, wanted_authentication
from platformops.on_ray.priority import RAY_SETTINGS
from platformops.on_ray.servers import (
    LOOK_S,
    MARK,
    RAYLET,
    answers,
    kill_processes,
    processes_of,
    server,
    stop_processes,
)
from platformops.store.records import Store

RECORD = "cluster/local"
START_TIMEOUT_S = 180.0
GCS_STORAGE = "PLATFORMOPS_GCS_STORAGE"
"""`rocksdb` (default) keeps the cluster's state on disk, so that it survives the GCS and the machine; Ray calls it
alpha. `memory` is the switch back: then the end of the GCS is the end of the cluster."""
PATIENCE_S = 5.0
"""A GCS whose raylet still runs is about to be started again by the keeper."""
OBJECT_STORE_RATIO = 0.15
"""Share of memory for the object store; prepared data is memory-mapped from files, so little goes through it."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """How to reach a cluster: `environment` is what a process needs before it imports ray."""

    address: str
    authentication: str
    """`token` or `disabled`; of a cluster that somebody else started, what it was found to want."""
    ours: bool
    """True when `up` started it here, so that `down` stops it."""
    temp_dir: str = ""
    dashboard: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": self.authentication, **token_environment()}


def find(store: Store, environment: Mapping[str, str]) -> Cluster | None:
    """The cluster to use: RAY_ADDRESS, else the one that `up` started here, else one that runs on this machine."""
    ours = recorded(store)
    if (address := environment.get("RAY_ADDRESS", "")) and not (ours and ours.address == address):
        return _described(_resolve(address), environment)
    if ours and _is_back(ours):
        return ours
    running = _advertised()
    return _described(running, environment) if running and answers(running) else None


def _is_back(ours: Cluster) -> bool:
    """Whether our cluster answers, at once or as soon as its GCS has been started again."""
    clock = SystemClock()
    deadline = clock.monotonic() + PATIENCE_S
    while server(ours.temp_dir, RAYLET) is not None:
        if answers(ours.address):
            return True
        if clock.monotonic() > deadline:
            return False
        clock.sleep(LOOK_S)
    return False


def temp_dir_of(root: Path) -> Path:
    """Where the cluster of a home keeps sockets and logs: short, as paths of unix sockets are limited."""
    return Path("/tmp") / f"po-{os.getuid()}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"


def recorded(store: Store) -> Cluster | None:
    """The cluster that `up` started here last, running or not."""
    entry = store.get(RECORD)
    if entry is None or not entry.value.get("address"):
        return None
    return Cluster(**{k: entry.value[k] for k in Cluster.__dataclass_fields__})  # type: ignore[arg-type]


def start(home: Home, store: Store, environment: Mapping[str, str]) -> Cluster:
    """A cluster on this machine, token-authenticated, with durable cluster state below the home.

    One that was started here before and never stopped comes back on its ports and to its state.
    """
    temp_dir = temp_dir_of(home.root)
    kill_processes(processes_of(str(temp_dir)))
    token_file = ensure_token(environment, home)
    before = recorded(store)
    port, dashboard_port = (_port_again(at) for at in ((before.address, before.dashboard) if before else ("", "")))
    metrics_ports = (free_port(), free_port())
    storage = environment.get(GCS_STORAGE) or "rocksdb"
    launch_environment = dict(environment) | _ray_environment(home, metrics_ports, storage)
    if token_file is not None:
        launch_environment["RAY_AUTH_TOKEN_PATH"] = str(token_file)
    launch_environment.pop("RAY_ADDRESS", None)
    launch_environment[MARK] = str(temp_dir)
    (temp_dir / "ray_current_cluster").unlink(missing_ok=True)
    log = home.logs / "ray-start.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    code = _run(_start_command(port, dashboard_port, temp_dir), launch_environment, log)
    if code != 0:
        kill_processes(processes_of(str(temp_dir)))
        raise ClusterError(
            f"Ray did not start ({'no answer' if code is None else f'exit {code}'}): {_last_line(log)}",
            remedy=f"read {log}; `platformops down` clears what is left",
        )
    address = _advertised(temp_dir) or f"127.0.0.1:{port}"
    cluster = Cluster(address, "token", True, str(temp_dir), f"127.0.0.1:{dashboard_port}")
    store.put(RECORD, asdict(cluster), expect=None)
    return cluster


def _run(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int | None:
    """The exit code; None when it took longer than START_TIMEOUT_S."""
    with log.open("wb") as output:
        try:
            return subprocess.run(
                command,
                env=dict(environment),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=START_TIMEOUT_S,
                check=False,
                start_new_session=True,  # Ctrl-C in the terminal of `up` is not meant for the cluster
            ).returncode
        except subprocess.TimeoutExpired:
            return None


def stop(home: Home, store: Store) -> bool:
    """Stops the cluster that `up` started here, and forgets its state; False when there was none."""
    ours = recorded(store)
    if ours is None:
        return False
    ended = 0
    while found := processes_of(ours.temp_dir):  # one that was just being started is found the second time
        stop_processes(found)
        ended += len(found)
    for leftover in (_gcs_storage(home), Path(ours.temp_dir)):
        shutil.rmtree(leftover, ignore_errors=True)
    store.put(RECORD, {}, expect=None)
    return bool(ended)


def _port_again(address: str) -> int:
    """The port of `address`, or a free one where there is none or it was taken meanwhile."""
    _, _, port = address.rpartition(":")
    with contextlib.suppress(OSError, ValueError), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("", int(port)))
        return int(port)
    return free_port()


def free_port() -> int:
    """A TCP port that was free on loopback a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_command(port: int, dashboard_port: int, temp_dir: Path) -> list[str]:
    memory = int(psutil.virtual_memory().total * OBJECT_STORE_RATIO)
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head"),
        *(f"--port={port}", "--node-ip-address=127.0.0.1", f"--temp-dir={temp_dir}"),
        *(
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard_port}",
            # Fixed by default: the agent of a second cluster on this machine would not come up, and take no jobs.
            *(f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"),
        ),
        *(f"--object-store-memory={memory}", "--disable-usage-stats", "--log-style=record"),
    ]


def _ray_environment(home: Home, metrics_ports: tuple[int, int], storage: str) -> dict[str, str]:
    if storage not in ("rocksdb", "memory"):
        raise ClusterError(f"{GCS_STORAGE}={storage!r} is not known", remedy="set it to rocksdb or memory, or unset it")
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_gcs_storage": storage,
        "RAY_gcs_storage_path": str(_gcs_storage(home)),
        "RAY_DISABLE_IMPORT_WARNING": "1",
        **RAY_SETTINGS,
        "AUTOSCALER_METRIC_PORT": str(metrics_ports[0]),
        "DASHBOARD_METRIC_PORT": str(metrics_ports[1]),
    }


def _gcs_storage(home: Home) -> Path:
    return home.root / "gcs"


def _described(address: str, environment: Mapping[str, str]) -> Cluster:
    """A cluster of somebody else's: its authentication is asked for, never assumed."""
    mode = environment.get("RAY_AUTH_MODE") or wanted_authentication(address)
    return Cluster(address, mode, False)


def _resolve(address: str) -> str:
    if address in ("auto", "local"):
        address = _advertised() or ""
    if address.startswith("ray://") or ":" not in address:
        raise ClusterError(
            f"RAY_ADDRESS={address!r} is not the address of a running cluster",
            remedy="use HOST:PORT as printed by `ray start --head` (ray:// clients cannot place data)",
        )
    return address


def _advertised(temp_dir: Path = Path("/tmp/ray")) -> str | None:
    """The address that `ray start` left in its temp dir."""
    try:
        return (temp_dir / "ray_current_cluster").read_text().strip() or None
    except OSError:
        return None


def _last_line(log: Path) -> str:
    """What went wrong, where an exception says so; Ray's own log lines come after it."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Exception|Error): ", line)]
    return (errors or lines or ["no output"])[-1][:300]
