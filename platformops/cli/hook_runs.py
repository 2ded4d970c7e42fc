"""Carries out what webhooks ask for: at most one run of a project at a time, and one that waits for it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from platformops.clock import Clock
from platformops.delivery.ci.asked import LEASE_S, AskedRun, Held, Wanted, ended
from platformops.delivery.ci.asked_store import begin_next, kept, put_asked
from platformops.delivery.ci.status import State
from platformops.errors import StoreConflict, StoreError
from platformops.store.records import Store

UPDATE_S = 300.0
UPDATES = {"git": ("git", "pull", "--ff-only", "--quiet"), "svn": ("svn", "update", "--non-interactive", "--quiet")}
"""To the newest revision, never to one that a delivery names: whoever sends it must not choose the code."""
RENEWED_S = LEASE_S / 3
RETRIED_S = 5.0
"""After a store that did not answer."""

Tell = Callable[[Wanted, State, str], None]
"""Reports the state of a run, with a description."""


@dataclass(frozen=True, slots=True)
class Command:
    arguments: tuple[str, ...]
    """Of `platformops`."""
    folder: Path
    vcs: str
    """`git` or `svn` when the working tree is brought to its newest revision first; else empty."""


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    said: str
    run_id: str = ""


class HookRuns:
    """One thread a project that is asked for; what is asked for stands in the store."""

    def __init__(self, commands: Mapping[str, Command], tell: Tell, *, store: Store, clock: Clock, holder: str) -> None:
        self._commands, self._tell = commands, tell
        self._store, self._clock, self._holder = store, clock, holder
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        """Projects with a run under way."""
        self._pause = threading.Event()  # never set: a wait that ends with the process

    def start(self, wanted: Wanted) -> str:
        """Has what is written down for the project begin; what becomes of it, in one sentence."""
        with self._lock:
            if wanted.project in self._threads:
                return "it runs after the present run"
            thread = threading.Thread(target=self._run, args=(wanted.project,), daemon=True)
            thread.start()
            self._threads[wanted.project] = thread
        return "a run was started"

    def resume(self) -> None:
        """Begins what an earlier process accepted and did not end."""
        for project in self._commands:
            self.start(Wanted(project, "", ""))

    def wait(self) -> None:
        """Until no run is under way."""
        for thread in list(self._threads.values()):
            thread.join()

    def _run(self, project: str) -> None:
        try:
            while self._turn(project):
                pass
        except BaseException:
            with self._lock:
                del self._threads[project]  # the next delivery finds no dead thread in its way
            raise

    def _turn(self, project: str) -> bool:
        """One run, or a wait for one in other hands; False once all have ended and no thread is needed any more."""
        # Under the lock, so that a delivery that is written down now finds this thread, or starts another.
        with self._lock:
            found = self._next(project)
            if found is None:
                del self._threads[project]
                return False
        if isinstance(found, Held):
            self._pause.wait(max(0.1, found.until - self._clock.now()))
        else:
            self._carry_out(*found)
        return True

    def _next(self, project: str) -> tuple[AskedRun, int] | Held | None:
        try:
            return begin_next(self._store, project, self._holder, self._clock.now())
        except StoreConflict as error:
            return Held(self._clock.now(), error.message)
        except StoreError as error:
            print(f"hooks: {project}: {error.message}", file=sys.stderr, flush=True)
            return Held(self._clock.now() + RETRIED_S, error.message)

    def _carry_out(self, run: AskedRun, version: int) -> None:
        if run.has_ended:
            self._tell(run.wanted, "failed", run.reason)
            return
        command = self._commands[run.project]
        self._tell(run.wanted, "running", f"{' '.join(command.arguments)} has begun")
        lease = _Lease(self._store, self._clock, run, version)
        outcome = _carried_out(command, lease.renew)
        went_well = outcome.code == 0
        reason = f"{' '.join(command.arguments)} has ended well" if went_well else outcome.said
        if lease.end(went_well=went_well, reason=reason, run_id=outcome.run_id):
            self._tell(run.wanted, "success" if went_well else "failed", reason)


class _Lease:
    """The run that this process carries out, as it stands in the store."""

    def __init__(self, store: Store, clock: Clock, run: AskedRun, version: int) -> None:
        self._store, self._clock, self._run, self._version = store, clock, run, version

    def renew(self) -> None:
        """Where it cannot be kept, because somebody else has the run or the store is away, the run goes on: it is
        harmless beside another, and its end is not written over theirs."""
        with suppress(StoreError):
            self._run, self._version = kept(self._store, self._run, self._version, self._clock.now())

    def end(self, *, went_well: bool, reason: str, run_id: str) -> bool:
        """Whether the end could be written down: else it is told by whoever has the run."""
        try:
            put_asked(self._store, ended(self._run, went_well=went_well, reason=reason, run_id=run_id), self._version)
        except StoreError as error:
            print(f"hooks: {self._run.name}: its end was not written: {error.message}", file=sys.stderr, flush=True)
            return False
        return True


def _carried_out(command: Command, renew: Callable[[], None]) -> Outcome:
    """The update of the working tree and the command itself, to the first that fails."""
    outcome = Outcome(0, "")
    steps: list[Sequence[str]] = [UPDATES[command.vcs]] if command.vcs else []
    for step in (*steps, [sys.executable, "-m", "platformops", *command.arguments]):
        outcome = _done(step, command.folder, renew, UPDATE_S if step in UPDATES.values() else None)
        if outcome.code:
            break
    return outcome


def _done(step: Sequence[str], folder: Path, renew: Callable[[], None], timeout_s: float | None) -> Outcome:
    try:
        process = subprocess.Popen(step, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    except OSError as error:
        return Outcome(1, f"exit 1: {type(error).__name__}")
    waited_s, name = 0.0, Path(step[0]).name
    while True:
        try:
            out, _ = process.communicate(timeout=RENEWED_S)
            break
        except subprocess.TimeoutExpired:
            renew()
            waited_s += RENEWED_S
        if timeout_s is not None and waited_s >= timeout_s:
            process.kill()
            process.communicate()
            return Outcome(1, f"exit 1: {name} took longer than {timeout_s:g} s")
    said = f"exit {process.returncode}: {name}" if process.returncode else ""
    return Outcome(process.returncode, said, _run_id(out))


def _run_id(out: bytes) -> str:
    """Of the one object that a verb prints as its last line."""
    try:
        document = json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        return ""
    return str(document.get("run_id") or "") if isinstance(document, dict) else ""
