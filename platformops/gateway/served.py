"""What the gateway knows of the world: systems, routes and keys, as one value that is replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from platformops.delivery.records import System
from platformops.gateway.router import Routes, latest
from platformops.spec.types import ServeSpec
from platformops.store.records import Entry


@dataclass(frozen=True, slots=True)
class Served:
    """One system that takes requests."""

    system: System
    limits: ServeSpec


@dataclass(frozen=True, slots=True)
class World:
    systems: Mapping[str, Served] = field(default_factory=dict)
    routes: Routes = field(default_factory=dict)
    keys: tuple[Entry, ...] = ()
    """What the store holds under `key/`: hashes, scopes and systems."""
    is_read: bool = False
    """Whether this came from the store; until then nobody can be let in."""


def limits_of(serve: Mapping[str, object]) -> ServeSpec:
    """The `serve` section as it was stored, its defaults the spec's own; raises ValueError for anything else."""
    return ServeSpec.model_validate_json(json.dumps(dict(serve)))


def renew(world: World, systems: Iterable[System], keys: Iterable[Entry]) -> World:
    """The world as the store tells it, except that no route goes back to an older token.

    A system whose record cannot be read keeps what it had: one bad record must not take the others down.
    """
    up = [system for system in systems if system.wanted == "up"]
    served = {system.name: _served(system) or world.systems.get(system.name) for system in up}
    return World(
        systems={name: one for name, one in served.items() if one is not None},
        routes=latest(world.routes, (system.route for system in up if system.route is not None)),
        keys=tuple(keys),
        is_read=True,
    )


def _served(system: System) -> Served | None:
    try:
        return Served(system, limits_of(system.serve))
    except ValueError:
        return None
