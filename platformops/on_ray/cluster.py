"""Finds, starts and stops the Ray cluster of this machine; needs no import of ray for any of it."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from platformops.errors import ClusterError
from platformops.home import Home
from platformops.store.records import Store

RECORD = "cluster/local"
START_TIMEOUT_S = 180.0
STOP_GRACE_S = 5.0
MARK = "PLATFORMOPS_CLUSTER"
"""Set in the environment of a cluster that we start: what carries it is ours to stop, and nothing else is."""
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
        return {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": self.authentication, **_token_environment()}


def find(store: Store, environment: Mapping[str, str]) -> Cluster | None:
    """The cluster to use: RAY_ADDRESS, else the one that `up` started here, else one that runs on this machine."""
    ours = recorded(store)
    if (address := environment.get("RAY_ADDRESS", "")) and not (ours and ours.address == address):
        return _described(_resolve(address), environment)
    if ours and _answers(ours.address) and processes_of(ours.temp_dir):
        return ours
    running = _advertised()
    return _described(running, environment) if running and _answers(running) else None


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
    """A new cluster on this machine, token-authenticated, with durable cluster state below the home."""
    temp_dir = temp_dir_of(home.root)
    stop_processes(processes_of(str(temp_dir)))
    token_file = _ensure_token(environment, home)
    port, dashboard_port, metrics_ports = free_port(), free_port(), (free_port(), free_port())
    launch_environment = dict(environment) | _ray_environment(home, metrics_ports)
    if token_file is not None:
        launch_environment["RAY_AUTH_TOKEN_PATH"] = str(token_file)
    launch_environment.pop("RAY_ADDRESS", None)
    launch_environment[MARK] = str(temp_dir)
    (temp_dir / "ray_current_cluster").unlink(missing_ok=True)
    log = home.logs / "ray-start.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        done = subprocess.run(
            _start_command(port, dashboard_port, temp_dir),
            env=launch_environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=START_TIMEOUT_S,
            check=False,
        )
    if done.returncode != 0:
        raise ClusterError(
            f"Ray did not start (exit {done.returncode}): {_last_line(log)}",
            remedy=f"read {log}; `platformops down` clears what is left",
        )
    address = _advertised(temp_dir) or f"127.0.0.1:{port}"
    cluster = Cluster(address, "token", True, str(temp_dir), f"127.0.0.1:{dashboard_port}")
    store.put(RECORD, asdict(cluster), expect=None)
    return cluster


def stop(home: Home, store: Store) -> bool:
    """Stops the cluster that `up` started here, and forgets its state; False when there was none."""
    ours = recorded(store)
    if ours is None:
        return False
    found = processes_of(ours.temp_dir)
    stop_processes(found)
    for leftover in (_gcs_storage(home), Path(ours.temp_dir)):
        shutil.rmtree(leftover, ignore_errors=True)
    store.put(RECORD, {}, expect=None)
    return bool(found)


def processes_of(temp_dir: str) -> list[psutil.Process]:
    """Every process of the cluster that was started with this temp dir: each inherited the mark in its environment."""
    return [p for p in psutil.process_iter() if p.pid != os.getpid() and _mark_of(p) == temp_dir]


def stop_processes(processes: Sequence[psutil.Process]) -> None:
    """Ends these processes and waits until they are gone: politely, then by SIGKILL."""
    for process in processes:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(list(processes), timeout=STOP_GRACE_S)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=STOP_GRACE_S)


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


def _ray_environment(home: Home, metrics_ports: tuple[int, int]) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_gcs_storage": "rocksdb",
        "RAY_gcs_storage_path": str(_gcs_storage(home)),
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "AUTOSCALER_METRIC_PORT": str(metrics_ports[0]),
        "DASHBOARD_METRIC_PORT": str(metrics_ports[1]),
    }


def _gcs_storage(home: Home) -> Path:
    return home.root / "gcs"


def _ensure_token(environment: Mapping[str, str], home: Home) -> Path | None:
    """Where the token is kept when the environment does not already say so; made once, readable by its owner only."""
    if environment.get("RAY_AUTH_TOKEN") or environment.get("RAY_AUTH_TOKEN_PATH"):
        return None
    path = _default_token_file(home)
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(path))
    return path


def _default_token_file(home: Home) -> Path:
    """Ray's own place, so that `ray status` by hand works too; below our home for a user without one."""
    user_home = os.environ.get("HOME")
    return Path(user_home) / ".ray" / "auth_token" if user_home else home.root / "ray_auth_token"


def _token_environment() -> dict[str, str]:
    return {k: os.environ[k] for k in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(k)}


def _described(address: str, environment: Mapping[str, str]) -> Cluster:
    """A cluster of somebody else's: its authentication is asked for, never assumed."""
    mode = environment.get("RAY_AUTH_MODE") or wanted_authentication(address)
    return Cluster(address, mode, False)


def wanted_authentication(address: str) -> str:
    """`token` or `disabled`: what the GCS at `address` says to a call without a token. Raises ClusterError."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive", _same, _same)
        try:
            call(b"", timeout=5.0)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                return "token"
            raise ClusterError(
                f"no Ray cluster answers at {address} ({error.code().name})",
                remedy="start it, correct RAY_ADDRESS, or unset RAY_ADDRESS to have one started here",
            ) from error
    return "disabled"


def _same(message: bytes) -> bytes:
    return message


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


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2.0):
            return True
    except OSError:
        return False


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return str(process.environ().get(MARK, "")) or None
    except psutil.Error:
        return None


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"
