"""The process in which stage functions run: `python -m platformops.pipeline.worker REQUESTS_FD EVENTS_FD`.

Two processes share the work. The guard, which imports nothing of the user's, waits for the end of its standard input
(the runner is gone, however it went) or of the worker, and then ends everything below it. The worker calls one stage
function after another, and ends what each has started before it reports.
"""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from platformops.clock import SystemClock
from platformops.errors import AppError, DataRefused, DiskFull, GateRefused, PlatformError, UserError
from platformops.pipeline.calls import add_roots, load_function
from platformops.pipeline.modules import import_roots
from platformops.pipeline.process import adopt_orphans, die_with_parent, end_children
from platformops.pipeline.records import MOST_FIGURES, Failure, StageContext, Tell
from platformops.pipeline.wire import (
    DISK_FULL,
    STOPPED,
    Returned,
    StepRequest,
    decode_request,
    encode,
    failure_body,
)
from platformops.store.records import Json, JsonObject
from platformops.store.trouble import NO_SPACE

PROGRESS_EVERY_S = 0.1
"""A stage may call `progress` a million times; people and logs see ten a second."""
TRACE_FRAMES = 8


class Stop(BaseException):
    """SIGTERM arrived: the stage may clean up, briefly."""


def main(requests: int, events: int) -> None:
    adopt_orphans()
    guard = os.getpid()
    worker = os.fork()
    if worker == 0:
        die_with_parent(guard)
        work(requests, events)
        os._exit(0)
    for fd in (requests, events):
        os.close(fd)
    os._exit(stand_guard(worker))


def stand_guard(worker: int) -> int:
    """Exit code of the worker, 128 + signal when one ended it; by then no process below this one is left."""
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    poll.register(os.pidfd_open(worker), select.POLLIN)
    poll.poll()
    with suppress(ProcessLookupError):
        # After the worker's own end this only meets a zombie, whose id nobody else can have.
        os.kill(worker, signal.SIGKILL)
    _, status = os.waitpid(worker, 0)
    end_children()
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def work(requests: int, events: int) -> None:
    for fd in (requests, events):
        os.set_inheritable(fd, False)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # only the guard listens to the runner's end
    adopt_orphans()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides; the terminal's Ctrl-C is its matter
    with open(requests, "rb") as lines, open(events, "wb", buffering=0) as out:
        out.write(encode("ready", {"pid": os.getpid()}))
        for line in lines:
            out.write(perform(decode_request(line), out))


def perform(request: StepRequest, out: BinaryIO) -> bytes:
    """The last line about this request: `returned` or `raised`."""
    around = Surroundings(keep=request.on_cluster)
    outcome: Returned | Failure
    try:
        outcome = _call(request, _reporter(out))
    except BaseException as error:  # the boundary: whatever a stage raises becomes a record
        outcome = failure_from(error)
    with suppress(ValueError, OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    end_children()
    tainted = around.restore()
    if isinstance(outcome, Failure):
        return encode("raised", {**failure_body(outcome), "tainted": tainted})
    return encode("returned", {"summary": outcome.summary, "seconds": outcome.seconds, "tainted": tainted})


def _call(request: StepRequest, progress: Tell) -> Returned:
    roots = import_roots(request.root)
    add_roots(roots)
    context = StageContext(
        inputs=request.inputs,
        output=request.output,
        scratch=request.scratch,
        progress=progress,
        fingerprint=request.fingerprint,
        root=request.root,
    )
    clock = SystemClock()
    before = signal.signal(signal.SIGTERM, _on_terminate)
    try:
        function = load_function(request.uses, request.params, roots)
        begin = clock.monotonic()
        summary = function(context, **request.params)
        seconds = clock.monotonic() - begin
        return Returned(summary_of(summary, request.uses), seconds)
    finally:
        signal.signal(signal.SIGTERM, before)


def _on_terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Stop


def _reporter(out: BinaryIO) -> Tell:
    clock, lock, last = SystemClock(), threading.Lock(), [-PROGRESS_EVERY_S]

    def progress(ratio: float | None, message: str, **figures: float) -> None:
        with lock:
            now = clock.monotonic()
            if now - last[0] < PROGRESS_EVERY_S and ratio != 1.0:
                return
            last[0] = now
            share = None if ratio is None else min(max(float(ratio), 0.0), 1.0)
            told: dict[str, Json] = {"ratio": share, "message": str(message)[:500]}
            if numbers := {name: float(value) for name, value in figures.items() if math.isfinite(value)}:
                told["figures"] = dict(list(numbers.items())[:MOST_FIGURES])
            out.write(encode("progress", told))

    return progress


def summary_of(value: object, uses: str) -> JsonObject:
    plain = _plain({} if value is None else value, at=f"what {uses} returned")
    if not isinstance(plain, dict):
        raise AppError(f"{uses}: returned a {type(value).__name__}", remedy="return a mapping of results, or nothing")
    return plain


def _plain(value: object, *, at: str) -> Json:
    """JSON of what a stage returned. Numbers of numpy count; not-a-number becomes null: hours of work hang on it."""
    if isinstance(value, dict):
        return {str(name): _plain(inner, at=f"{at}.{name}") for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, at=f"{at}[{index}]") for index, inner in enumerate(value)]
    if value is None or isinstance(value, bool | str):
        return value
    if type(value) not in (int, float) and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    raise AppError(f"{at}: a {type(value).__name__} cannot be kept", remedy="return text, numbers, lists and mappings")


def failure_from(error: BaseException) -> Failure:
    """The record of an exception: what people need, and a short trace for the log."""
    trace = "".join(traceback.format_exception(error, limit=-TRACE_FRAMES))
    kind = type(error).__name__
    if isinstance(error, Stop):
        return Failure(STOPPED, "stopped while it ran")
    if isinstance(error, PlatformError):
        final = isinstance(error, UserError | DataRefused | GateRefused | DiskFull)
        return Failure(kind, error.message, error.remedy, final=final, trace=trace)
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return Failure(DISK_FULL, f"the disk is full{_where(error)}", None, True, trace)
    if isinstance(error, SystemExit):
        return Failure(kind, f"the stage called sys.exit({error.code!r}){_where(error)}", trace=trace)
    return Failure(kind, f"{kind}: {error}{_where(error)}" if str(error) else f"{kind}{_where(error)}", trace=trace)


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).name not in ("worker.py", "calls.py")] or frames
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name})" if own else ""


class Surroundings:
    """Working directory and threads before a stage; `keep` leaves them to the next one (Ray's session)."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._folder = os.getcwd()
        self._threads = threading.active_count()

    def restore(self) -> bool:
        """Whether something is left that only a new process gets rid of."""
        if self._keep:
            return False
        if os.getcwd() != self._folder:
            os.chdir(self._folder)
        return threading.active_count() > self._threads


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
