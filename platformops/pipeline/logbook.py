"""Writes what happens in a run as JSON lines, one event each, under names of the Elastic Common Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from platformops.clock import Clock
from platformops.errors import PlatformError
from platformops.pipeline.spans import trace_id_of
from platformops.store.records import Json


class Logbook:
    """`<folder>/<run id>.jsonl`; opened at the first event, each line complete once it is written."""

    def __init__(self, folder: Path, *, system: str, run_id: str, clock: Clock) -> None:
        self.path = folder / f"{run_id}.jsonl"
        self._always = {"trace.id": trace_id_of(run_id), "platformops.system": system, "platformops.run": run_id}
        self._clock = clock
        # Binary and unbuffered: one write a line, so that a reader and a second writer see whole lines only.
        with self._naming_trouble():
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)

    def write(self, action: str, message: str, *, level: str = "info", about: Mapping[str, Json] | None = None) -> None:
        """`about` holds names below `platformops.`: stage, fingerprint, attempt, seconds..."""
        line = {
            "@timestamp": datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="milliseconds"),
            "log.level": level,
            "event.action": action,
            "message": message,
            **self._always,
            **{f"platformops.{name}": value for name, value in (about or {}).items()},
        }
        with self._naming_trouble():
            self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    @contextmanager
    def _naming_trouble(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = "free some space, or make the folder writable, and run again: finished steps are kept"
            raise PlatformError(f"log {self.path}: {error.strerror}", remedy=remedy) from error

    def __enter__(self) -> Logbook:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
