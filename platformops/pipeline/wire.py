"""What the runner and a worker say to each other: one JSON object a line, and the records it stands for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol

from platformops.errors import DiskFull
from platformops.pipeline.records import Failure
from platformops.pipeline.shortage import Shortage
from platformops.store.records import Json, JsonObject

CRASHED = "Crashed"
TIMED_OUT = "TimedOut"
STOPPED = "Stopped"
DISK_FULL = DiskFull.__name__


@dataclass(frozen=True, slots=True)
class StepRequest:
    """One attempt of a step, as a worker needs to know it."""

    stage: str
    uses: str
    fingerprint: str
    params: JsonObject
    inputs: Mapping[str, Path]
    output: Path
    scratch: Path
    root: Path
    on_cluster: bool = False
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Returned:
    """The stage function came back; its output directory is complete."""

    summary: JsonObject
    seconds: float


@dataclass(frozen=True, slots=True)
class News:
    """Something an attempt says while it runs: how far it is, or a line that it printed."""

    kind: str
    """`progress` or `output`."""
    message: str
    ratio: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


class Launcher(Protocol):
    """Where steps run. One call is one attempt; calls may come from several threads."""

    def run(self, request: StepRequest, *, stop: Event, on_news: Callable[[News], None]) -> Returned | Failure:
        """Blocks until the stage has ended, with all that it started. `stop` ends it at once (kind STOPPED)."""
        ...

    def close(self) -> None:
        """Ends every worker."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """A line from a worker."""

    event: str
    """`ready`, `progress`, `returned` or `raised`."""
    body: JsonObject = field(default_factory=dict)


def encode(event: str, body: Mapping[str, Json]) -> bytes:
    return json.dumps({"event": event, **body}, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> Message:
    body = json.loads(line)
    return Message(str(body.pop("event")), body)


def encode_request(request: StepRequest) -> bytes:
    plain = asdict(request) | {
        "inputs": {name: str(path) for name, path in request.inputs.items()},
        "output": str(request.output),
        "scratch": str(request.scratch),
        "root": str(request.root),
        "params": _plain(request.params),
    }
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode_request(line: bytes) -> StepRequest:
    body = json.loads(line)
    places = {name: Path(body[name]) for name in ("output", "scratch", "root")}
    inputs = {name: Path(path) for name, path in body["inputs"].items()}
    return StepRequest(**{**body, **places, "inputs": inputs})


def progress_of(body: Mapping[str, Json]) -> News:
    ratio, figures = body["ratio"], body.get("figures")
    numbers = figures.items() if isinstance(figures, Mapping) else ()
    return News(
        "progress",
        str(body["message"]),
        float(ratio) if isinstance(ratio, int | float) else None,
        {name: float(value) for name, value in numbers if isinstance(value, int | float)},
    )


def failure_body(failure: Failure) -> JsonObject:
    return asdict(failure)


def failure_of(body: JsonObject) -> Failure:
    shortage = body.get("shortage")
    known = Shortage(**shortage) if isinstance(shortage, dict) else None
    return Failure(**{**body, "shortage": known})  # type: ignore[arg-type]


def _plain(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
