"""A candidate's rehearsal before it has traffic: asked beside stable through the gateway, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import httpx

from platformops.clock import Clock
from platformops.delivery.records import Rehearsal, Revision, Rollout
from platformops.delivery.rehearsal import fields_of, fields_together
from platformops.errors import PlatformError
from platformops.on_ray.examination import NotAnswered, Rows, ask
from platformops.store.records import Json

CONNECTIONS = 4
PAIRS = 30
"""A half and a connection; together they take a few seconds, in which users share the machine with them."""
LONGEST_S = 10.0
"""Of each half; slow models are asked fewer times."""
LOOKED_AT = 4
"""Answers whose fields are compared."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What one replica says of itself."""

    replica: str
    resident_bytes: int
    digests: tuple[str, ...]
    """Of what it makes of each row before the model; empty for one that it cannot read."""


Probe = Callable[[str, Sequence[bytes]], Probed]
"""Revision and rows as clients send them; raises PlatformError when no replica tells."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What one connection saw."""

    asked: int = 0
    latencies_ms: tuple[float, ...] = ()
    pairs: int = 0
    slower: int = 0
    problem: str = ""


def rehearse(
    rollout: Rollout, rows: Rows, client: httpx.Client, clock: Clock, probe: Probe, *, is_servable: bool
) -> Rehearsal:
    """What the candidate did; only how its answers look where it is not servable."""
    candidate, stable = rollout.candidate, rollout.stable
    looked_at = rows.contents[: LOOKED_AT if is_servable else 1]
    shapes = {one.name: _fields(one, rows.classes, looked_at, client, clock) for one in (candidate, stable) if one}
    seen = Rehearsal(shapes[candidate.name], shapes.get(stable.name, {}) if stable else {})
    if not is_servable:
        return seen
    seen = _transformed(seen, candidate, rows, probe)
    margin = rollout.terms.latency_margin
    halves, memory = [], []
    for _ in range(2):
        halves.append(_half(candidate, stable, rows, client, clock, margin))
        memory.append(_memory(candidate, probe))
    own = memory[0][1] if memory[0][0] == memory[1][0] else 0
    times = sorted(ms for half in halves for timed in half for ms in timed.latencies_ms)
    together = [timed for half in halves for timed in half]
    return replace(
        seen,
        asked=sum(timed.asked for timed in together),
        answered=len(times),
        p99_ms=times[int(0.99 * len(times))] if times else 0.0,
        pairs=sum(timed.pairs for timed in together),
        slower=sum(timed.slower for timed in together),
        problem=next((timed.problem for timed in together if timed.problem), ""),
        memory_bytes=(own, memory[1][1] if own else 0),
    )


def _fields(
    revision: Revision, classes: Sequence[str], contents: Sequence[bytes], client: httpx.Client, clock: Clock
) -> Mapping[str, str]:
    """Of the answers to `contents`; empty for a revision that gives none."""
    found = []
    for content in contents:
        try:
            response, _ = ask(revision, content, client, clock)
            predictions: Json = response.json()["predictions"]
        except (NotAnswered, ValueError, KeyError, TypeError):
            return {}
        if not isinstance(predictions, list):
            return {}
        found += [fields_of(one, classes) for one in predictions]
    return fields_together(found)


def _transformed(seen: Rehearsal, candidate: Revision, rows: Rows, probe: Probe) -> Rehearsal:
    """Rows that the evaluation kept no digest of are not compared."""
    if not rows.digests:
        return seen
    try:
        live = probe(candidate.name, rows.contents).digests
    except PlatformError:
        live = ("",) * len(rows.contents)
    differing = [name for name, own, other in zip(rows.ids, rows.digests, live, strict=True) if own != other]
    return replace(seen, transformed=len(rows.digests), differing=tuple(differing))


def _memory(candidate: Revision, probe: Probe) -> tuple[str, int]:
    try:
        told = probe(candidate.name, ())
    except PlatformError:
        return "", 0
    return told.replica, told.resident_bytes


def _half(
    candidate: Revision, stable: Revision | None, rows: Rows, client: httpx.Client, clock: Clock, margin: float
) -> list[Timed]:
    with ThreadPoolExecutor(CONNECTIONS, "rehearse") as threads:
        asked = [
            threads.submit(_connection, number, candidate, stable, rows, client, clock, margin)
            for number in range(CONNECTIONS)
        ]
        return [one.result() for one in asked]


def _connection(
    number: int,
    candidate: Revision,
    stable: Revision | None,
    rows: Rows,
    client: httpx.Client,
    clock: Clock,
    margin: float,
) -> Timed:
    """One request after the other, of candidate and stable by turns: each pair met the same moment of the machine."""
    seen, began = Timed(), clock.monotonic()
    for turn in range(PAIRS):
        if clock.monotonic() - began > LONGEST_S:
            break
        content = rows.contents[(number + turn * CONNECTIONS) % len(rows.contents)]
        order = (candidate, stable) if (number + turn) % 2 else (stable, candidate)
        took: dict[str, float] = {}
        for revision in order:
            if revision is None:
                continue
            try:
                _, took[revision.name] = ask(revision, content, client, clock)
            except NotAnswered as error:
                if revision is candidate:
                    return replace(seen, asked=seen.asked + 1, problem=error.message)
        own = took[candidate.name]
        seen = replace(seen, asked=seen.asked + 1, latencies_ms=(*seen.latencies_ms, own))
        if stable is not None and stable.name in took:
            is_slower = own > (1 + margin) * took[stable.name]
            seen = replace(seen, pairs=seen.pairs + 1, slower=seen.slower + is_slower)
    return seen
