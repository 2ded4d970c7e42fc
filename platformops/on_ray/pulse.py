"""A training worker's own account of how far it is: a small file, written a few times a second at most."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TextIO

from platformops.clock import Clock
from platformops.on_ray.stuck import Beat, Durations, Section, beat_from, beat_text
from platformops.pipeline.process import this_owner

BEAT_S = 0.25
BACKSTOP_RATIO, BACKSTOP_S = 3.0, 30.0
"""Nobody outside may see this worker, on another node, say: then a timer in C, which needs no lock of Python's, ends it
this much later than a watcher would have. Much later, as it cannot know that it waits for a rank that is writing."""


def beat_file(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.json"


def rank_of(file: Path) -> int:
    """Of a `beat_file`."""
    return int(file.stem.removeprefix("rank-"))


def stack_file(folder: Path, rank: int) -> Path:
    """Where this rank's stacks go on SIGUSR2, and when the timer ends it."""
    return folder / f"rank-{rank}.stack"


class Pulse:
    """Enter a section when it begins; beats go out by themselves. One thread, one rank."""

    def __init__(self, folder: Path, rank: int, clock: Clock, *, node: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file, self._clock = beat_file(folder, rank), clock
        before = beat_from(_text(self._file))
        self._durations = Durations()
        for section, longest_s in (before.longest_s if before else {}).items():
            self._durations.add(Section(section), longest_s)
        self._stack: TextIO = stack_file(folder, rank).open("w", encoding="utf-8")
        faulthandler.register(signal.SIGUSR2, file=self._stack, all_threads=True)
        groups = before.groups + 1 if before else 1
        self._beat = Beat(this_owner(), 0, Section.SETUP, None, groups=groups, node=node)
        self._section, self._since, self._sent_at = Section.SETUP, clock.monotonic(), 0.0
        self._ready_at: float | None = None
        self._send()

    @property
    def groups(self) -> int:
        return self._beat.groups

    @property
    def steps(self) -> int:
        return self._beat.steps

    def __enter__(self) -> Pulse:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """What ended cannot be stuck, also when it ended by an error."""
        faulthandler.cancel_dump_traceback_later()
        faulthandler.unregister(signal.SIGUSR2)
        self._stack.close()
        self._beat = replace(self._beat, number=self._beat.number + 1, section=Section.ENDED, limit_s=None)
        self._write()

    def enter(self, section: Section) -> None:
        now = self._clock.monotonic()
        self._durations.add(self._section, now - self._since)
        if self._section is Section.STEP:
            own_s = (self._ready_at or now) - self._since
            self._beat = replace(self._beat, steps=self._beat.steps + 1, worked_s=self._beat.worked_s + own_s)
        self._ready_at = None
        self._section, self._since = section, now
        # A section that may last longer than the last one said must be known at once, any other at the next beat.
        if now - self._sent_at >= BEAT_S or self._durations.limit_s(section) > (self._beat.limit_s or 0.0):
            self._send()

    def ready(self) -> None:
        """A part of this rank's gradients is there, and waits for those of the others: the last of a step ends its own
        part of it. From any thread."""
        self._ready_at = self._clock.monotonic()

    def resumed(self, checkpoint: str) -> None:
        self._beat = replace(self._beat, resumed=checkpoint)
        self._send()

    def saved(self, checkpoint: str) -> None:
        self._beat = replace(self._beat, saved=checkpoint)
        self._send()

    def _send(self) -> None:
        limit_s = self._durations.limit_s(self._section)
        self._sent_at = self._clock.monotonic()
        self._beat = replace(
            self._beat,
            number=self._beat.number + 1,
            section=self._section,
            limit_s=limit_s,
            thread=threading.get_native_id(),
            at=self._clock.now(),
            longest_s=self._durations.longest_s(),
        )
        self._write()
        faulthandler.dump_traceback_later(BACKSTOP_RATIO * limit_s + BACKSTOP_S, exit=True, file=self._stack)

    def _write(self) -> None:
        aside = self._file.with_suffix(f".{os.getpid()}")
        aside.write_text(beat_text(self._beat), encoding="utf-8")
        aside.replace(self._file)


def beats_in(folder: Path) -> dict[Path, Beat]:
    """The last beat of each rank, by its file."""
    return {path: beat for path in sorted(folder.glob("rank-*.json")) if (beat := beat_from(_text(path)))}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
