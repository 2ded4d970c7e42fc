"""What Linux knows of processes: who this one is, whether another still lives, and how to end what it left behind."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from platformops.clock import SystemClock
from platformops.pipeline.records import Owner

PROC = Path("/proc")
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SPARED = b"multiprocessing.resource_tracker"
"""Serves the whole worker and ends with it; ending it after one stage would break the next."""
DEATH_S = 2.0


def this_owner() -> Owner:
    """This process, as leases name it."""
    return owner_of(os.getpid())


def owner_of(pid: int) -> Owner:
    found = _state_and_start(pid)
    assert found is not None, f"process {pid} is gone"
    return Owner(host=os.uname().nodename, machine=_machine(), pid=pid, started=found[1])


def is_alive(owner: Owner) -> bool | None:
    """Whether that very process still runs; None when it belongs to another machine, container or boot."""
    if owner.machine != _machine():
        return None
    found = _state_and_start(owner.pid)
    return found is not None and found[0] not in "ZX" and found[1] == owner.started


def is_stopped(owner: Owner) -> bool:
    """Whether that very process is held still by a signal; False also for one of another machine."""
    found = _state_and_start(owner.pid) if owner.machine == _machine() else None
    return found is not None and found[0] == "T" and found[1] == owner.started


def waited_for_processor_s(pid: int, thread: int) -> float:
    """For how long that thread has been ready to run without getting a processor; 0.0 when it is gone."""
    try:
        return int((PROC / str(pid) / "task" / str(thread) / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _machine() -> str:
    # Two containers of one host share the boot but not the process ids.
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink(PROC / 'self/ns/pid')}"


def _state_and_start(pid: int) -> tuple[str, int] | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before may hold spaces and brackets
    return fields[0], int(fields[19])


def oom_kills() -> int:
    """How many processes the kernel has ended on this machine because memory ran out, in any container of it."""
    with suppress(OSError):
        for line in (PROC / "vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when the thread that forked it ends; at once when `parent` is gone already."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Processes below this one become its children when their parent ends, instead of escaping to init."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    import ctypes  # only workers need it

    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(PROC / str(pid) / "task"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (PROC / str(pid) / "task" / task / "children").read_text().split())
    return found


def end_children() -> int:
    """Kills and reaps every process below this one, which must adopt orphans; how many there were."""
    ended: set[int] = set()
    clock = SystemClock()
    deadline = clock.monotonic() + DEATH_S
    while (left := [pid for pid in children_of(os.getpid()) if not _is_spared(pid)]) and clock.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended |= {pid for pid in left if _reaped(pid)}
        if not ended.issuperset(left):
            clock.sleep(0.002)
    return len(ended)


def _is_spared(pid: int) -> bool:
    try:
        return SPARED in (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
