"""Makes the n-th system call of a process its last, or lets it fail or take long; strace does the work."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE_CALLS = "%file,%desc"
"""Every call that takes a path or a descriptor."""
_CALL = re.compile(r"^(?:\d+\s+)?(\w+)\(", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at the `when`-th `call`; a number, or strace's `2+` (from the second on) and `1..3`."""

    call: str
    """One call, or several joined by commas: each is counted on its own."""
    when: int | str
    what: str
    """As strace writes it: `signal=KILL`, `error=ENOSPC`, `delay_enter=300000` (microseconds)."""

    def __str__(self) -> str:
        return f"{self.what} at {self.call} {self.when}"


@cache
def why_not() -> str:
    """Why system calls cannot be tampered with here; empty where they can."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt-get install strace)"
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()[:100]}"


def under(fault: Fault, command: Sequence[str], *, log: Path) -> list[str]:
    """`command` as it runs with the fault; calls are counted for each of its processes and threads on its own."""
    # With a filter in the kernel only the calls in question stop; but strace then delivers no signal.
    fast = [] if fault.what.startswith("signal") else ["--seccomp-bpf"]
    return ["strace", "-f", *fast, "-o", str(log), *_options(fault), *command]


@contextmanager
def attached(pid: int, *, log: Path, fault: Fault | None = None) -> Iterator[None]:
    """Traces a running process from here to its end, and counts from here; without a fault the log names paths."""
    options = _options(fault) if fault else ["-y", "-s", "256", "-e", f"trace={FILE_CALLS}"]
    tracer = subprocess.Popen(["strace", "-f", "-p", str(pid), "-o", str(log), *options], stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    try:
        said = tracer.stderr.readline()  # once this is said, no call is missed
        assert b"attached" in said, said
        yield
    finally:
        tracer.terminate()
        tracer.communicate()


def counted(log: Path) -> Counter[str]:
    """How often each call was made."""
    return Counter(_CALL.findall(log.read_text(errors="replace")))


def was_injected(log: Path) -> bool:
    """Whether an error or a delay of a fault has met its call."""
    return "INJECTED" in log.read_text(errors="replace") or "DELAYED" in log.read_text(errors="replace")


def _options(fault: Fault) -> list[str]:
    return ["-e", f"trace={fault.call}", "-e", f"inject={fault.call}:{fault.what}:when={fault.when}"]
