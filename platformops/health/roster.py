"""Who is listened to: the slot, state, incarnation, hazard and second channel of each node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from platformops.health.records import ChannelAnswer, Heartbeat, LivenessState

QUIET = frozenset(LivenessState) - {LivenessState.ALIVE}


class Roster:
    """Slots of fixed-size arrays, given to nodes and taken back; doubles when full."""

    def __init__(self, capacity: int = 16) -> None:
        self.slots: dict[str, int] = {}
        self.nodes: list[str] = [""] * capacity
        self.states: list[LivenessState] = [LivenessState.ALIVE] * capacity
        self._answers: list[tuple[ChannelAnswer, float] | None] = [None] * capacity
        """What the second channel said last, and after how many periods of silence."""
        self.priors: NDArray[np.float64] = np.zeros(capacity)
        self.num_beats: NDArray[np.int64] = np.zeros(capacity, np.int64)
        """Of all incarnations: a node whose probe begins anew is no new node."""
        self.held_until_s: NDArray[np.float64] = np.full(capacity, -np.inf)
        self.crowds: NDArray[np.int64] = np.zeros(capacity, np.int64)
        """How many fell silent with it, at most, since its last beat."""
        self.is_live: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        """Heard at least once and not dead: these make up the fleet's clock."""
        self.is_quiet: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        """Known, and in any state but alive."""
        self.is_accused: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        """By its own kernel, since the last beat."""
        self.num_live = 0
        self.num_held = 0
        self._incarnations: list[int] = [-1] * capacity
        self._sequences: list[int] = [-1] * capacity
        self._sent_s: list[float] = [0.0] * capacity
        """On the node's own clock, when its last beat left it."""
        self._asked: NDArray[np.float64] = np.full(capacity, -np.inf)
        """After how many periods of silence the second channel was asked last."""
        self._waiting: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        """Asked by the second channel, with nothing come back yet."""
        self._reborn: set[int] = set()
        self._free = list(range(capacity - 1, -1, -1))

    @property
    def num_listened(self) -> int:
        """Whose beats move the fleet's clock: the held are left out, so that it does not slow down for them."""
        return self.num_live - self.num_held

    @property
    def capacity(self) -> int:
        return len(self.nodes)

    def add(self, node: str, *, prior: float) -> None:
        if node not in self.slots:
            if not self._free:
                self._double()
            self.slots[node] = self._free.pop()
            self._clear(self.slots[node])
            self.nodes[self.slots[node]] = node
        self.priors[self.slots[node]] = prior

    def remove(self, node: str) -> int:
        """The slot that it had; raises KeyError for a node that is not listened to."""
        slot = self.slots.pop(node)
        self._clear(slot)
        self._free.append(slot)
        return slot

    def know(self, slot: int, incarnation: int) -> None:
        """Its beats of this incarnation go on from where another monitor left them."""
        self._incarnations[slot] = incarnation

    def accept(self, beats: Sequence[Heartbeat], *, period_s: float) -> dict[int, tuple[int, float]]:
        """How many new beats each slot sent, and by how many periods the latest left its node too late; old
        incarnations, repeats and strangers count for nothing."""
        accepted: dict[int, tuple[int, float]] = {}
        slots, incarnations, sequences = self.slots, self._incarnations, self._sequences
        for beat in beats:
            slot = slots.get(beat.node)
            if slot is None or beat.incarnation < incarnations[slot]:
                continue
            num, late = accepted.get(slot, (0, 0.0))
            if beat.incarnation > incarnations[slot]:
                incarnations[slot] = beat.incarnation
                self._reborn.add(slot)
            elif beat.sequence <= sequences[slot]:
                continue
            elif sequences[slot] >= 0:
                passed = (beat.sent_s - self._sent_s[slot]) / period_s
                late = max(late, passed - (beat.sequence - sequences[slot]))
            sequences[slot], self._sent_s[slot] = beat.sequence, beat.sent_s
            accepted[slot] = num + 1, late
        return accepted

    def learnable(self, slots: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whose last gap tells how the living behave: not of the condemned, the held and the newly started."""
        excluded = (LivenessState.DEAD, LivenessState.HELD)
        return np.array([self.states[s] not in excluded and s not in self._reborn for s in slots.tolist()], np.bool_)

    def reborn(self, slots: NDArray[np.intp]) -> NDArray[np.bool_]:
        return np.array([slot in self._reborn for slot in slots.tolist()], np.bool_)

    def settle(self, slots: NDArray[np.intp]) -> None:
        """Close a batch: these were heard."""
        self._reborn.clear()
        self.num_beats[slots] += 1
        self.held_until_s[slots] = -np.inf
        self.crowds[slots] = 0
        self.is_accused[slots] = False
        fresh = slots[~self.is_live[slots]]
        self.is_live[fresh] = True
        self.num_live += len(fresh)
        for slot in slots[self.is_quiet[slots]].tolist():
            self._answers[slot] = None
            self._asked[slot] = -np.inf
            self._waiting[slot] = False

    def set_state(self, slot: int, state: LivenessState) -> None:
        self.num_held += (state is LivenessState.HELD) - (self.states[slot] is LivenessState.HELD)
        self.states[slot] = state
        self.is_quiet[slot] = state in QUIET
        if state is LivenessState.DEAD and self.is_live[slot]:
            self.is_live[slot] = False
            self.num_live -= 1

    def ask(self, slot: int, silence: float, *, every: float) -> bool:
        """Whether to ask the second channel of a node silent for so many periods now; it then counts as asked."""
        if silence < self._asked[slot] + every:
            return False
        self._asked[slot] = silence
        self._waiting[slot] = True
        return True

    def take_answer(self, slot: int, answer: ChannelAnswer, silence: float) -> None:
        self._answers[slot] = (answer, silence)
        self._waiting[slot] = False

    def answer(self, slot: int, silence: float, *, valid: float, timeout: float) -> ChannelAnswer | None:
        """What the second channel said in the last `valid` periods; silence `timeout` periods after asking in vain."""
        if self._waiting[slot] and silence >= self._asked[slot] + timeout:
            self.take_answer(slot, ChannelAnswer.SILENT, silence)
        said = self._answers[slot]
        if said is None or silence > said[1] + valid:
            return None
        return said[0]

    def _clear(self, slot: int) -> None:
        self.num_live -= int(self.is_live[slot])
        self.num_held -= int(self.states[slot] is LivenessState.HELD)
        self.nodes[slot], self.states[slot], self._answers[slot] = "", LivenessState.ALIVE, None
        self._incarnations[slot] = self._sequences[slot] = -1
        self.num_beats[slot] = self.crowds[slot] = 0
        self.held_until_s[slot] = self._asked[slot] = -np.inf
        self.is_live[slot] = self.is_quiet[slot] = self._waiting[slot] = self.is_accused[slot] = False

    def _double(self) -> None:
        more = self.capacity
        self.nodes += [""] * more
        self.states += [LivenessState.ALIVE] * more
        self._answers += [None] * more
        self._incarnations += [-1] * more
        self._sequences += [-1] * more
        self._sent_s += [0.0] * more
        self.priors = np.concatenate([self.priors, np.zeros(more)])
        self.num_beats = np.concatenate([self.num_beats, np.zeros(more, np.int64)])
        self.held_until_s = np.concatenate([self.held_until_s, np.full(more, -np.inf)])
        self.crowds = np.concatenate([self.crowds, np.zeros(more, np.int64)])
        self._asked = np.concatenate([self._asked, np.full(more, -np.inf)])
        self.is_live = np.concatenate([self.is_live, np.zeros(more, np.bool_)])
        self.is_quiet = np.concatenate([self.is_quiet, np.zeros(more, np.bool_)])
        self.is_accused = np.concatenate([self.is_accused, np.zeros(more, np.bool_)])
        self._waiting = np.concatenate([self._waiting, np.zeros(more, np.bool_)])
        self._free = list(range(2 * more - 1, more - 1, -1))
