"""Which nodes live: phi accrual and hazard as log odds, held when many fall silent, checked by a second channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from platformops.health.common_cause import fell_silent_together, still_cut_off, too_many
from platformops.health.gaps import GapModel
from platformops.health.records import (
    LIVENESS,
    ChannelAnswer,
    Heartbeat,
    LivenessEvent,
    LivenessState,
    LivenessVerdict,
    Suspicion,
)
from platformops.health.roster import Roster
from platformops.health.silence import FleetSilence, MonitorClock
from platformops.machine import advance

Floats = NDArray[np.float64]
Slots = NDArray[np.intp]
DAY_S = 86_400.0
CHANNEL_LOG_LIKELIHOOD = {ChannelAnswer.ANSWERED: -12.0, ChannelAnswer.SILENT: 6.9, ChannelAnswer.REFUSED: 12.0}
"""log P(answer | dead) / P(answer | alive): a living node misses one timeout in a thousand. Where the whole fleet is
slow, a timeout proves less, and silence is weighed by the fleet's pace."""
WITNESS_LOG_LIKELIHOOD = 12.0
"""Of what a node's own kernel says: that its server has ended, or is held still by a signal."""


@dataclass(frozen=True, slots=True)
class LivenessPolicy:
    """How patient the monitor is; every time in periods is counted in heartbeats."""

    period_s: float = 1.0
    tick_s: float = 0.25
    pause_periods: float = 0.63
    """Standard deviation granted to the gaps of every node, for losses and pauses that it has not shown yet."""
    pause_s: float = 0.08
    """The same in seconds: a process is stopped for as long whatever its heartbeat. They add as variances do."""
    restless_periods: float = 0.78
    """Largest one granted: beyond it, more patience with a restless node costs more than it saves."""
    slowest: float = 0.4
    """Share of the wall's time that silence counts at least, however slow the fleet is."""
    ask_phi: float = 3.0
    """From here a node is suspect and its second channel is asked."""
    condemn_log_odds: float = 2.2
    """Natural log odds of being dead: 9 to 1."""
    min_beats: int = 5
    """A node that was hardly heard is not condemned: it is starting, for `starting_periods` of silence at most."""
    starting_periods: float = 30.0
    second_channel: bool = True
    """Whether death needs the second channel too; without one, silence alone must say it."""
    channel_timeout_periods: float = 1.0
    """Counted, as silence is, on the fleet's clock: an overloaded machine answers late too."""
    channel_valid_periods: float = 3.0
    """How long what it said holds; it is asked again before."""
    cut_periods: float = 0.0
    """Silence from which a second channel that is silent, too, condemns at the earliest: a short cut of the network
    silences both."""
    together_ratio: float = 0.2
    """More than this share of the fleet silent since the same moment is a common cause, and nobody is condemned."""
    linger_periods: float = 30.0
    """For so long a rest of a crowd is held too, while it is more than the same share of it."""
    release_periods: float = 2.0
    """After it, the others have time to come back before the rest is judged."""

    @property
    def spread_periods(self) -> float:
        return float(np.hypot(self.pause_periods, self.pause_s / self.period_s))

    @property
    def ask_every_periods(self) -> float:
        return self.channel_valid_periods - self.channel_timeout_periods


@dataclass(frozen=True, slots=True)
class LivenessTick:
    verdicts: tuple[LivenessVerdict, ...]
    asks: tuple[str, ...]
    """Nodes whose second channel is to be asked now; the answer goes to `hear_channel`."""


class Liveness:
    """State of all nodes of a fleet, moved by batches of beats and by ticks; constant memory a node."""

    def __init__(self, policy: LivenessPolicy, *, now_s: float) -> None:
        self._policy = policy
        self._roster = Roster()
        capacity = self._roster.capacity
        self._clock = MonitorClock(now_s, tick_s=policy.tick_s, period_s=policy.period_s)
        self._silence = FleetSilence(period_s=policy.period_s, slowest=policy.slowest, capacity=capacity)
        self._gaps = GapModel(
            pause_periods=policy.spread_periods, restless_periods=policy.restless_periods, capacity=capacity
        )

    def add(self, node: str, *, hazard_per_day: float) -> None:
        """Listen to `node`; adding it again sets its hazard."""
        capacity = self._roster.capacity
        self._roster.add(node, prior=float(np.log(hazard_per_day / DAY_S * self._policy.period_s)))
        if self._roster.capacity != capacity:
            self._silence.grow(self._roster.capacity)
            self._gaps.grow(self._roster.capacity)

    def expect(self, node: str, incarnation: int, *, now_s: float) -> None:
        """`node` was beating until an earlier monitor ended: its silence counts from now on, as if it had been heard.

        Without it, a node that died between two monitors would never be missed.
        """
        slots = np.array([self._roster.slots[node]])
        self._roster.know(int(slots[0]), incarnation)
        self._silence.hear(slots, 0, num_live=1, now_s=now_s, stalled_s=self._clock.stalled_s)
        self._roster.settle(slots)
        self._roster.num_beats[slots] = self._policy.min_beats

    def remove(self, node: str) -> None:
        slot = self._roster.remove(node)
        self._silence.forget(slot)
        self._gaps.forget(slot)

    def state(self, node: str) -> LivenessState:
        return self._roster.states[self._roster.slots[node]]

    def hear(self, beats: Sequence[Heartbeat], *, now_s: float) -> tuple[LivenessVerdict, ...]:
        """Take in all beats that came since the last call; unknown nodes, old incarnations and repeats are ignored."""
        num_live = self._roster.num_listened
        accepted = self._roster.accept(beats, period_s=self._policy.period_s)
        if not accepted:
            return ()
        slots: Slots = np.fromiter(accepted, np.intp, len(accepted))
        beats_each, late = np.array(list(accepted.values()), np.float64).T
        gaps = self._periods(slots, num_live=num_live, now_s=now_s) / beats_each
        learned = self._roster.learnable(slots) & ~np.isnan(gaps)
        self._gaps.learn(slots[learned], gaps[learned], late[learned])
        self._gaps.forget(slots[self._roster.reborn(slots)])
        self._silence.hear(
            slots, int(beats_each.sum()), num_live=num_live, now_s=now_s, stalled_s=self._clock.stalled_s
        )
        returned = [int(slot) for slot in slots[self._roster.is_quiet[slots]]]
        self._roster.settle(slots)
        return tuple(self._move(slot, LivenessEvent.BEAT, now_s, "its beats are back") for slot in returned)

    def hear_channel(self, node: str, answer: ChannelAnswer, *, now_s: float) -> None:
        """Take in what came of asking `node` by its second channel."""
        slot = self._roster.slots.get(node)
        if slot is not None:
            self._roster.take_answer(slot, answer, self._fleet_periods(slot))

    def hear_witness(self, node: str) -> None:
        """The kernel of `node` says that its server has ended or stands still: it is suspect now, whatever its gaps.

        Forgotten with the next beat; like silence it condemns nobody without the second channel.
        """
        slot = self._roster.slots.get(node)
        if slot is not None and self._roster.num_beats[slot]:
            self._roster.is_accused[slot] = True

    def tick(self, now_s: float) -> LivenessTick:
        """Judge everybody; to be called every `tick_s`, after all beats that have come were heard."""
        stalled_s = self._clock.stalled_s
        settled = self._clock.tick(now_s)
        self._roster.held_until_s += self._clock.stalled_s - stalled_s  # no time to come back passed meanwhile
        slots = np.flatnonzero(self._roster.is_live)
        silence = self._periods(slots, num_live=self._roster.num_listened, now_s=now_s)
        # Nobody within two periods of its last beat is worth the arithmetic; nan compares false.
        late = (silence > 2.0) | self._roster.is_accused[slots]
        slots, silence = slots[late], silence[late]
        phi = self._gaps.phi(slots, silence) if len(slots) else silence
        suspect = (phi >= self._policy.ask_phi) | self._roster.is_accused[slots]
        if not settled or not suspect.any():
            return LivenessTick((), ())
        late_last_s = self._silence.last_s[slots]
        return self._judge(slots[suspect], silence[suspect], phi[suspect], late_last_s, now_s)

    def _judge(self, slots: Slots, silence: Floats, phi: Floats, late_last_s: Floats, now_s: float) -> LivenessTick:
        policy, roster = self._policy, self._roster
        last_s = self._silence.last_s[slots]
        together = fell_silent_together(last_s, late_last_s, period_s=policy.period_s)
        roster.crowds[slots] = np.maximum(roster.crowds[slots], together)
        mass = too_many(together, num_live=roster.num_live, share=policy.together_ratio)
        was_mass = roster.crowds[slots] > policy.together_ratio * roster.num_live
        is_fresh = now_s - last_s < policy.linger_periods * policy.period_s
        mass |= was_mass & is_fresh & still_cut_off(together, roster.crowds[slots], share=policy.together_ratio)
        roster.held_until_s[slots[mass]] = now_s + policy.release_periods * policy.period_s
        verdicts: list[LivenessVerdict] = []
        asks: list[str] = []
        for at, slot in enumerate(slots.tolist()):
            suspicion = self._suspicion(slot, silence[at], phi[at], now_s)
            if roster.states[slot] is LivenessState.ALIVE:
                verdicts.append(self._move(slot, LivenessEvent.FELL_SILENT, now_s, _silent(suspicion), suspicion))
            concluded = self._conclude(slot, suspicion, int(together[at]), now_s)
            if concluded is not None:
                verdicts.append(concluded)
            if policy.second_channel and roster.ask(slot, suspicion.fleet_periods, every=policy.ask_every_periods):
                asks.append(roster.nodes[slot])
        return LivenessTick(tuple(verdicts), tuple(asks))

    def _conclude(self, slot: int, suspicion: Suspicion, together: int, now_s: float) -> LivenessVerdict | None:
        """At most one further move of a silent node."""
        roster, policy = self._roster, self._policy
        answer = self._answer(slot, suspicion.fleet_periods)
        state = roster.states[slot]
        if answer is ChannelAnswer.ANSWERED or state is LivenessState.PROBE_SICK:
            return self._weigh_probe(slot, suspicion, answer, now_s)
        is_new = roster.num_beats[slot] < policy.min_beats and suspicion.silence_periods < policy.starting_periods
        is_starting = is_new and answer is not ChannelAnswer.REFUSED
        may_be_cut = answer is ChannelAnswer.SILENT and not roster.is_accused[slot]
        is_early = may_be_cut and suspicion.silence_periods < policy.cut_periods
        if suspicion.log_odds < policy.condemn_log_odds or is_starting or is_early:
            return None
        if now_s < roster.held_until_s[slot] and answer is not ChannelAnswer.REFUSED:
            if state is LivenessState.HELD:
                return None
            reason = f"{together} of {roster.num_live} nodes fell silent together: a common cause, nobody condemned"
            return self._move(slot, LivenessEvent.SILENT_TOGETHER, now_s, reason, suspicion)
        if answer is None and policy.second_channel:
            return None
        return self._move(slot, LivenessEvent.CONDEMNED, now_s, _condemned(suspicion, answer), suspicion)

    def _weigh_probe(
        self, slot: int, suspicion: Suspicion, answer: ChannelAnswer | None, now_s: float
    ) -> LivenessVerdict | None:
        """The probe is sick while the second channel answers, and suspect again once that is silent too."""
        is_sick = self._roster.states[slot] is LivenessState.PROBE_SICK
        if answer is ChannelAnswer.ANSWERED and not is_sick:
            reason = f"{_silent(suspicion)}, yet its second channel answers: the probe is sick"
            return self._move(slot, LivenessEvent.CHANNEL_ANSWERED, now_s, reason, suspicion)
        if answer in (ChannelAnswer.SILENT, ChannelAnswer.REFUSED):
            reason = f"{_silent(suspicion)}, and now its second channel is {answer.value}"
            return self._move(slot, LivenessEvent.CHANNEL_SILENT, now_s, reason, suspicion)
        return None

    def _suspicion(self, slot: int, silence: float, phi: float, now_s: float) -> Suspicion:
        silence_s = now_s - float(self._silence.last_s[slot])
        fleet = self._fleet_periods(slot)
        answer = self._answer(slot, fleet)
        weight = min(1.0, fleet * self._policy.period_s / silence_s) if answer is ChannelAnswer.SILENT else 1.0
        return Suspicion(
            node=self._roster.nodes[slot],
            silence_periods=float(silence),
            fleet_periods=fleet,
            silence_s=silence_s,
            prior=float(self._roster.priors[slot]),
            phi=float(phi),
            channel=weight * CHANNEL_LOG_LIKELIHOOD[answer] if answer else 0.0,
            witness=WITNESS_LOG_LIKELIHOOD if self._roster.is_accused[slot] else 0.0,
        )

    def _answer(self, slot: int, silence: float) -> ChannelAnswer | None:
        policy = self._policy
        return self._roster.answer(
            slot, silence, valid=policy.channel_valid_periods, timeout=policy.channel_timeout_periods
        )

    def _fleet_periods(self, slot: int) -> float:
        return self._silence.fleet_periods(slot, num_live=self._roster.num_listened)

    def _periods(self, slots: Slots, *, num_live: int, now_s: float) -> Floats:
        return self._silence.periods(slots, num_live=num_live, now_s=now_s, stalled_s=self._clock.stalled_s)

    def _move(
        self, slot: int, event: LivenessEvent, now_s: float, reason: str, suspicion: Suspicion | None = None
    ) -> LivenessVerdict:
        roster = self._roster
        before = roster.states[slot]
        node = roster.nodes[slot]
        roster.set_state(slot, advance(LIVENESS, before, event, subject=f"node {node}"))
        return LivenessVerdict(node, roster.states[slot], before, now_s, reason, suspicion)


def _silent(suspicion: Suspicion) -> str:
    return f"silent for {suspicion.silence_s:.1f} s ({suspicion.silence_periods:.1f} periods of the fleet)"


def _condemned(suspicion: Suspicion, answer: ChannelAnswer | None) -> str:
    channel = f", second channel {answer.value} {suspicion.channel:+.1f}" if answer else ""
    channel += f", its own kernel {suspicion.witness:+.1f}" if suspicion.witness else ""
    return (
        f"{_silent(suspicion)}: log odds {suspicion.log_odds:+.1f} of being dead "
        f"(hazard {suspicion.prior:+.1f}, phi {suspicion.phi:.1f}{channel})"
    )
