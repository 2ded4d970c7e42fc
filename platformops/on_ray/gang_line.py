"""Gangs that wait for room, known to each other and to node health: they go in a fair order and say why they wait.

There is no server for it: each waiting driver tells the cluster of its gang, sees those of the others, and makes the
same plan as they do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import ray
from ray.experimental import internal_kv

from platformops.clock import Clock
from platformops.errors import ClusterError
from platformops.on_ray import sharing
from platformops.on_ray.gangs import GangReader, tell_start
from platformops.scheduler.records import Job, Priority, Running, Team

NAMESPACE, PREFIX = b"platformops", "platformops/waiting/"
STALE_S = 10.0
"""One that has said nothing new for so long is a dead driver's."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One gang that waits."""

    job: Job
    reason: str
    number: int
    """Rises each time it is told."""


class Line(Protocol):
    def tell(self, job: Job, reason: str) -> None:
        """It still waits."""
        ...

    def leave(self, job: Job) -> None: ...

    def start(self, job: Job) -> None:
        """It has its room; from now on it is among those that run."""
        ...

    def others(self, job: Job) -> Sequence[Job]:
        """That wait as well."""
        ...

    def running(self, job: Job) -> Sequence[Running]:
        """What each team's gangs use now, but for what an earlier driver of the same job left."""
        ...

    def teams(self) -> Mapping[str, Team]:
        """What each may use, by its name; one that is not named is not limited."""
        ...


class LineReader:
    """Who waits, of living drivers only."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._seen = clock, dict[str, tuple[int, float]]()

    def waiting(self) -> Sequence[Waiting]:
        now, found = self._clock.monotonic(), _waiting()
        before = self._seen
        self._seen = {
            w.job.name: before[w.job.name] if before.get(w.job.name, (-1, 0.0))[0] == w.number else (w.number, now)
            for w in found
        }
        return [w for w in found if now - self._seen[w.job.name][1] < STALE_S]


class RayLine:
    """Implements `Line` in the cluster's key-value store."""

    def __init__(self, clock: Clock) -> None:
        self._reader, self._gangs, self._number = LineReader(clock), GangReader(clock), 0

    def tell(self, job: Job, reason: str) -> None:
        self._number += 1
        value = {
            "name": job.name, "team": job.team, "submitted_at": job.submitted_at, "num_tasks": job.num_tasks,
            "needs": dict(job.needs), "priority": int(job.priority), "reason": reason, "number": self._number,
        }  # fmt: skip
        with suppress(ray.exceptions.RayError, RuntimeError):  # a head that is away is back at a later look
            internal_kv._internal_kv_put(_key(job), json.dumps(value).encode(), overwrite=True, namespace=NAMESPACE)

    def leave(self, job: Job) -> None:
        with suppress(ray.exceptions.RayError, RuntimeError):
            internal_kv._internal_kv_del(_key(job), namespace=NAMESPACE)

    def start(self, job: Job) -> None:
        with suppress(ray.exceptions.RayError, RuntimeError):  # its account is told again in a second
            tell_start(job)

    def others(self, job: Job) -> Sequence[Job]:
        return [w.job for w in self._reader.waiting() if w.job.name != job.name]

    def running(self, job: Job) -> Sequence[Running]:
        try:
            living = self._gangs.living()
        except (ray.exceptions.RayError, RuntimeError) as error:
            raise ClusterError(f"Ray does not tell what runs: {error}") from error
        return [Running(account.team, account.uses) for name, account in living.items() if name != job.name]

    def teams(self) -> Mapping[str, Team]:
        return sharing.teams()


def _key(job: Job) -> bytes:
    return f"{PREFIX}{job.name}".encode()


def _waiting() -> list[Waiting]:
    """Raises ClusterError while the head does not answer."""
    found = []
    try:
        for key in internal_kv._internal_kv_list(PREFIX.encode(), namespace=NAMESPACE):
            if said := internal_kv._internal_kv_get(key, namespace=NAMESPACE):
                found.append(_waiting_from(json.loads(said)))
    except (ray.exceptions.RayError, RuntimeError) as error:
        raise ClusterError(f"Ray does not tell who waits: {error}") from error
    return found


def _waiting_from(value: Mapping[str, object]) -> Waiting:
    needs = value["needs"]
    assert isinstance(needs, Mapping), "written by RayLine.tell"
    job = Job(
        str(value["name"]),
        str(value["team"]),
        float(str(value["submitted_at"])),
        int(str(value["num_tasks"])),
        {str(resource): float(amount) for resource, amount in needs.items()},
        Priority(int(str(value["priority"]))),
    )
    return Waiting(job, str(value["reason"]), int(str(value["number"])))
