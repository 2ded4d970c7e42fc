"""What a fleet's reports mean right now: who lives, what each reading is worth, and how likely each node fails.

All of it can be made again from the reports of the next minute; what must outlive the process is in `nodes`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from platformops.health import vitals
from platformops.health.detectors.peers import PeerDeviation
from platformops.health.detectors.rates import GammaPoissonRate
from platformops.health.detectors.robust import RobustEwma
from platformops.health.filter import Belief, at_rest, predict, update, within_horizon
from platformops.health.fusion import FusedModel
from platformops.health.hazard import DAY_S, failure_probability
from platformops.health.liveness import Liveness, LivenessPolicy, LivenessTick
from platformops.health.nodes import Step
from platformops.health.records import ChannelAnswer, LivenessState, LivenessVerdict, Signal
from platformops.health.risk import Risk, Term
from platformops.health.signs import (
    ANSWER_DEVIATION,
    FSYNC_SURPRISE,
    GPUS_LOST,
    HORIZON_S,
    LOG_SURPRISE,
    NETWORK_SURPRISE,
    first_opinion,
)
from platformops.health.slowness import Kind, Slowness, Work, drags, is_pressed, is_shared, withheld_ratio
from platformops.health.wire import RayletState, Report, Stopped

PERSISTENT = 3
"""Samples of five seconds: a sign counts for what it was worth in the least of so many, so that no single one moves
anything."""
WITNESSED = 2
"""Reports in a row that must say that a server is held still: a debugger's step is shorter."""
CUT_PERIODS = 4.75
"""A cut of three seconds, the beat before it and the one after it: a switch that comes back is no dead node."""
QUIET_S = 5.0
"""Reports older than this say nothing of now."""
ROUND_S = 5.0
STEP_STALE_S = 60.0
"""A measurement of steps that is older says nothing of now: their training validates, waits, or is gone."""


def _an_hourly_rate() -> GammaPoissonRate:
    return GammaPoissonRate(prior_counts=0.5, prior_exposure=3600.0, half_life=DAY_S)


@dataclass(slots=True)
class _Heard:
    """Of one node, of constant size."""

    at_s: float
    incarnation: int
    sequence: int
    belief: Belief
    readings: dict[str, float | None] = field(default_factory=dict)
    worth: deque[dict[str, float]] = field(default_factory=lambda: deque(maxlen=PERSISTENT))
    terms: tuple[Term, ...] = ()
    """What the last whole sample says, in words."""
    stopped: tuple[Stopped, ...] = ()
    raylet: RayletState = RayletState.ANSWERS
    raylet_reports: int = 0
    """In a row that said the same of it."""
    most_gpus: float = 0.0
    network: GammaPoissonRate = field(default_factory=_an_hourly_rate)
    log: GammaPoissonRate = field(default_factory=_an_hourly_rate)
    fsync: RobustEwma = field(default_factory=RobustEwma)
    withheld: deque[float] = field(default_factory=lambda: deque(maxlen=PERSISTENT))
    times_s: dict[Work, deque[float]] = field(default_factory=dict)
    """What it takes for each kind of work, in the last few rounds."""
    steps: dict[Work, tuple[int, float]] = field(default_factory=dict)
    """The number of the last measurement of each training's steps, and when it was told first."""
    slow: Slowness | None = None

    def keep(self, kind: Kind, now_s: Mapping[Work, float], *, waiting: Sequence[Work] = ()) -> None:
        """Lengthen the samples of this kind by those of now; of what is neither told nor `waiting` there are none."""
        others = {work: samples for work, samples in self.times_s.items() if work[0] is not kind or work in waiting}
        fresh = {work: deque([*self.times_s.get(work, ()), s], maxlen=PERSISTENT) for work, s in now_s.items()}
        self.times_s = others | fresh


@dataclass(frozen=True, slots=True)
class View:
    """A node as it appears now."""

    liveness: LivenessState
    heard_s_ago: float | None
    """None for one that this monitor has never heard."""
    watched_s: float
    """For how long this monitor has listened to it."""
    incarnation: int
    sequence: int
    risk: Risk
    readings: Mapping[str, float | None]
    stopped: tuple[Stopped, ...]
    raylet: RayletState
    slow: Slowness | None = None


class Watch:
    """Moved by reports, by answers of second channels, and by ticks; the same story gives the same views."""

    def __init__(self, *, now: float, policy: LivenessPolicy | None = None, model: FusedModel | None = None) -> None:
        self._liveness = Liveness(policy or LivenessPolicy(cut_periods=CUT_PERIODS), now_s=now)
        self._model = model or first_opinion()
        self._nodes: dict[str, _Heard | None] = {}
        self._hazards: dict[str, float] = {}
        self._cpus: dict[str, float] = {}
        self._since: dict[str, float] = {}
        self._peers = PeerDeviation(far=8.0)
        self._compared_at = now

    def add(self, node: str, hazard_per_s: float, now: float, *, beating: int | None, cpus: float = 0.0) -> None:
        """Listen to `node`; adding it again sets its hazard. `beating` is the incarnation of the probe that an earlier
        watch heard of it, None for none; `cpus` what it promises."""
        is_new = node not in self._nodes
        self._hazards[node], self._cpus[node] = hazard_per_s, cpus
        self._liveness.add(node, hazard_per_day=hazard_per_s * DAY_S)
        if is_new:
            self._nodes[node], self._since[node] = None, now
        if is_new and beating is not None:
            self._liveness.expect(node, beating, now_s=now)

    def keep_only(self, nodes: set[str]) -> None:
        for node in self._nodes.keys() - nodes:
            del self._nodes[node], self._hazards[node], self._since[node], self._cpus[node]
            self._liveness.remove(node)

    def hear(self, reports: Sequence[Report], now: float) -> tuple[LivenessVerdict, ...]:
        """Take in all reports that came since the last call."""
        known = [r for r in reports if r.heartbeat.node in self._nodes]
        for report in known:
            self._take(report, now)
        beats = [r.heartbeat for r in known if r.raylet is RayletState.ANSWERS]
        if now - self._compared_at >= ROUND_S:
            self._compare(now)
        return self._liveness.hear(beats, now_s=now)

    def forget_stopped(self) -> None:
        """Which workers stand still is to be told anew: what was said of it lay in a queue, and this very process may
        be among them."""
        for heard in self._nodes.values():
            if heard is not None:
                heard.stopped = ()

    def hear_calls(self, medians_s: Mapping[str, Mapping[str, float]]) -> None:
        """Revision -> node -> median seconds of its calls in the last few seconds; said every few seconds."""
        for node, heard in self._nodes.items():
            if heard is not None:
                now_s = {(Kind.CALLS, name): of_nodes[node] for name, of_nodes in medians_s.items() if node in of_nodes}
                # What wants the processors explains it, and is no fault of the node.
                heard.keep(Kind.CALLS, {} if is_pressed(heard.readings) else now_s)

    def hear_steps(self, steps: Mapping[str, Mapping[str, Step]], used: Mapping[str, float], now: float) -> None:
        """Training -> node -> its rank's own part of a step, a measurement that may be an old one; `used` is the share
        of each node's processors that is reserved. Said every few seconds."""
        for node, heard in self._nodes.items():
            if heard is None:
                continue
            told = {} if is_shared(heard.readings, used.get(node, 0.0)) else {
                (Kind.STEPS, name): of_nodes[node] for name, of_nodes in steps.items() if node in of_nodes
            }  # fmt: skip
            known = {
                w: heard.steps[w] for w, step in told.items() if w in heard.steps and heard.steps[w][0] == step.number
            }
            fresh = {work: step.seconds for work, step in told.items() if work not in known}
            heard.steps = known | {work: (told[work].number, now) for work in fresh}
            heard.keep(Kind.STEPS, fresh, waiting=[w for w, (_, at) in heard.steps.items() if now - at < STEP_STALE_S])

    def hear_channel(self, node: str, answer: ChannelAnswer, now: float) -> None:
        self._liveness.hear_channel(node, answer, now_s=now)

    def tick(self, now: float) -> LivenessTick:
        """The verdicts that are due, and whose second channel is to be asked."""
        for node, heard in self._nodes.items():
            if heard is not None and now - heard.at_s < QUIET_S and _is_witnessed(heard):
                self._liveness.hear_witness(node)
        return self._liveness.tick(now)

    def view(self, node: str, now: float) -> View:
        """Raises KeyError for a node that is not listened to."""
        heard, hazard = self._nodes[node], self._hazards[node]
        prior = failure_probability(hazard * HORIZON_S)
        state, watched_s = self._liveness.state(node), now - self._since[node]
        if heard is None:
            return View(state, None, watched_s, 0, 0, Risk(prior, HORIZON_S, prior), {}, (), RayletState.ANSWERS)
        belief = predict(heard.belief, hazard, now)
        risk = Risk(within_horizon(belief, hazard, HORIZON_S), HORIZON_S, prior, heard.terms)
        number = heard.incarnation, heard.sequence
        return View(
            state, now - heard.at_s, watched_s, *number, risk, heard.readings, heard.stopped, heard.raylet, heard.slow
        )

    def _take(self, report: Report, now: float) -> None:
        beat = report.heartbeat
        heard = self._nodes[beat.node]
        if heard is None:
            heard = _Heard(now, beat.incarnation, beat.sequence, at_rest(self._hazards[beat.node], now))
            self._nodes[beat.node] = heard
        if (beat.incarnation, beat.sequence) < (heard.incarnation, heard.sequence):
            return
        heard.raylet_reports = heard.raylet_reports + 1 if report.raylet is heard.raylet else 1
        heard.at_s, heard.incarnation, heard.sequence = now, beat.incarnation, beat.sequence
        heard.stopped, heard.raylet = report.stopped, report.raylet
        heard.readings |= report.readings
        if vitals.CLOCK_STEP in report.readings:
            self._weigh(heard, beat.node, now)

    def _weigh(self, heard: _Heard, node: str, now: float) -> None:
        """A whole sample has come: what each sign is worth, for the least of the last few samples."""
        heard.readings |= self._derived(heard, node, now)
        worth = {c.signal.name: c.at(heard.readings.get(c.signal.name)) for c in self._model.curves}
        heard.worth.append(worth)
        lasting = {
            name: min((sample.get(name, 0.0) for sample in heard.worth), key=abs)
            if len(heard.worth) == PERSISTENT
            else 0.0
            for name in worth
        }
        heard.withheld.append(withheld_ratio(heard.readings, self._cpus[node]))
        heard.terms = self._model.judge(0.5, heard.readings).terms
        heard.belief = update(predict(heard.belief, self._hazards[node], now), lasting)

    def _derived(self, heard: _Heard, node: str, now: float) -> Mapping[str, float | None]:
        """Readings against the node's own past."""
        errors, fsync_s = heard.readings.get(vitals.NETWORK_ERRORS), heard.readings.get(vitals.FSYNC)
        gpus, lines = heard.readings.get(vitals.GPU_COUNT), heard.readings.get(vitals.LOG_ERRORS)
        heard.most_gpus = max(heard.most_gpus, gpus or 0.0)
        alarm = heard.fsync.add(Signal(node, vitals.FSYNC, fsync_s, now)) if fsync_s is not None else None
        slower = alarm is not None and alarm.value > alarm.expected
        return {
            NETWORK_SURPRISE: None if errors is None else heard.network.add(int(errors), ROUND_S),
            LOG_SURPRISE: None if lines is None else heard.log.add(int(lines), ROUND_S),
            FSYNC_SURPRISE: alarm.surprise if alarm is not None and slower else 0.0,
            GPUS_LOST: heard.most_gpus - gpus if gpus is not None else None,
        }

    def _compare(self, now: float) -> None:
        """One round: how long each node's server takes to answer, against that of the others."""
        self._compared_at = now
        living = {n: heard for n, heard in self._nodes.items() if heard is not None and now - heard.at_s < QUIET_S}
        signals = [
            Signal(node, vitals.RAYLET_ANSWER, answer_s, now)
            for node, heard in living.items()
            if (answer_s := heard.readings.get(vitals.RAYLET_ANSWER)) is not None
        ]
        self._peers.forget(living)
        slower = {a.subject: a.surprise for a in self._peers.add(signals) if a.value > a.expected}
        for node, heard in living.items():
            heard.readings[ANSWER_DEVIATION] = slower.get(node, 0.0)
        self._find_slow(living, now)

    def _find_slow(self, living: Mapping[str, _Heard], now: float) -> None:
        for heard in living.values():
            answers_s = heard.times_s.setdefault((Kind.SERVER, ""), deque(maxlen=PERSISTENT))
            answers_s.append(heard.readings.get(vitals.RAYLET_ANSWER) or 0.0)
        withheld = {n: min(heard.withheld) for n, heard in living.items() if len(heard.withheld) == PERSISTENT}
        found = drags(withheld, _lasting(living))
        for node, heard in living.items():
            since = heard.slow.since if heard.slow else now
            heard.slow = Slowness(found[node][0], since, found[node][1]) if node in found else None


def _lasting(living: Mapping[str, _Heard]) -> Mapping[Work, Mapping[str, float]]:
    """The least of the last few samples, by work and node."""
    found: dict[Work, dict[str, float]] = {}
    for node, heard in living.items():
        for work, samples in heard.times_s.items():
            if len(samples) == PERSISTENT:
                found.setdefault(work, {})[node] = min(samples)
    return found


def _is_witnessed(heard: _Heard) -> bool:
    if heard.raylet is RayletState.GONE:
        return True
    return heard.raylet is RayletState.STOPPED and heard.raylet_reports >= WITNESSED
