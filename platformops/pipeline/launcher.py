"""Runs steps in worker processes that live from step to step and are ended, with all they started, when need be."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from platformops.clock import Clock
from platformops.pipeline.modules import PLATFORM_ROOT
from platformops.pipeline.process import oom_kills
from platformops.pipeline.records import Failure
from platformops.pipeline.wire import (
    CRASHED,
    STOPPED,
    TIMED_OUT,
    Message,
    News,
    Returned,
    StepRequest,
    decode,
    encode_request,
    failure_of,
    progress_of,
)

LOOK_S = 0.1
"""How late a stop or a timeout may be noticed."""
GRACE_S = 1.0
"""After SIGTERM, before everything is killed: time for a `finally`, not for another epoch."""
MEMORY_REMEDY = "use smaller batches or fewer trials at once (train.batch_size, search.concurrent), or add memory"
LONGEST_LINE = 64 * 1024
MOST_OUTPUT_BYTES = 16 * 1024 * 1024
"""Of one attempt in the log; the rest is counted and dropped."""


class WorkerLauncher:
    """Workers start when a first step needs one; steps that use the cluster share one, so that it stays attached."""

    def __init__(self, *, environment: Mapping[str, str], clock: Clock) -> None:
        self._environment = _with_platform(environment)
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: dict[bool, list[Worker]] = {True: [], False: []}
        self._all: set[Worker] = set()

    def run(
        self, request: StepRequest, *, stop: threading.Event, on_news: Callable[[News], None]
    ) -> Returned | Failure:
        with self._worker(request.on_cluster) as worker:
            return worker.run(request, stop=stop, on_news=on_news, clock=self._clock)

    def close(self) -> None:
        with self._lock:
            workers, self._all = self._all, set()
            self._idle = {True: [], False: []}
        for worker in workers:
            worker.end()

    @contextmanager
    def _worker(self, on_cluster: bool) -> Iterator[Worker]:
        with self._lock:
            idle = self._idle[on_cluster]
            worker = idle.pop() if idle else None
        if worker is None or not worker.is_usable():
            worker = Worker(self._environment)
            with self._lock:
                self._all.add(worker)
        try:
            yield worker
        except BaseException:
            worker.end()
            raise
        finally:
            self._give_back(worker, on_cluster)

    def _give_back(self, worker: Worker, on_cluster: bool) -> None:
        with self._lock:
            if worker.is_usable() and worker in self._all:
                self._idle[on_cluster].append(worker)
                return
            self._all.discard(worker)
        worker.end()


def _with_platform(environment: Mapping[str, str]) -> dict[str, str]:
    # The worker must find this very PlatformOps also where it is not installed, as in a job's working directory.
    places = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    return {**environment, "PYTHONPATH": os.pathsep.join([*places, str(PLATFORM_ROOT)])}


class Worker:
    """One worker process and its guard; used by one thread at a time."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        requests, self._requests = os.pipe()
        self._events, events = os.pipe()
        self._output, output = os.pipe()
        # -P: a file called json.py beside the spec must not replace Python's own before the worker has started.
        command = [sys.executable, "-P", "-m", "platformops.pipeline.worker", str(requests), str(events)]
        self._guard = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=(requests, events),
            env=dict(environment),
            start_new_session=True,
            bufsize=0,
        )
        for fd in (requests, events, output):
            os.close(fd)
        os.set_blocking(self._output, False)
        os.set_blocking(self._events, False)
        self._pid: int | None = None
        self._partial = {self._events: b"", self._output: b""}
        self._output_bytes, self._oom_kills = 0, 0
        self._is_usable = True
        self._is_over = False

    def is_usable(self) -> bool:
        return self._is_usable and self._guard.poll() is None

    def run(
        self, request: StepRequest, *, stop: threading.Event, on_news: Callable[[News], None], clock: Clock
    ) -> Returned | Failure:
        """One attempt. When it is stopped, takes too long or crashes, this worker is gone afterwards."""
        deadline = clock.monotonic() + request.timeout_s if request.timeout_s else None
        self._output_bytes, self._oom_kills = 0, oom_kills()
        with suppress(BrokenPipeError):  # gone already: reading tells how
            _write_all(self._requests, encode_request(request))
        outcome: Returned | Failure | None = None
        while outcome is None:
            if stop.is_set():
                outcome = self._ended(Failure(STOPPED, "stopped while it ran"), on_news)
            elif deadline is not None and clock.monotonic() > deadline:
                reason = f"took longer than its timeout_s of {request.timeout_s:g} s"
                outcome = self._ended(Failure(TIMED_OUT, reason, "raise timeout_s, or see the log"), on_news)
            else:
                outcome = self._look(on_news)
        return outcome

    def _look(self, on_news: Callable[[News], None]) -> Returned | Failure | None:
        """Waits a moment for news; the outcome, once there is one."""
        ready = self._readable(LOOK_S)
        if self._output in ready:
            self._read_output(on_news)
        if self._events not in ready:
            return None
        for line in self._lines(self._events):
            if outcome := self._take(decode(line), on_news):
                self._read_output(on_news)
                return outcome
        return self._crashed(on_news) if self._events not in self._partial else None

    def _take(self, message: Message, on_news: Callable[[News], None]) -> Returned | Failure | None:
        body = dict(message.body)
        if message.event == "ready":
            self._pid = int(str(body["pid"]))
        elif message.event == "progress":
            on_news(progress_of(body))
        else:
            if body.pop("tainted"):
                self._is_usable = False  # threads of the stage live on in it
            if message.event == "raised":
                return failure_of(body)
            summary, seconds = body["summary"], body["seconds"]
            assert isinstance(summary, dict)
            assert isinstance(seconds, int | float)
            return Returned(summary, float(seconds))
        return None

    def _ended(self, failure: Failure, on_news: Callable[[News], None]) -> Failure:
        """Asks the stage to end, gives it a moment, then ends the worker for good."""
        self._is_usable = False
        if self._pid is not None and self._guard.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
            for _ in range(round(GRACE_S / LOOK_S)):
                if self._look(on_news) is not None:
                    break
        self.end()
        return failure

    def _crashed(self, on_news: Callable[[News], None]) -> Failure:
        self._is_usable = False
        self._read_output(on_news)
        self.end()
        code = self._guard.returncode if self._guard.returncode >= 0 else 128 - self._guard.returncode
        if code > 128:
            name = signal.Signals(code - 128).name if code - 128 in list(signal.Signals) else str(code - 128)
            if name == "SIGKILL" and oom_kills() > self._oom_kills:
                return Failure(CRASHED, "its process was ended by SIGKILL while memory ran out", MEMORY_REMEDY)
            return Failure(CRASHED, f"its process was ended by {name}", "see the log")
        return Failure(CRASHED, f"its process ended with code {code} in the middle of the step", "see the log")

    def end(self) -> None:
        """Ends the worker and every process below it; harmless when it has ended."""
        self._is_usable = False
        if self._is_over:
            return
        self._is_over = True
        assert self._guard.stdin is not None
        self._guard.stdin.close()  # the guard sees the end and kills what is below it
        try:
            self._guard.wait(timeout=4 * GRACE_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._guard.pid, signal.SIGKILL)
            self._guard.wait()
        for fd in (self._requests, self._events, self._output):
            with suppress(OSError):
                os.close(fd)
        self._partial = {}

    def _readable(self, timeout_s: float) -> set[int]:
        poll = select.poll()  # not select(): it refuses descriptors from 1024 on
        for fd in self._partial:
            poll.register(fd, select.POLLIN)
        return {fd for fd, _ in poll.poll(timeout_s * 1000)}

    def _lines(self, fd: int) -> Iterator[bytes]:
        """Complete lines that are there now; at the end of the stream the descriptor leaves `_partial`."""
        while fd in self._partial:
            try:
                read = os.read(fd, 65536)
            except BlockingIOError:
                return
            *lines, rest = (self._partial[fd] + read).split(b"\n")
            self._partial[fd] = rest
            yield from lines
            if not read:
                del self._partial[fd]
            if fd == self._output and len(rest) > LONGEST_LINE:
                self._partial[fd] = b""
                yield rest

    def _read_output(self, on_news: Callable[[News], None]) -> None:
        for line in self._lines(self._output):
            if self._output_bytes <= MOST_OUTPUT_BYTES:
                on_news(News("output", line.decode("utf-8", "backslashreplace")))
            elif self._output_bytes - len(line) <= MOST_OUTPUT_BYTES:
                on_news(News("output", f"(more than {MOST_OUTPUT_BYTES} bytes: the rest is left out)"))
            self._output_bytes += len(line) + 1


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]
