"""What the log of a run says, as the spans of one trace: the run, and below it each attempt at a stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b

from platformops.pipeline.records import RunState
from platformops.store.records import Json, JsonObject

ENDS = frozenset({"step-done", "step-failed", "step-cancelled", "step-waiting"})
"""Of an attempt; one that waits after it has run will be tried again."""


@dataclass(frozen=True, slots=True)
class RunSpan:
    name: str
    began: float
    """Epoch seconds."""
    ended: float
    error: str = ""
    """Why it came to nothing; empty where it did not."""
    about: Mapping[str, str | int] = field(default_factory=dict)
    """As it stands in the log."""


def trace_id_of(run_id: str) -> str:
    """32 hex digits, always the same ones for a run: they stand in each line of its log."""
    return blake2b(run_id.encode(), digest_size=16).hexdigest()


def spans_of(lines: Iterable[JsonObject]) -> tuple[RunSpan, ...]:
    """The run's span first, until the last line; then its attempts, in the order of their ends. Nothing of an empty
    log. What was under way when the log broke off ends there, with an error."""
    run: JsonObject | None = None
    last: JsonObject = {}
    begun: dict[str, JsonObject] = {}
    attempts: list[RunSpan] = []
    for last in lines:
        run = run or last
        action, stage = str(last.get("event.action")), str(last.get("platformops.stage", ""))
        if action == "step-running":
            begun[stage] = last
        elif action in ENDS and stage in begun:
            error = "" if action == "step-done" else str(last.get("message"))
            attempts.append(_attempt(begun.pop(stage), last, error))
    if run is None:
        return ()
    broken = [_attempt(began, last, "the log says no more of it") for began in begun.values()]
    is_well = last.get("platformops.state") == RunState.SUCCEEDED.value
    whole = RunSpan(
        f"run {run.get('platformops.system')}", _at(run), _at(last), "" if is_well else str(last.get("message")),
        _about(last, "system", "run"),
    )  # fmt: skip
    return (whole, *attempts, *broken)


def _attempt(began: JsonObject, ended: JsonObject, error: str) -> RunSpan:
    name, about = str(began.get("platformops.stage")), _about(began, "run", "fingerprint", "attempt")
    return RunSpan(f"stage {name}", _at(began), _at(ended), error, about)


def _about(line: JsonObject, *names: str) -> dict[str, str | int]:
    told: Mapping[str, Json] = {f"platformops.{name}": line.get(f"platformops.{name}") for name in names}
    return {name: value for name, value in told.items() if isinstance(value, str | int)}


def _at(line: JsonObject) -> float:
    return datetime.fromisoformat(str(line["@timestamp"])).timestamp()
