"""A process that takes back what a drill did as soon as the drill ends, also when that is killed half way.

It reads what there is to undo, a line each, and does it in reverse order when its input ends. It imports nothing
outside the standard library, so that it is there before the first fault is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from platformops.clock import SystemClock
from platformops.pipeline.modules import PLATFORM_ROOT

START_S = 20.0
DEATH_S = 10.0
LOOK_S = 0.05
PROC = Path("/proc")


class Undoing:
    """While it is entered, `add` what is about to be done; all of it is undone on the way out."""

    def __enter__(self) -> Undoing:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-P", "-m", __name__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={"PYTHONPATH": str(PLATFORM_ROOT), "PATH": os.environ.get("PATH", "")},
        )  # fmt: skip
        assert self._process.stdin is not None
        self._lines = self._process.stdin
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._lines.close()
        self._process.wait(timeout=START_S + 2.0 * DEATH_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def add(self, what: str, *which: str) -> None:
        """Known to the other process on return: it is then undone whatever becomes of this one."""
        assert self._process.stdout is not None
        self._lines.write(json.dumps([what, *which]) + "\n")
        self._lines.flush()
        self._process.stdout.readline()


def marked(mark: str) -> list[int]:
    """Processes with `NAME=value` in the environment that they were started with, this one left out."""
    found = []
    for folder in PROC.iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


def _kill(mark: str) -> None:
    clock = SystemClock()
    deadline = clock.monotonic() + DEATH_S
    while (pids := marked(mark)) and clock.monotonic() < deadline:
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        clock.sleep(LOOK_S)


def _resume(pid: str) -> None:
    """A process with that id that is not held still is not disturbed by it."""
    with suppress(OSError):
        os.kill(int(pid), signal.SIGCONT)


def _remove_group(folder: str) -> None:
    clock = SystemClock()
    deadline = clock.monotonic() + DEATH_S
    while Path(folder).exists() and clock.monotonic() < deadline:
        with suppress(OSError):
            Path(folder).rmdir()
        clock.sleep(LOOK_S)


def _remove_network(name: str) -> None:
    for command in (("link", "del", f"{name}h"), ("netns", "del", name)):
        subprocess.run(["ip", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


WAYS = {"kill": _kill, "resume": _resume, "remove_group": _remove_group, "remove_network": _remove_network}


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    done: list[list[str]] = []
    for line in sys.stdin:
        done.append(json.loads(line))
        print("known", flush=True)
    for what, which in reversed(done):
        with suppress(OSError):
            WAYS[what](which)
    return 0


if __name__ == "__main__":
    sys.exit(main())
