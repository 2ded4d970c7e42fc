"""What `tune` does with a proposal: release it, prove it by open-loop load, then write it down or take it back."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from platformops.cli import measuring
from platformops.cli.measuring import Endpoint, kind_of
from platformops.cli.open_loop import at_random, run
from platformops.clock import SystemClock
from platformops.delivery.retraining import load_recipe, recipe_puts
from platformops.errors import PlatformError
from platformops.observation.capacity.records import Load, Measured
from platformops.observation.capacity.service import capacity_per_s
from platformops.observation.capacity.tails import fit_live
from platformops.observation.capacity.tuning import Proposal, most_within
from platformops.store.records import JsonObject

PORT = 8000
"""Of a gateway that would have to be started; a live system has one."""
LEAST_PROOF_S = 5.0
WARM_UP_S = 1.0
LEAST_RATE = 0.95
"""Of the rate that was offered, answered in time."""
AT_ONCE = ("release.steps=['100%']", "release.margins.latency='100%'")
"""All traffic, as the load that follows is the proof: more replicas beside those that serve share their cores for as
long as both run, and would be refused for being slow."""
SHARES = (1.0, 0.92, 0.84, 0.76, 0.68, 0.6, 0.5)
"""Of the rate that the model promises, tried in this order."""
TRIES = 2
"""Of each: a stall of the machine that takes a hundredth of some seconds is no property of the settings."""
FEWEST = 200
"""Requests, so that a 99th percentile means something."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is measured, by sending which file, against which limit, and for how long at a time."""

    endpoint: Endpoint
    file: Path
    p99_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Proof:
    is_within: bool
    told: str
    rate_per_s: float
    """That was tried."""


def serve_of(found: Proposal) -> JsonObject:
    return {"replicas": [found.replicas, found.replicas], "batch": found.batch, "max_queue": found.max_queue}


def as_text(found: Proposal) -> str:
    """As it stands in a spec."""
    replicas = f"[{found.replicas}, {found.replicas}]"
    return f"serve: {{replicas: {replicas}, batch: {found.batch}, max_queue: {found.max_queue}}}"


def kept(trial: Trial, rate: float) -> Proof:
    """The highest of a few rates, `rate` the first, at which the system keeps the limit; the last try where none is."""
    for share in SHARES:
        for _ in range(TRIES):
            proof = proven(trial, share * rate, seconds=max(trial.seconds, LEAST_PROOF_S))
            if proof.is_within:
                return proof
    return proof


def proven(trial: Trial, rate: float, *, seconds: float) -> Proof:
    """Whether the system keeps the limit at `rate`."""
    p99_s, seen = trial.p99_s, offered(trial, rate, seconds=seconds)
    is_within = seen["p99_s"] <= p99_s and not seen["errors"] and seen["rps"] >= LEAST_RATE * rate
    said = (
        f"{'proven' if is_within else 'not kept'}: {seen['rps']:,.0f} of {rate:,.0f} requests a second were answered, "
        f"p99 {1e3 * seen['p99_s']:.0f} of {1e3 * p99_s:.0f} ms, {seen['errors']:.0f} errors"
    )
    return Proof(is_within, said, rate)


def offered(trial: Trial, rate: float, *, seconds: float) -> Mapping[str, float]:
    """What became of requests that came at random, `rate` a second."""
    warm_up, count = int(rate * WARM_UP_S), max(FEWEST, int(rate * seconds))
    port, request = measuring.asked_of(trial.endpoint, trial.file.read_bytes(), kind_of(trial.file))
    return asyncio.run(
        run(port, request, at_random(rate, warm_up + count), warm_up=warm_up, grace_s=max(2.0, 4 * trial.p99_s))
    )


def rate_of(points: Sequence[Measured], trial: Trial) -> float:
    """Requests a second that the measured settings should keep the limit at; a tenth of capacity where the model
    thinks of none."""
    service, endpoint = fit_live(points), trial.endpoint
    found = most_within(service, Load(endpoint.replicas, endpoint.batch), p99_s=trial.p99_s)
    least = 0.1 * capacity_per_s(service, replicas=endpoint.replicas, batch=endpoint.batch)
    return found.throughput_per_s if found else least


def measured(trial: Trial) -> list[Measured]:
    return measuring.sweep(trial.endpoint, trial.file, SystemClock(), seconds=trial.seconds)


def verified(trial: Trial, found: Proposal) -> Proof:
    """What the released proposal keeps: it is measured again first, as replicas show only now what they cost each
    other."""
    settings = replace(trial.endpoint, replicas=found.replicas, batch=found.batch, max_queue=found.max_queue)
    now = replace(trial, endpoint=settings)
    return kept(now, rate_of(measured(now), now))


def release(system: str, spec: Path, found: Proposal) -> None:
    """The proposal has all traffic on return: the same model with other settings. Raises PlatformError when a gate
    refuses it."""
    from platformops.cli import settings
    from platformops.cli.output import progress_shown
    from platformops.cli.releasing import Wish
    from platformops.cli.running import carry_out, session
    from platformops.cli.up import brought_live

    where, clock = settings.home(), SystemClock()
    changes = [f"serve.{key}={value}" for key, value in serve_of(found).items()]
    with settings.opened_store(where) as store, progress_shown() as show:
        recipe = load_recipe(store, system)
        own = [*recipe.overrides] if recipe and recipe.spec == str(spec.absolute()) else []
        overrides = [*own, *changes, *AT_ONCE]
        again = ("up", str(spec.absolute()), *(part for change in overrides for part in ("--set", change)))
        with session(where, store, clock, show, arguments=again) as s:
            ran = carry_out(spec, overrides, s, is_served=True)
            if ran.version is None:
                raise PlatformError(f"{spec} makes no model", remedy=f"platformops run {spec}")
            live = brought_live(ran, s, PORT, Wish(), (spec, own))
        if recipe is not None:
            store.commit(recipe_puts(recipe))  # what is not proven yet is no way to make the system again
    if not live.is_promoted:
        raise PlatformError(f"the proposal was not released: {live.rollout.reason}", remedy="platformops why SYSTEM")


def settle(system: str, spec: Path, found: Proposal, *, proven: bool, write: bool) -> bool:
    """What was released and not proven is taken back; what was proven is written where that is wanted. True if so."""
    if not proven:
        go_back(system)
    elif write:
        write_to(spec, found)
    return proven and write


def go_back(system: str) -> None:
    """What was stable before the proposal has all traffic again."""
    from platformops.cli import settings
    from platformops.cli.ordering import given
    from platformops.delivery.orders import roll_back

    with settings.opened_store(settings.home()) as store:
        given(roll_back, store, system, getpass.getuser(), SystemClock())


def write_to(spec: Path, found: Proposal) -> None:
    """The settings stand in the spec on return, with its comments and its order as they were."""
    from platformops.spec.load import load_spec
    from platformops.spec.rewriting import with_values

    before = spec.read_text(encoding="utf-8")
    aside = spec.with_name(f".{spec.name}.new")
    aside.write_text(with_values(before, "serve", serve_of(found)), encoding="utf-8")
    try:
        load_spec(aside, check_files=False)
        shutil.copymode(spec, aside)
        os.replace(aside, spec)
    finally:
        aside.unlink(missing_ok=True)
