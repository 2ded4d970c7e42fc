"""The crank of the platform: one snapshot in, writes and actions out; then commit, then act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol, assert_never

from platformops.clock import Clock
from platformops.delivery import reconcile, watching
from platformops.delivery.decisions import decision_puts, decisions_on
from platformops.delivery.documents import rollout_json, system_json
from platformops.delivery.evidence import Tallies
from platformops.delivery.ledger import Ledger, added, opened
from platformops.delivery.ledger_documents import ledger_json
from platformops.delivery.reconcile import Observed
from platformops.delivery.records import (
    Action,
    Decision,
    DeployRevision,
    Evaluation,
    Evidence,
    Examine,
    Examined,
    MarkVersion,
    RemoveRevision,
    Replay,
    Revision,
    RevisionStatus,
    Rollout,
    Route,
    SetAlias,
    SetRoute,
    System,
)
from platformops.delivery.rollout import SPLIT, decide, examination, is_running
from platformops.delivery.systems import (
    from_queue,
    ledger_key,
    load_ledger,
    load_queued,
    load_rollout,
    load_systems,
    newest_rollout,
    queue_key,
    rollout_key,
    system_key,
    watch_key,
)
from platformops.delivery.watch_documents import watch_from, watch_json
from platformops.errors import PlatformError, StoreConflict
from platformops.registry.records import Verdicts
from platformops.registry.registry import aliases, get_verdicts, mark_verdicts, set_alias
from platformops.store.lease import fence, held, take
from platformops.store.records import ABSENT, Entry, Json, JsonObject, Put, Store

LEASE = "lease/controller"
STATUS = "status/controller"
STATUS_EVERY_S = 2.0  # each write of the status is an fsync


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster, as `status` shows it."""

    id: str
    address: str
    state: str
    """`alive`, `draining` or `dead`."""
    cpus: float


class Ports(Protocol):
    """What the edge does for the controller. Each call returns at once, states an end rather than a change, and raises
    PlatformError when it could not be carried out; the controller then asks again at its next tick."""

    def revisions(self) -> Mapping[str, RevisionStatus]:
        """Every revision that runs, starts or failed, by name."""
        ...

    def routed(self, systems: Sequence[str]) -> Mapping[str, int]:
        """Token of the route that every router follows, for the systems that have one."""
        ...

    def nodes(self) -> Sequence[Node]: ...

    def deploy(self, revision: Revision) -> None:
        """Starts the revision; one that failed is started afresh, one that runs is left alone."""
        ...

    def remove(self, name: str) -> None:
        """Stops a revision after it has answered what it accepted."""
        ...

    def set_route(self, route: Route) -> None: ...

    def examine(self, request: Examine) -> None:
        """Begins to gather the evidence, unless that is under way or done."""
        ...

    def examined(self, key: str) -> Examined | None:
        """The evidence under `Examine.key`; None until it is complete."""
        ...

    def tallies(self) -> Sequence[Tallies]:
        """What every gateway counted since it started, by revision and node."""
        ...


@dataclass(frozen=True, slots=True)
class Watched:
    """One system with everything that a tick needs to decide about it."""

    system: System
    version: int
    """Of the system's record."""
    rollout: Rollout | None
    """The newest."""
    rollout_version: int
    observed: Observed
    examined: Examined | None
    ledger: Ledger | None = None
    """The account of the newest rollout's traffic."""
    ledger_version: int = ABSENT
    queued: Rollout | None = None
    """A release that waits for the newest to end."""
    queued_version: int = ABSENT
    brought: Rollout | None = None
    """The release that made the stable version so, while that is watched; its account is then `ledger`."""
    watch: watching.Watch | None = None
    watch_version: int = ABSENT


@dataclass(frozen=True, slots=True)
class Snapshot:
    systems: tuple[Watched, ...]
    tallies: tuple[Tallies, ...]
    """Of every gateway; empty while nothing is compared."""
    nodes: tuple[Node, ...]
    epoch: int
    watched_since: float
    """When this controller took over."""


@dataclass(frozen=True, slots=True)
class Tick:
    """What follows from a snapshot: writes, then actions, and one line for each decision."""

    puts: tuple[Put, ...] = ()
    decisions: tuple[Decision, ...] = ()
    actions: tuple[Action, ...] = ()
    status: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of the crank did."""

    reasons: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """Actions that could not be carried out; they are asked for again."""
    is_settled: bool = True
    """False when the next turn has something to decide already."""


def tick(snapshot: Snapshot, now: float) -> Tick:
    """Pure: the same snapshot and instant give the same answer."""
    ticks = [_tick_system(watched, snapshot, now) for watched in snapshot.systems]
    nodes: list[Json] = [asdict(node) for node in snapshot.nodes]
    return Tick(
        puts=tuple(put for t in ticks for put in t.puts),
        decisions=tuple(decision for t in ticks for decision in t.decisions),
        actions=tuple(action for t in ticks for action in t.actions),
        status={"at": now, "epoch": snapshot.epoch, "systems": [t.status for t in ticks], "nodes": nodes},
    )


def _tick_system(watched: Watched, snapshot: Snapshot, now: float) -> Tick:
    if watched.queued and watched.system.wanted == "up" and not is_running(watched.rollout):
        return _start_queued(watched, watched.queued, now)
    before, ledger = watched.rollout, _account(watched, snapshot.tallies, now)
    decided = decide(before, _evidence(watched, ledger, snapshot.watched_since), now) if before else None
    rollout = decided.rollout if decided else None
    has_moved = rollout is not None and before is not None and rollout.changed_at != before.changed_at
    system = reconcile.settled(watched.system, rollout, token=watched.version + 1)
    puts = []
    if system != watched.system:
        puts.append(Put(system_key(system.name), system_json(system), expect=watched.version))
    if rollout and rollout != before:
        puts.append(Put(rollout_key(rollout), rollout_json(rollout), expect=watched.rollout_version))
    if rollout and ledger and ledger is not watched.ledger:
        puts.append(Put(ledger_key(rollout), ledger_json(ledger), expect=watched.ledger_version))
    actions = (decided.actions if decided else ()) + reconcile.upkeep(system, rollout, watched.observed, now)
    decisions = decisions_on(rollout, now) if rollout and has_moved else ()
    status = reconcile.status(system, rollout, watched.observed)
    if watched.brought and system.route:
        over = _watch_over(watched, watched.brought, snapshot.tallies, now)
        return Tick((*puts, *over.puts), (*decisions, *over.decisions), actions, {**status, **over.status})
    return Tick(tuple(puts), decisions, actions, status)


def _start_queued(watched: Watched, waiting: Rollout, now: float) -> Tick:
    """The next release begins where the last one ended; everything else waits for the next tick."""
    system, last = watched.system, watched.rollout
    started = from_queue(waiting, (last.number if last else 0) + 1, system.stable, now)
    puts = (
        Put(queue_key(system.name), None, expect=watched.queued_version),
        Put(rollout_key(started), rollout_json(started), expect=ABSENT),
    )
    return Tick(puts, decisions_on(started, now), (), reconcile.status(system, started, watched.observed))


def _watch_over(watched: Watched, brought: Rollout, tallies: Sequence[Tallies], now: float) -> Tick:
    """What the watch over the stable version comes to, while nothing is released."""
    system, last = watched.system, watched.rollout
    assert last, "what was brought was asked for"
    watch = watched.watch or watching.begun(brought, watched.ledger, tallies, now)
    watch = watching.added(watch, tallies, brought.terms, now)
    harm = watching.found(watch, brought.terms) if not watch.alarm else None
    back = watching.sent_back(brought, last, harm, now) if harm else None
    decisions: tuple[Decision, ...] = decisions_on(back, now) if back else ()
    if harm and not back:
        watch = replace(watch, alarm=watching.alarm_of(brought, harm))
        subjects = (system.name, brought.candidate.version_name)
        decisions = tuple(Decision(s, "raised an alarm", watch.alarm, (), "", now) for s in subjects)
    puts = []
    if watching.is_due(watch, watched.watch, is_news=harm is not None):
        puts.append(Put(watch_key(brought), watch_json(watch), expect=watched.watch_version))
    if back:
        puts.append(Put(rollout_key(back), rollout_json(back), expect=ABSENT))
    return Tick(tuple(puts), decisions, (), {"reason": watch.alarm} if watch.alarm else {})


def _account(watched: Watched, tallies: Sequence[Tallies], now: float) -> Ledger | None:
    """The account with what came since; it is opened when a candidate first has traffic beside a stable revision."""
    rollout = watched.rollout
    if rollout is None or rollout.stable is None or rollout.state not in SPLIT or len(rollout.steps) == 1:
        return watched.ledger
    if watched.ledger is None:
        return opened(rollout.candidate.name, rollout.stable.name, tallies, now)
    return added(watched.ledger, tallies, rollout.terms.tolerances, now)


def _evidence(watched: Watched, ledger: Ledger | None, watched_since: float) -> Evidence:
    system, rollout, observed = watched.system, watched.rollout, watched.observed
    assert rollout, "asked only about rollouts"
    route, examined = system.route, watched.examined
    is_in_force = route is not None and observed.token is not None and observed.token >= route.token
    return Evidence(
        candidate=observed.revisions.get(rollout.candidate.name, reconcile.ABSENT),
        evaluation=examined if isinstance(examined, Evaluation) else None,
        replay=examined if isinstance(examined, Replay) else None,
        ledger=ledger,
        routed=is_in_force and reconcile.follows(route, rollout),
        abort="" if system.wanted == "up" else f"{system.name} is to be down",
        watched_since=watched_since,
    )


def take_over(store: Store, holder: str, now: float) -> int:
    """The epoch of a controller that starts: every earlier one can neither commit nor act from here on."""
    return take(store, LEASE, holder, now)


def turn(store: Store, ports: Ports, clock: Clock, epoch: int) -> Turn:
    """One turn: look, decide, commit, act. Raises LeaseLost when a newer controller has taken over, and StoreError or
    ClusterError when nothing can be seen; nothing has then been done."""
    lease, now = held(store, LEASE, epoch), clock.now()
    decided = tick(look(store, ports, epoch, now, watched_since=float(str(lease.value["taken_at"]))), now)
    try:
        _commit(store, lease, decided)
    except StoreConflict as conflict:
        held(store, LEASE, epoch)
        return Turn(problems=(f"decided again: {conflict.message}",), is_settled=False)
    problems = _act(store, ports, decided.actions, epoch)
    _report(store, decided.status, problems, now, is_news=bool(decided.decisions))
    reasons = tuple(dict.fromkeys(d.reason for d in decided.decisions))  # each is recorded once for every subject
    return Turn(reasons, problems, is_settled=not decided.decisions)


def look(store: Store, ports: Ports, epoch: int, now: float, *, watched_since: float) -> Snapshot:
    """Everything a tick decides on."""
    systems, revisions = load_systems(store), ports.revisions()
    tokens = ports.routed(tuple(systems))
    watched = [
        _watch(store, ports, system, version, revisions, tokens.get(name), now)
        for name, (system, version) in systems.items()
    ]
    is_compared = any(w.brought or (w.rollout and w.rollout.state in SPLIT) for w in watched)
    tallies = tuple(ports.tallies()) if is_compared else ()
    return Snapshot(tuple(watched), tallies, tuple(ports.nodes()), epoch, watched_since)


def _watch(
    store: Store,
    ports: Ports,
    system: System,
    version: int,
    revisions: Mapping[str, RevisionStatus],
    token: int | None,
    now: float,
) -> Watched:
    rollout, rollout_version = newest_rollout(store, system.name)
    if is_running(rollout) and system.wanted != "up":
        # Whoever asks for a release wants the system up in the same commit, which may have come since it was read.
        system, version = load_systems(store)[system.name]
    own = {name: seen for name, seen in revisions.items() if name.rpartition("-r")[0] == system.name}
    offered, judged = (rollout.candidate, reconcile.judged(rollout)) if rollout else (None, None)
    observed = Observed(
        own,
        token,
        aliases(store, offered.model) if offered else {},
        get_verdicts(store, judged.model, judged.version) if judged else Verdicts(),
    )
    wanted = examination(rollout)
    examined = ports.examined(wanted.key) if wanted else None
    ledger = load_ledger(store, rollout) if rollout and rollout.state in SPLIT else (None, ABSENT)
    queued = load_queued(store, system.name)
    seen = Watched(system, version, rollout, rollout_version, observed, examined, *ledger, *queued)
    brought = _brought(store, system, rollout)
    if brought is None or is_running(rollout) or not watching.is_watched(brought, rollout, now):
        return seen
    entry = store.get(watch_key(brought))
    if entry is not None:
        return replace(seen, brought=brought, watch=watch_from(entry.value), watch_version=entry.version)
    return replace(seen, brought=brought, ledger=load_ledger(store, brought)[0])


def _brought(store: Store, system: System, newest: Rollout | None) -> Rollout | None:
    """The rollout that made the stable version so."""
    if system.stable is None or newest is None or newest.number == system.stable.number:
        return newest
    return load_rollout(store, system.name, system.stable.number)


def _commit(store: Store, lease: Entry, decided: Tick) -> None:
    if decided.puts:
        store.commit([fence(lease), *decided.puts, *decision_puts(store, decided.decisions)])


def _act(store: Store, ports: Ports, actions: Sequence[Action], epoch: int) -> tuple[str, ...]:
    """Carries out all actions; what cannot be done now is said, and comes back with the next tick."""
    problems = []
    for action in actions:
        held(store, LEASE, epoch)
        try:
            _do(store, ports, action)
        except PlatformError as error:
            problems.append(f"{type(action).__name__}: {error.message}")
    return tuple(problems)


def _do(store: Store, ports: Ports, action: Action) -> None:
    match action:
        case DeployRevision(revision=revision):
            ports.deploy(revision)
        case RemoveRevision(name=name):
            ports.remove(name)
        case SetRoute(route=route):
            ports.set_route(route)
        case Examine():
            ports.examine(action)
        case SetAlias(model=model, alias=alias, number=number, expect=expect):
            set_alias(store, model, alias, number, expect=expect)
        case MarkVersion(model=model, number=number, verdicts=verdicts):
            mark_verdicts(store, model, number, verdicts)
        case _:
            assert_never(action)


def _report(store: Store, status: JsonObject, problems: Sequence[str], now: float, *, is_news: bool) -> None:
    last = store.get(STATUS)
    is_due = (
        last is None or now - float(str(last.value["at"])) >= STATUS_EVERY_S or last.value["epoch"] != status["epoch"]
    )
    if is_due or is_news:
        store.put(STATUS, {**status, "problems": list(problems)}, expect=last.version if last else ABSENT)
