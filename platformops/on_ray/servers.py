"""Processes of a cluster on this machine, known by a mark in their environment: found, ended, started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from platformops.clock import SystemClock
from platformops.errors import ClusterError

MARK = "PLATFORMOPS_CLUSTER"
"""Set in the environment of a cluster that we start: what carries it is ours to stop, and nothing else is."""
GCS, RAYLET = "gcs_server", "raylet"
GCS_START_S = 15.0
LOOK_S = 0.05
STOP_GRACE_S = 5.0


def processes_of(temp_dir: str) -> list[psutil.Process]:
    """Every process of the cluster that was started with this temp dir: each inherited the mark in its environment.

    Ray's agents write their long titles over theirs, and are known by the server that started them.
    """
    running = [p for p in psutil.process_iter() if p.pid != os.getpid()]
    marked = {p.pid for p in running if _mark_of(p) == temp_dir}
    return [p for p in running if p.pid in marked or _parent_of(p) in marked]


def stop_processes(processes: Sequence[psutil.Process]) -> None:
    """Ends these processes and waits until they are gone: politely, then by SIGKILL."""
    for process in processes:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(list(processes), timeout=STOP_GRACE_S)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=STOP_GRACE_S)


def kill_processes(processes: Sequence[psutil.Process]) -> None:
    """Ends these processes at once: of a cluster that has lost a server, nobody is left to say goodbye to."""
    for process in processes:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(list(processes), timeout=STOP_GRACE_S)


def server(temp_dir: str, name: str) -> psutil.Process | None:
    """The living GCS or RAYLET of the cluster with this temp dir."""
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == name and _mark_of(process) == temp_dir and is_alive(process):
            return process
    return None


@dataclass(frozen=True, slots=True)
class Launched:
    """How a server was started, to start it again; its environment may hold secrets, so it is never written down."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str


def launch_of(process: psutil.Process) -> Launched | None:
    """Read from the kernel while the process lives; None when it is gone."""
    try:
        return Launched(tuple(process.cmdline()), process.environ(), process.cwd())
    except psutil.Error:
        return None


def start_gcs(launched: Launched, address: str) -> subprocess.Popen[bytes]:
    """The GCS runs again, by the command it ran by before, and answers. Raises ClusterError when it does not."""
    started = subprocess.Popen(
        launched.arguments,
        env=dict(launched.environment),
        cwd=launched.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # its command names the files that it writes to
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    clock = SystemClock()
    deadline = clock.monotonic() + GCS_START_S
    while started.poll() is None and clock.monotonic() < deadline:
        if answers(address):
            return started
        clock.sleep(LOOK_S)
    started.kill()
    code = started.wait()
    raise ClusterError(f"the GCS did not come back within {GCS_START_S:.0f} s (exit {code})")


def has_durable_state(launched: Launched) -> bool:
    return launched.environment.get("RAY_gcs_storage") == "rocksdb"


def stopped_processes(temp_dir: str) -> dict[int, str]:
    """Process id -> name of every process of this cluster that a signal holds still (SIGSTOP, not a debugger)."""
    held = [pid for pid in psutil.pids() if _state_of(pid) == "T"]
    return {pid: name for pid in held if (name := _name_with_mark(pid, temp_dir))}


def _name_with_mark(pid: int, temp_dir: str) -> str:
    try:
        process = psutil.Process(pid)
        return (process.cmdline() or [process.name()])[0] if _mark_of(process) == temp_dir else ""
    except psutil.Error:
        return ""


def _state_of(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text[text.rindex(")") + 2]  # the name before may hold spaces and brackets


def is_alive(process: psutil.Process) -> bool:
    """False also for one that has ended and waits to be reaped."""
    return _state_of(process.pid) not in ("", "Z", "X")


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2.0):
            return True
    except OSError:
        return False


def _parent_of(process: psutil.Process) -> int:
    try:
        return int(process.ppid())
    except psutil.Error:
        return 0


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
