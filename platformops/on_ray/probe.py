"""The probe: one small process a node that says once a second how the node is, and ends what it is told to end.

Started by `probing`; it imports neither Ray nor anything outside the standard library, so that it costs a sixth of a
Ray worker, and it stays as it is when the controller dies. It ends with its node's server, when a newer probe is
wanted, and when nobody has answered it for long.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from platformops.clock import Clock, SystemClock
from platformops.health import vitals
from platformops.health.records import Heartbeat
from platformops.health.vitals import Counters, ProcessStat, Texts, process_stat
from platformops.health.wire import LONGEST_BYTES, Order, RayletState, Report, Stopped, order_from, report_bytes
from platformops.on_ray.answering import Answer, Question
from platformops.on_ray.control_groups import group_of, memory_texts, quota_texts, text_of
from platformops.on_ray.disk_check import DiskCheck
from platformops.on_ray.gpus import DRIVER, Gpus, gpu_readings, gpus_of_this_node
from platformops.on_ray.log_reading import KernelLog, ServerLog
from platformops.on_ray.priority import go_first

PERIOD_S = 1.0
SAMPLE_EVERY = 5
"""Beats between two readings of the machine."""
UNHEARD_S = 600.0
"""Without an answer from any controller for so long, the probe ends itself: nobody wants it any more."""
LAST_WORDS = 3
"""Datagrams may be lost, and a server that ended is worth saying more than once."""
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a probe is told on its standard input."""

    node: str
    incarnation: int
    key: str
    """Hexadecimal."""
    controller: tuple[str, int]
    raylet_pid: int
    raylet: tuple[str, int]
    folder: str
    """On the disk whose health is the node's."""
    site: tuple[str, ...] = ()
    """Where packages are, for the library of the GPUs, which is loaded only where there are any."""


def assignment_from(text: str) -> Assignment:
    value = json.loads(text)
    pairs = {name: (str(value[name][0]), int(value[name][1])) for name in ("controller", "raylet")}
    return Assignment(**{**value, **pairs, "site": tuple(value["site"])})


class Probe:
    """The state of the loop. Nothing here waits but `beat`, for the node's server, and for less than a period."""

    def __init__(
        self, given: Assignment, clock: Clock, link: socket.socket, disk: DiskCheck, gpus: Gpus | None = None
    ) -> None:
        self._given, self._clock, self._link, self._disk, self._gpus = given, clock, link, disk, gpus
        self._key = bytes.fromhex(given.key)
        self._question = Question(*given.raylet)
        self._raylet = _stat(given.raylet_pid)
        self._ended = _end_of(given.raylet_pid)
        self._logs = ServerLog(given.raylet_pid, clock), KernelLog(clock)
        self._groups = group_of(given.raylet_pid, "memory"), group_of(given.raylet_pid, "cpu")
        self._number = self._sequence = 0
        self._counters: Counters | None = None
        self._offset_s = clock.now() - clock.monotonic()
        self._stopped_since: dict[tuple[int, int], float] = {}
        self._epoch = 0
        self._heard_at = clock.monotonic()
        self.is_over = False

    def beat(self, planned_s: float) -> Report:
        """Looks at the node and says what it saw; `planned_s` is when that was due on the monotonic clock."""
        began = self._clock.monotonic()
        state = self._raylet_state()
        readings: dict[str, float | None] = {
            vitals.BEAT_DELAY: max(0.0, began - planned_s),
            vitals.RAYLET_ANSWER: self._clock.monotonic() - began if state is RayletState.ANSWERS else None,
        }
        if self._number % SAMPLE_EVERY == 0:
            readings |= self._sample()
        beat = Heartbeat(
            self._given.node, self._given.incarnation, self._sequence, self._clock.now(), max(0.0, began - planned_s)
        )
        report = Report(beat, state, readings, self._stopped(began))
        self._number += 1
        self._sequence += state is RayletState.ANSWERS
        self._say(report)
        if state is RayletState.GONE:
            for _ in range(LAST_WORDS - 1):
                self._say(report)
            self._end()
        return report

    def obey(self, until_s: float) -> None:
        """Reads orders until the next beat is due, at once ready when the node's server ends."""
        while not self.is_over and (left_s := until_s - self._clock.monotonic()) > 0.0:
            ready, _, _ = select.select([self._link.fileno(), *self._ended], [], [], left_s)
            if self._link.fileno() not in ready:
                break
            with suppress(OSError):
                order = order_from(self._link.recv(LONGEST_BYTES), self._key)
                if order is not None:
                    self._carry_out(order)
        if self._clock.monotonic() - self._heard_at > UNHEARD_S:
            self._end()

    def _carry_out(self, order: Order) -> None:
        if order.node != self._given.node or order.epoch < self._epoch or order.answers < self._sequence - SAMPLE_EVERY:
            return
        self._epoch, self._heard_at = order.epoch, self._clock.monotonic()
        if order.incarnation > self._given.incarnation:
            self._end()
        ours = set(_children_of(self._given.raylet_pid)) if order.kill else set()
        for pid, started in order.kill:
            if pid in ours:
                _end_process(pid, started)
        if order.end_server and self._raylet is not None:
            _end_process(self._given.raylet_pid, self._raylet.started)

    def _end(self) -> None:
        self.is_over = True
        self._question.close()
        self._logs[1].close()
        while self._ended:
            os.close(self._ended.pop())

    def _raylet_state(self) -> RayletState:
        now = _stat(self._given.raylet_pid)
        if now is None or now.state in "ZX" or self._raylet is None or now.started != self._raylet.started:
            return RayletState.GONE
        if now.state == "T":
            return RayletState.STOPPED
        return RayletState.ANSWERS if self._question.wait(0.8 * PERIOD_S) is Answer.ANSWERED else RayletState.SILENT

    def _sample(self) -> Mapping[str, float | None]:
        texts = _texts(*self._groups)
        before, self._counters = self._counters, vitals.counters(texts)
        offset_s, before_s = self._clock.now() - self._clock.monotonic(), self._offset_s
        self._offset_s = offset_s
        found = vitals.readings(texts, before) if before else {}
        graphics = gpu_readings(self._gpus.read()) if self._gpus else {}
        said = {name: value for log in self._logs for name, value in log.readings().items()}
        return {**found, **self._disk.readings(), **graphics, **said, vitals.CLOCK_STEP: abs(offset_s - before_s)}

    def _stopped(self, now_s: float) -> tuple[Stopped, ...]:
        """Of the raylet's own processes; the raylet itself is told by its state."""
        found = {}
        for pid in _children_of(self._given.raylet_pid):
            stat = _stat(pid)
            if stat is not None and stat.state == "T":
                since_s = self._stopped_since.get((pid, stat.started), now_s)
                found[pid, stat.started] = since_s, stat.name
        self._stopped_since = {process: since_s for process, (since_s, _) in found.items()}
        return tuple(Stopped(pid, at, name, now_s - since_s) for (pid, at), (since_s, name) in found.items())

    def _say(self, report: Report) -> None:
        with suppress(OSError):  # a network that is away now may be back at the next beat
            self._link.sendto(report_bytes(report, self._key), self._given.controller)


def run(given: Assignment, clock: Clock) -> None:
    """Beats until it is over."""
    family = socket.AF_INET6 if ":" in given.controller[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as link:
        gpus = gpus_of_this_node(given.site) if DRIVER.exists() else None
        probe = Probe(given, clock, link, DiskCheck(Path(given.folder), clock), gpus)
        due_s = clock.monotonic()
        while not probe.is_over:
            probe.beat(due_s)
            # What was slept through is not made up for: a beat says that the node lives now.
            due_s = max(due_s + PERIOD_S, clock.monotonic())
            probe.obey(due_s)


def _texts(memory: Path | None, processor: Path | None) -> Texts:
    names = ("stat", "meminfo", "net/dev", "sys/fs/file-nr", "pressure/cpu", "pressure/memory", "pressure/io")
    limit, used, stat = memory_texts(memory) if memory else ("", "", "")
    quota, quota_stat = quota_texts(processor) if processor else ("", "")
    whole = Texts(*(text_of(PROC / name) for name in names))
    return replace(whole, group_limit=limit, group_used=used, group_stat=stat, quota=quota, quota_stat=quota_stat)


def _stat(pid: int) -> ProcessStat | None:
    return process_stat(text_of(PROC / str(pid) / "stat"))


def _end_process(pid: int, started: int) -> None:
    found = _stat(pid)
    if found is not None and found.started == started:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _end_of(pid: int) -> list[int]:
    """A descriptor that becomes readable when the process ends; none where it has ended."""
    try:
        return [os.pidfd_open(pid)]
    except OSError:
        return []


def _children_of(pid: int) -> list[int]:
    """Of all threads, as the kernel lists a child with the thread that made it."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(PROC / str(pid) / "task"):
            found += map(int, text_of(PROC / str(pid) / "task" / task / "children").split())
    return found


def main() -> int:
    """Reads its assignment, leaves its parent, which may be waited for, and beats."""
    given = assignment_from(sys.stdin.read())
    if os.fork():
        return 0
    alone = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:  # held for as long as this process lives
        alone.bind(f"\0platformops-probe-{given.node}-{given.incarnation}")
    except OSError:
        return 0
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    go_first()
    run(given, SystemClock())
    return 0


if __name__ == "__main__":
    sys.exit(main())
