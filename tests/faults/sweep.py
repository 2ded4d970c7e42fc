"""Cuts off every operation at every file-system call, and fails every write, sync and rename; then checks what is left.

python -m tests.faults.sweep [--points N] [--seed S]: a table, and as the last line one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from platformops.errors import PlatformError
from tests.faults.operations.every import OPERATIONS
from tests.faults.operations.record import Operation
from tests.faults.system_calls import Fault, attached, counted, was_injected, why_not

KILL = "signal=KILL"
ERRORS = {
    "ENOSPC": ("write", "pwrite64", "fsync", "fdatasync", "rename", "mkdir", "openat", "ftruncate", "fallocate"),
    "EIO": ("write", "pwrite64", "fsync", "fdatasync", "rename", "mkdir", "unlink", "rmdir", "read", "pread64"),
    "EDQUOT": ("write", "pwrite64", "mkdir"),
    "EMFILE": ("openat",),
}
FAILED = "! "
"""Starts the line in which a victim says what it raised."""


@dataclass(frozen=True, slots=True)
class Point:
    operation: Operation
    fault: Fault

    def __str__(self) -> str:
        return f"{self.operation.name}, {self.fault}"


@dataclass(frozen=True, slots=True)
class Outcome:
    point: Point
    was_met: bool
    """False when the call was not made this time: the operation ran through."""
    problem: str


class Sweep:
    """Points of `operations` in `folder`; the same code runs as victim (a forked child) and as judge (this process)."""

    def __init__(self, folder: Path, operations: Sequence[Operation] = OPERATIONS) -> None:
        self._folder, self._operations = folder, operations
        self._before = {operation.name: folder / f"before-{n}" for n, operation in enumerate(operations)}
        for operation in operations:
            self._before[operation.name].mkdir(parents=True)
            operation.prepare(self._before[operation.name])

    def points(self) -> list[Point]:
        """Every call of every operation once, by a count of its calls; errors where they can occur."""
        return [Point(op, fault) for op in self._operations for fault in self._faults(op)]

    def outcomes(self, points: Sequence[Point]) -> Iterator[Outcome]:
        for point in points:
            yield self._outcome(point)

    def log_of(self, operation: Operation) -> Path:
        """Every file-system call of the operation, from its beginning to its end, under no fault."""
        return self._victim(operation, None)[1]

    def _faults(self, operation: Operation) -> Iterator[Fault]:
        calls = counted(self.log_of(operation))
        for call, times in sorted(calls.items()):
            yield from (Fault(call, n, KILL) for n in range(1, times + 1))
            for error, meets in ERRORS.items():
                if call in meets:
                    yield from (Fault(call, n, f"error={error}") for n in range(1, times + 1))

    def _outcome(self, point: Point) -> Outcome:
        said, log = self._victim(point.operation, point.fault)
        is_kill = point.fault.what == KILL
        was_met = "killed by SIGKILL" in log.read_text(errors="replace") if is_kill else was_injected(log)
        raised = [line.removeprefix(FAILED) for line in said if line.startswith(FAILED)]
        try:
            point.operation.check(self._at, [line for line in said if not line.startswith(FAILED)])
            problem = "; ".join(line for line in raised[:1] if not line.startswith("PlatformError")) + "; ".join(
                raised[1:]
            )
        except Exception as error:  # whatever goes wrong afterwards is what is looked for
            problem = f"{type(error).__name__}: {error}"
        return Outcome(point, was_met, problem)

    @property
    def _at(self) -> Path:
        return self._folder / "now"

    def _victim(self, operation: Operation, fault: Fault | None) -> tuple[list[str], Path]:
        """What the operation, carried out in a child under the fault, said; and the log of its calls."""
        shutil.rmtree(self._at, ignore_errors=True)
        shutil.copytree(self._before[operation.name], self._at)
        go_read, go = os.pipe()
        said, say = socket.socketpair()
        child = os.fork()
        if child == 0:
            os.close(go)
            _act(operation, self._at, go_read, say)
        os.close(go_read)
        say.close()
        log = self._folder / "calls.log"
        try:
            with attached(child, log=log, fault=fault):
                with suppress(BrokenPipeError):  # the fault was met at the very wait for this word
                    os.write(go, b"!")
                with said, said.makefile(encoding="utf-8") as lines:
                    told = [line.strip() for line in lines]
                os.waitpid(child, 0)
        finally:
            os.close(go)
        return told, log


def _act(operation: Operation, folder: Path, go: int, said: socket.socket) -> None:
    """The victim: does the operation, and once more when it failed, then ends without a word more."""

    def say(text: str) -> None:
        said.sendall(f"{text}\n".encode())  # not write(): that call is for faults to meet

    try:
        os.read(go, 1)
        for _ in range(2):
            try:
                operation.act(folder, say)
                break
            except Exception as error:
                kind = "PlatformError" if isinstance(error, PlatformError) else type(error).__name__
                say(f"{FAILED}{kind}: {str(error).splitlines()[0] if str(error) else ''}")
    finally:
        os._exit(0)


def sampled(points: Sequence[Point], number: int | None, seed: int) -> list[Point]:
    """`number` of the points, the same for the same seed, in their order; all without a number."""
    if number is None or number >= len(points):
        return list(points)
    chosen = sorted(random.Random(seed).sample(range(len(points)), number))
    return [points[n] for n in chosen]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, help="only so many of them, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="operations whose name holds this text")
    asked = parser.parse_args()
    if reason := why_not():
        print(json.dumps({"crash_points": 0, "points_bad": 0, "skipped": reason}))
        return 0
    begin = time.perf_counter()
    operations = [op for op in OPERATIONS if not asked.only or asked.only in op.name]
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        sweep = Sweep(Path(folder), operations)
        met = [o for o in sweep.outcomes(sampled(sweep.points(), asked.points, asked.seed)) if o.was_met]
    bad = [outcome for outcome in met if outcome.problem]
    for outcome in bad:
        print(f"bad: {outcome.point}: {outcome.problem}")
    for operation in operations:
        of = [outcome for outcome in met if outcome.point.operation is operation]
        kills = sum(outcome.point.fault.what == KILL for outcome in of)
        num_bad = sum(bool(outcome.problem) for outcome in of)
        print(f"{operation.name:<28}{kills:>6} kills{len(of) - kills:>6} errors{num_bad:>6} bad")
    taken_s = time.perf_counter() - begin
    print(json.dumps({"crash_points": len(met), "points_bad": len(bad), "sweep_s": round(taken_s, 1)}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
