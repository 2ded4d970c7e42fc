"""Seconds from a fault to the first new step of training, against raw Ray Train in the same run; what is lost by it.

    python benchmarks/recovery.py [--short]

`killed_ratio_to_raw`: the worker gets SIGKILL, interleaved with the same kill of raw Ray Train. `hang_s`: its own code
never returns, which raw Ray never notices. `checkpoints_lost`: acknowledged as durable, and gone after a kill 0 to 2 s
later. The full form also loses the gateway, the GCS and everything at once under requests, and stops raw Ray's worker.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
TARGETS: dict[str, float] = {
    "killed_ratio_to_raw": 0.6,
    "stopped_ratio_to_raw": 0.6,
    "hang_s": 25.0,
    "gateway_refused_s": 2.0,
    "checkpoints_lost": 0,
    "gcs_failed_requests": 0,
    "gcs_training_gap_s": 3.0,
    "power_cut_s": 20.0,
}
RAW_PATIENCE_S = 115.0
"""As long as raw Ray's stopped worker is watched; it takes 600 s by its own default."""
SPARE_S = 20.0
"""A process in reserve is asked for 10 s after training began, and has then to start."""
WRITER = """
import sys, time
from pathlib import Path
from platformops.on_ray.checkpoints import write_checkpoint
def write(place):
    (place / "weights").write_bytes(bytes(200_000))
for epoch in range(1, 10**6):
    write_checkpoint(Path(sys.argv[1]), epoch, write)
    print(epoch, flush=True)
    time.sleep(0.05)
"""


@dataclass(frozen=True, slots=True)
class Account:
    """What a training says of itself."""

    pid: int
    steps: int
    at: float
    saved: str = ""
    resumed: str = ""


class Training:
    """A driver with its training; `kind` is `ours` or `raw`."""

    def __init__(self, kind: str, root: Path, address: str) -> None:
        from benchmarks.recovery_training import prepare

        self.kind, self.folder = kind, Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=root))
        prepare(self.folder)
        environment = os.environ | {"RAY_ADDRESS": address}
        with (self.folder / "driver.log").open("wb") as log:
            command = [sys.executable, str(FOLDER / "recovery_training.py"), kind, str(self.folder)]
            self._driver = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def account(self) -> Account | None:
        from platformops.on_ray.pulse import beat_file
        from platformops.on_ray.stuck import beat_from

        ours = self.kind == "ours"
        path = beat_file(self.folder / "scratch" / "beats", 0) if ours else self.folder / "raw.json"
        with contextlib.suppress(OSError):
            text = path.read_text(encoding="utf-8")
            if not ours:
                return Account(**json.loads(text))
            if beat := beat_from(text):
                return Account(beat.owner.pid, beat.steps, beat.at, beat.saved, beat.resumed)
        return None

    def until(self, true: Callable[[Account], bool], timeout_s: float) -> Account | None:
        """The first account for which it is true; None when there is none in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._driver.poll() is not None:
                raise SystemExit(f"{self.kind} ended:\n{(self.folder / 'driver.log').read_text()[-3000:]}")
            if (account := self.account()) and true(account):
                return account
            time.sleep(0.02)
        return None

    def fault(self, strike: Callable[[int], object], timeout_s: float) -> tuple[float, Account, Account | None]:
        """Seconds from the strike to the first new step, the account before and the one after."""
        before = self.until(lambda a: a.steps > 0, 180.0)
        assert before is not None, f"{self.kind} makes no step"
        began = time.monotonic()
        strike(before.pid)
        after = self.until(lambda a: a.pid != before.pid and a.steps > 0, timeout_s)
        return time.monotonic() - began, before, after

    def end(self) -> None:
        """The driver is killed, which ends its training at once."""
        self._driver.kill()
        self._driver.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


@dataclass
class Measured:
    """Seconds of each fault, and checkpoints that were acknowledged, and those of them that were lost."""

    killed_s: list[float]
    raw_killed_s: list[float]
    stopped_s: list[float]
    hang_s: list[float]
    acknowledged: int = 0
    lost: int = 0

    def count(self, before: Account, after: Account | None) -> None:
        if before.saved:
            self.acknowledged += 1
            self.lost += after is None or after.resumed < before.saved


@contextlib.contextmanager
def training(kind: str, root: Path, address: str) -> Iterator[Training]:
    one = Training(kind, root, address)
    try:
        yield one
    finally:
        one.end()


def measure(root: Path, address: str, measured: Measured, *, kills: int) -> None:
    """One round: raw Ray killed, then ours killed, stopped and made to hang."""
    with training("raw", root, address) as raw:
        raw.until(lambda a: a.steps >= 30, 180.0)
        for _ in range(kills):
            measured.raw_killed_s.append(raw.fault(kill, 180.0)[0])
    with training("ours", root, address) as ours:
        ours.until(lambda a: a.steps > 0, 180.0)
        for _ in range(kills):
            time.sleep(SPARE_S)
            measured.killed_s.append(_counted(ours, kill, measured))
        measured.stopped_s.append(_counted(ours, stop, measured))
        measured.hang_s.append(_counted(ours, lambda _: (ours.folder / "hang").touch(), measured))


def _counted(ours: Training, strike: Callable[[int], object], measured: Measured) -> float:
    seconds, before, after = ours.fault(strike, 180.0)
    measured.count(before, after)
    return seconds


def kill_after_acknowledgement(root: Path, address: str, measured: Measured, *, kills: int) -> None:
    """Each worker is killed 0 to 2 s after it said that a checkpoint is durable."""
    dice = random.Random(7)
    with training("ours", root, address) as ours:
        for _ in range(kills):
            account = ours.until(lambda a: a.steps > 0, 180.0)
            known = account.saved if account else ""
            ours.until(lambda a, known=known: bool(a.saved) and a.saved != known, 120.0)  # type: ignore[misc]
            time.sleep(dice.uniform(0.0, 2.0))
            _counted(ours, kill, measured)


def kill_writers(root: Path, measured: Measured, *, kills: int) -> None:
    """The same of bare processes that only write checkpoints, many at once, as it takes no cluster to lose a file."""
    from platformops.on_ray.checkpoints import newest_verified

    dice = random.Random(11)
    for _ in range(0, kills, 10):
        folders = [Path(tempfile.mkdtemp(prefix="w", dir=root)) for _ in range(10)]
        command = [sys.executable, "-c", WRITER]
        writers = [subprocess.Popen([*command, str(f)], stdout=subprocess.PIPE, text=True) for f in folders]
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        for writer in sorted(writers, key=lambda _: dice.random()):
            time.sleep(dice.uniform(0.0, 0.2))
            writer.kill()
        for writer, folder in zip(writers, folders, strict=True):
            said = writer.communicate()[0].split() or ["1"]
            newest, _ = newest_verified(folder)
            measured.acknowledged += 1
            measured.lost += newest is None or int(newest.name.removeprefix("epoch-")) < int(said[-1])


def raw_stopped_s(root: Path, address: str) -> float:
    with training("raw", root, address) as raw:
        raw.until(lambda a: a.steps >= 30, 180.0)
        return raw.fault(stop, RAW_PATIENCE_S)[0]


def summary(measured: Measured) -> dict[str, float]:
    killed_s, raw_s = statistics.median(measured.killed_s), statistics.median(measured.raw_killed_s)
    return {
        "killed_s": round(killed_s, 2),
        "raw_killed_s": round(raw_s, 2),
        "killed_ratio_to_raw": round(killed_s / raw_s, 3),
        "stopped_s": round(statistics.median(measured.stopped_s), 2),
        "hang_s": round(max(measured.hang_s), 2),
        "checkpoints_acknowledged": measured.acknowledged,
        "checkpoints_lost": measured.lost,
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    sys.path.insert(0, str(FOLDER.parent))
    from benchmarks.serving import cluster

    root = Path(tempfile.mkdtemp(prefix="pr", dir="/tmp"))
    measured = Measured([], [], [], [])
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, root, ignore_errors=True)
        cleanup.enter_context(cluster(root))
        import ray

        address = ray.get_runtime_context().gcs_address
        for _ in range(1 if short else 3):
            measure(root, address, measured, kills=1 if short else 2)
        if short:
            kill_writers(root, measured, kills=50)
        else:
            kill_after_acknowledgement(root, address, measured, kills=50)
        raw_stop_s = None if short else raw_stopped_s(root, address)
    figures = summary(measured)
    if raw_stop_s is not None:
        from benchmarks.recovery_cluster import lose_servers

        figures["stopped_ratio_to_raw"] = round(figures["stopped_s"] / raw_stop_s, 3)
        figures |= lose_servers()
    for name, figure in figures.items():
        print(f"{name:26}{figure:>10}" + (f"   target {TARGETS[name]:g}" if name in TARGETS else ""))
    targets = {name: target for name, target in TARGETS.items() if name in figures}
    passed = all(figures[name] <= target for name, target in targets.items())
    print(json.dumps({"name": "recovery", "figures": figures, "targets": targets, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
