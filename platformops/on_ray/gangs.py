"""What trainings say of themselves to node health, and how node health has one of them write a checkpoint now.

The driver of a training sees its ranks' beats; it tells the cluster on which nodes they are and what they would lose,
and passes on what is asked of any of these nodes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import ray
from ray.experimental import internal_kv

from platformops.clock import Clock
from platformops.health.nodes import Gang, Step
from platformops.on_ray.avoiding import hazards_per_s
from platformops.on_ray.pulse import beats_in, rank_of
from platformops.on_ray.step_pace import StepPace, slowest_by_node
from platformops.on_ray.stuck import Beat, Section
from platformops.scheduler.interval import is_worth_changing
from platformops.scheduler.records import Job

NAMESPACE = b"platformops"
PREFIX, ASKED = "platformops/gang/", b"platformops/checkpoint"
LOOK_S = 1.0
STALE_S = 10.0
"""An account that has not changed for so long is a dead driver's."""
KEPT_S = 3600.0
FIRST_CHECKPOINT_S = 1.0
"""What one is taken to cost before any was seen."""


def request_file(beats: Path) -> Path:
    """Changes when a checkpoint is asked for."""
    return beats / "checkpoint-now"


def hazard_file(beats: Path) -> Path:
    """Failures a second to expect of the nodes of the gang together."""
    return beats / "hazard"


@dataclass(frozen=True, slots=True)
class Account:
    """Of one training."""

    number: int
    """Rises each time it is given."""
    nodes: tuple[str, ...]
    slots: int
    unsaved_s: float
    checkpoint_s: float
    team: str = ""
    uses: Mapping[str, float] = field(default_factory=dict)
    """Resource -> amount, of all ranks."""

    paces: Mapping[str, tuple[int, Step]] = field(default_factory=dict)
    """Node -> how many ranks it has, and the slowest one's own part of a step."""

    def gang(self, name: str, node: str) -> Gang:
        ranks, step = self.paces.get(node, (0, None))
        return Gang(self.slots, self.unsaved_s, self.checkpoint_s, name, ranks, Step(*step) if step else None)


def account_of(beats: Sequence[Beat], *, number: int, unsaved_s: float) -> Account | None:
    """None while no rank trains."""
    living = [beat for beat in beats if beat.section is not Section.ENDED and beat.node]
    if not living:
        return None
    cost_s = max(beat.longest_s.get(Section.CHECKPOINT.value, 0.0) for beat in living)
    nodes = tuple(sorted({beat.node for beat in living}))
    return Account(number, nodes, len(living), round(unsaved_s, 1), cost_s or FIRST_CHECKPOINT_S)


def tell_start(job: Job) -> None:
    """Of a gang that has its room, and whose ranks have not begun yet: what it uses counts from now on."""
    _put(_key(job), _nothing_yet(job, 0))


def _nothing_yet(job: Job, number: int) -> Account:
    return Account(number, (), 0, 0.0, FIRST_CHECKPOINT_S, job.team, job.uses)


def _key(job: Job) -> bytes:
    return f"{PREFIX}{job.name}".encode()


class GangTeller:
    """While it is entered, tells of the training whose ranks beat in `folder`, and hands it what is asked of it. Its
    `pace` is looked at once a second, in a thread of its own."""

    def __init__(self, job: Job, folder: Path, clock: Clock) -> None:
        self._job, self._folder, self._clock = job, folder, clock
        self._saved, self._saved_at = "", clock.monotonic()
        self._number, self._asked_at = 0, clock.now()
        self.pace = StepPace()
        self._hazard_per_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="gang")

    def __enter__(self) -> GangTeller:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(ray.exceptions.RayError, RuntimeError):
            internal_kv._internal_kv_del(_key(self._job), namespace=NAMESPACE)

    def look(self) -> None:
        by_rank = {rank_of(file): beat for file, beat in beats_in(self._folder).items()}
        beats = list(by_rank.values())
        self.pace.look(by_rank)
        saved = max((beat.saved for beat in beats), default="")
        if saved != self._saved:
            self._saved, self._saved_at = saved, self._clock.monotonic()
        self._number += 1
        account = account_of(beats, number=self._number, unsaved_s=self._clock.monotonic() - self._saved_at)
        if account is None:
            self._saved_at = self._clock.monotonic()  # before the first beat there is nothing to lose
            _put(_key(self._job), _nothing_yet(self._job, self._number))
            return
        paces = slowest_by_node(self.pace.work, by_rank)
        _put(_key(self._job), replace(account, team=self._job.team, uses=self._job.uses, paces=paces))
        self._tell_hazard(account.nodes)
        asked_at = max((at for node, at in asked().items() if node in account.nodes), default=0.0)
        if asked_at > self._asked_at:
            self._asked_at = asked_at
            request_file(self._folder).write_text(str(asked_at), encoding="utf-8")

    def _tell_hazard(self, nodes: Sequence[str]) -> None:
        """The gang stops when any of its nodes fails, so that their rates add up."""
        hazard_per_s = sum(hazards_per_s(nodes).values())
        if is_worth_changing(self._hazard_per_s, hazard_per_s):
            self._hazard_per_s = hazard_per_s
            aside = self._folder / "hazard-aside"
            aside.write_text(repr(hazard_per_s), encoding="utf-8")
            aside.replace(hazard_file(self._folder))

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            # A head that is away is back at a later look.
            with suppress(ray.exceptions.RayError, RuntimeError, OSError):
                self.look()


class GangReader:
    """The accounts as the controller reads them, of living drivers only."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._seen = clock, dict[str, tuple[int, float]]()

    def by_node(self) -> Mapping[str, Gang]:
        """Where several train on one node, the one that would lose most."""
        found = sorted(self.living().items(), key=lambda told: told[1].slots * told[1].unsaved_s)
        return {node: account.gang(name, node) for name, account in found for node in account.nodes}

    def living(self) -> Mapping[str, Account]:
        """By the name of the job; of a driver that died, for STALE_S after the first look."""
        now, told = self._clock.monotonic(), accounts()
        before = self._seen
        self._seen = {
            key: before[key] if key in before and before[key][0] == account.number else (account.number, now)
            for key, account in told.items()
        }
        fresh = {key: account for key, account in told.items() if now - self._seen[key][1] < STALE_S}
        return {key.removeprefix(PREFIX): account for key, account in fresh.items()}


def ask_for_checkpoint(node: str, at: float) -> None:
    """Whatever trains there writes one that is newer than `at`, once."""
    kept = {n: t for n, t in asked().items() if at - t < KEPT_S}
    if kept.get(node, 0.0) < at:
        value = json.dumps({**kept, node: at}).encode()
        internal_kv._internal_kv_put(ASKED, value, overwrite=True, namespace=NAMESPACE)


def asked() -> Mapping[str, float]:
    """Node -> when its work was last asked for a checkpoint."""
    said = internal_kv._internal_kv_get(ASKED, namespace=NAMESPACE)
    return json.loads(said) if said else {}


def accounts() -> Mapping[str, Account]:
    """Of every training that told one, by key; the last one of a dead driver is among them."""
    found = {}
    for key in internal_kv._internal_kv_list(PREFIX.encode(), namespace=NAMESPACE):
        if said := internal_kv._internal_kv_get(key, namespace=NAMESPACE):
            value = json.loads(said)
            found[key.decode()] = Account(**{**value, "nodes": tuple(value["nodes"])})
    return found


def _put(key: bytes, account: Account) -> None:
    value = {name: getattr(account, name) for name in Account.__slots__}
    internal_kv._internal_kv_put(key, json.dumps(value).encode(), overwrite=True, namespace=NAMESPACE)
