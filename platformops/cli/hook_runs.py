"""Starts what webhooks ask for: at most one run of a project at a time, and one that waits for it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from platformops.delivery.ci.status import State
from platformops.gateway.hooks import Wanted

UPDATE_S = 300.0
UPDATES = {"git": ("git", "pull", "--ff-only", "--quiet"), "svn": ("svn", "update", "--non-interactive", "--quiet")}
"""To the newest revision, never to one that a delivery names: whoever sends it must not choose the code."""

Tell = Callable[[Wanted, State, str], None]
"""Reports the state of a run, with a description."""


@dataclass(frozen=True, slots=True)
class Command:
    arguments: tuple[str, ...]
    """Of `platformops`."""
    folder: Path
    vcs: str
    """`git` or `svn` when the working tree is brought to its newest revision first; else empty."""


class HookRuns:
    """One thread a project that is asked for; further deliveries meanwhile are one more run afterwards."""

    def __init__(self, commands: Mapping[str, Command], tell: Tell) -> None:
        self._commands, self._tell = commands, tell
        self._lock = threading.Lock()
        self._waiting: dict[str, Wanted | None] = {}
        """Projects with a run under way -> what is run after it."""
        self._threads: list[threading.Thread] = []

    def start(self, wanted: Wanted) -> str:
        """What became of the wish, in one sentence."""
        with self._lock:
            if wanted.project in self._waiting:
                self._waiting[wanted.project] = wanted
                return "it runs after the present run"
            self._waiting[wanted.project] = None
            thread = threading.Thread(target=self._run, args=(wanted,), daemon=True)
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()
        return "a run was started"

    def wait(self) -> None:
        """Until no run is under way."""
        for thread in list(self._threads):
            thread.join()

    def _run(self, wanted: Wanted) -> None:
        following: Wanted | None = wanted
        while following is not None:
            self._carry_out(following)
            with self._lock:
                following = self._waiting.get(wanted.project)
                if following is None:
                    del self._waiting[wanted.project]
                else:
                    self._waiting[wanted.project] = None

    def _carry_out(self, wanted: Wanted) -> None:
        command = self._commands[wanted.project]
        self._tell(wanted, "running", f"{' '.join(command.arguments)} has begun")
        steps: list[Sequence[str]] = [UPDATES[command.vcs]] if command.vcs else []
        for step in (*steps, [sys.executable, "-m", "platformops", *command.arguments]):
            code, said = _code(step, command.folder)
            if code:
                self._tell(wanted, "failed", f"exit {code}: {said}")
                return
        self._tell(wanted, "success", f"{' '.join(command.arguments)} has ended well")


def _code(step: Sequence[str], folder: Path) -> tuple[int, str]:
    timeout_s = None if step[0] == sys.executable else UPDATE_S
    try:
        done = subprocess.run(
            step, cwd=folder, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False, timeout=timeout_s
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, type(error).__name__
    return done.returncode, Path(step[0]).name
