"""Ends training workers of this machine that are stuck, so that Ray sees a crash, which it repairs in seconds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from platformops.clock import Clock
from platformops.on_ray.pulse import beats_in
from platformops.on_ray.stuck import Beat, Watched, condemned, watch
from platformops.pipeline.process import is_alive, is_stopped, waited_for_processor_s

LOOK_S = 0.5
CAPTURE_S = 10.0
SIGNALLED_S = 0.5
"""What the worker's own handler needs to write its stacks."""


class StuckWatch:
    """While it is entered, looks after every worker whose heartbeats are in `folder`; `tell` gets what
    it did and why, and the stack of what was stuck where there is one.

    Workers of other machines end themselves: see `pulse`.
    """

    def __init__(self, folder: Path, clock: Clock, tell: Callable[[str, str], None]) -> None:
        self._folder, self._clock, self._tell = folder, clock, tell
        self._watched: dict[Path, Watched] = {}
        self._waited_s: dict[Path, float] = {}
        self._looked_at = clock.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="stuck-watch")

    def __enter__(self) -> StuckWatch:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        now = self._clock.monotonic()
        elapsed_s, self._looked_at = now - self._looked_at, now
        beats = beats_in(self._folder)
        stopped = {path for path, beat in beats.items() if is_stopped(beat.owner)}
        reasons: dict[Path, str] = {}
        for path, beat in beats.items():
            if is_alive(beat.owner) is not False:
                before = self._watched.get(path, Watched())
                starved_s = self._starved_s(path, beat)
                self._watched[path], reasons[path] = watch(
                    before, beat, is_stopped=path in stopped, elapsed_s=elapsed_s, starved_s=starved_s
                )
        quiet = condemned({path: (beats[path], why) for path, why in reasons.items() if path not in stopped})
        for path in (*quiet, *(path for path in sorted(stopped) if reasons.get(path))):
            if is_alive(beats[path].owner):
                self._end(path, beats[path], reasons[path], has_stack=path not in stopped)

    def _starved_s(self, path: Path, beat: Beat) -> float:
        """For how long, since the last look, the working thread of a worker of this machine was kept waiting."""
        before, now = self._waited_s.get(path), waited_for_processor_s(beat.owner.pid, beat.thread)
        self._waited_s[path] = now
        return 0.0 if before is None else max(0.0, now - before)

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.look()

    def _end(self, path: Path, beat: Beat, why: str, *, has_stack: bool) -> None:
        stack = _stack_of(beat.owner.pid, path.with_suffix(".stack")) if has_stack else ""
        with suppress(ProcessLookupError):
            os.kill(beat.owner.pid, signal.SIGKILL)
        self._watched.pop(path, None)
        self._tell(f"worker {path.stem}: {why}; ended, training goes on from the newest checkpoint", stack)


def _stack_of(pid: int, written_by_worker: Path) -> str:
    """Its stacks by py-spy, else as its own signal handler wrote them; empty when neither can."""
    spy = shutil.which("py-spy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if spy is not None:
        with suppress(subprocess.TimeoutExpired, OSError):
            done = subprocess.run(
                [spy, "dump", "--pid", str(pid)], capture_output=True, text=True, timeout=CAPTURE_S, check=False
            )
            if done.returncode == 0:
                return done.stdout
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGUSR2)
        threading.Event().wait(SIGNALLED_S)
    return _text(written_by_worker)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
