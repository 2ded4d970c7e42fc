"""Liveness: who is condemned, how soon, and above all who is not."""

import numpy as np
import pytest

from platformops.errors import InvalidTransition
from platformops.health.liveness import Liveness, LivenessPolicy
from platformops.health.records import LIVENESS, ChannelAnswer, Heartbeat, LivenessEvent, LivenessState
from platformops.machine import advance

TICK_S = 0.25
HAZARD_PER_DAY = 0.005


class World:
    """A fleet that beats once a second, each node at its own phase, and a monitor that is played to."""

    def __init__(self, num_nodes, *, second_channel=False, hazards=(), cut_periods=0.0):
        policy = LivenessPolicy(tick_s=TICK_S, second_channel=second_channel, cut_periods=cut_periods)
        self.monitor = Liveness(policy, now_s=0.0)
        self.nodes = [f"n{number}" for number in range(num_nodes)]
        for at, node in enumerate(self.nodes):
            self.monitor.add(node, hazard_per_day=dict(hazards).get(at, HAZARD_PER_DAY))
        self.now_s = 0.0
        self.num_ticks = 0
        self.sequence = 0
        self.verdicts = []
        self.asks = []

    def run(self, duration_s, *, silent=(), answers=None):
        """Ticks for so long; `silent` nodes send nothing; `answers` says what a second channel says, and when asked."""
        for _ in range(round(duration_s / TICK_S)):
            self.num_ticks += 1
            self.now_s += TICK_S
            self.hear(silent)
            done = self.monitor.tick(self.now_s)
            self.verdicts += done.verdicts
            for node in done.asks:
                self.asks.append(node)
                if answers is not None:
                    self.monitor.hear_channel(node, answers, now_s=self.now_s)

    def hear(self, silent=(), incarnation=1):
        due = [node for at, node in enumerate(self.nodes) if at % 4 == self.num_ticks % 4 and node not in silent]
        self.sequence += 1
        beats = [Heartbeat(node, incarnation, self.sequence, self.now_s) for node in due]
        self.verdicts += self.monitor.hear(beats, now_s=self.now_s)

    def stall(self, duration_s, *, queue=True):
        """The monitor sleeps; what was sent meanwhile is read at once when it wakes, or is lost."""
        for _ in range(round(duration_s / TICK_S)):
            self.num_ticks += 1
            self.now_s += TICK_S
            if queue:
                self.sequence += 1
        if queue:
            beats = [
                Heartbeat(node, 1, self.sequence + number, self.now_s)
                for number in range(int(duration_s))
                for node in self.nodes
            ]
            self.sequence += int(duration_s)
            self.monitor.hear(beats, now_s=self.now_s)
        self.verdicts += self.monitor.tick(self.now_s).verdicts

    def dead(self):
        return [verdict.node for verdict in self.verdicts if verdict.state is LivenessState.DEAD]


def test_a_killed_node_is_condemned_within_five_periods_and_the_reason_has_the_terms():
    world = World(12)
    world.run(60)
    since_s = world.now_s
    world.run(10, silent=["n3"])
    (verdict,) = [v for v in world.verdicts if v.state is LivenessState.DEAD]
    assert verdict.node == "n3"
    assert verdict.at_s - since_s <= 6.0
    assert "phi" in verdict.reason
    assert "hazard" in verdict.reason
    assert verdict.suspicion.log_odds >= 2.2


def test_one_missed_beat_changes_nothing():
    world = World(6)
    world.run(30)
    world.run(1, silent=["n2"])
    world.run(10)
    assert world.verdicts == []


def test_a_node_of_higher_hazard_is_condemned_no_later_than_a_clean_one():
    world = World(16, hazards=((0, 50.0),))
    world.run(60)
    world.run(12, silent=["n0"])
    world.run(20)
    world.run(12, silent=["n4"])
    lemon, clean = [v for v in world.verdicts if v.state is LivenessState.DEAD]
    assert lemon.suspicion.silence_s < clean.suspicion.silence_s


def test_a_third_of_the_cluster_cut_off_is_held_and_nobody_is_condemned_however_long():
    world = World(12)
    world.run(60)
    cut = world.nodes[:4]
    world.run(120, silent=cut)
    assert world.dead() == []
    held = [v for v in world.verdicts if v.state is LivenessState.HELD]
    assert {v.node for v in held} == set(cut)
    assert "4 of 12 nodes fell silent together" in held[-1].reason
    world.run(5)
    assert all(world.monitor.state(node) is LivenessState.ALIVE for node in cut)
    assert world.dead() == []


def test_of_a_partition_that_ends_one_node_stays_away_and_alone_is_condemned():
    world = World(12)
    world.run(60)
    world.run(20, silent=world.nodes[:4])
    world.run(15, silent=["n1"])
    assert world.dead() == ["n1"]


def test_who_is_cut_off_by_a_second_cut_when_the_first_ends_is_held_on_and_condemned_when_that_lasts():
    world = World(24)
    world.run(60)
    first, both = world.nodes[:7], world.nodes[:3]
    world.run(10, silent=first)
    world.run(10, silent=both)
    assert world.dead() == []
    world.run(60)
    world.run(10, silent=first)
    world.run(40, silent=both)
    assert set(world.dead()) == set(both)


def test_a_node_that_dies_while_others_are_cut_off_is_condemned_none_the_less():
    world = World(20)
    world.run(60)
    cut = world.nodes[:6]
    world.run(8, silent=cut)
    world.run(12, silent=[*cut, "n15"])
    assert world.dead() == ["n15"]


@pytest.mark.parametrize("queue", [True, False])
def test_a_stalled_monitor_condemns_nobody(queue):
    world = World(8)
    world.run(60)
    world.stall(30, queue=queue)
    world.run(20)
    assert world.dead() == []


def test_a_fleet_that_is_slow_together_is_not_suspected_of_dying():
    world = World(8)
    world.run(60)
    for _ in range(10):
        world.run(4, silent=world.nodes)
        world.run(1)
    assert world.dead() == []


def test_with_a_second_channel_a_silent_probe_is_called_sick_and_its_node_lives():
    world = World(8, second_channel=True)
    world.run(30)
    world.run(60, silent=["n5"], answers=ChannelAnswer.ANSWERED)
    assert world.dead() == []
    assert world.monitor.state("n5") is LivenessState.PROBE_SICK
    assert world.asks.count("n5") > 10, "it is asked again for as long as the probe is silent"


def test_a_sick_probe_s_node_is_condemned_once_its_channel_falls_silent_too():
    world = World(8, second_channel=True)
    world.run(30)
    world.run(20, silent=["n5"], answers=ChannelAnswer.ANSWERED)
    world.run(10, silent=["n5"])
    assert world.dead() == ["n5"]


def test_a_channel_that_says_nothing_condemns_sooner_than_silence_alone():
    taken = {}
    for second_channel in (True, False):
        world = World(8, second_channel=second_channel)
        world.run(60)
        world.run(12, silent=["n2"])
        (taken[second_channel],) = [v.suspicion.silence_s for v in world.verdicts if v.state is LivenessState.DEAD]
    assert taken[True] < taken[False]


def test_a_cut_of_three_seconds_that_silences_both_channels_condemns_nobody():
    world = World(2, second_channel=True, cut_periods=4.75)
    world.run(60)
    world.run(3, silent=["n1"], answers=ChannelAnswer.SILENT)
    world.run(20)
    assert world.dead() == []
    world.run(6, silent=["n1"], answers=ChannelAnswer.SILENT)
    assert world.dead() == ["n1"]


def test_a_refused_connection_condemns_even_in_a_crowd():
    world = World(9, second_channel=True)
    world.run(30)
    world.run(15, silent=world.nodes[:3], answers=ChannelAnswer.REFUSED)
    assert set(world.dead()) == set(world.nodes[:3])


def test_without_an_answer_a_crowd_stays_held_when_a_second_channel_is_asked():
    world = World(9, second_channel=True)
    world.run(30)
    world.run(60, silent=world.nodes[:3], answers=ChannelAnswer.SILENT)
    assert world.dead() == []


def test_a_condemned_node_that_speaks_again_is_alive_and_says_so():
    world = World(8)
    world.run(30)
    world.run(12, silent=["n1"])
    world.run(4)
    assert world.monitor.state("n1") is LivenessState.ALIVE
    assert world.verdicts[-1].before is LivenessState.DEAD
    assert "back" in world.verdicts[-1].reason


def test_beats_of_an_older_incarnation_and_repeats_do_not_keep_a_node_alive():
    world = World(8)
    world.run(30)
    world.monitor.hear([Heartbeat("n1", 2, 0, 0.0)], now_s=world.now_s)
    for _ in range(40):
        world.num_ticks += 1
        world.now_s += TICK_S
        world.hear(silent=["n1"])
        world.monitor.hear([Heartbeat("n1", 1, 9999, 0.0), Heartbeat("n1", 2, 0, 0.0)], now_s=world.now_s)
        world.verdicts += world.monitor.tick(world.now_s).verdicts
    assert world.dead() == ["n1"]


def test_a_node_that_dies_just_after_its_probe_began_anew_is_no_starting_node():
    world = World(8)
    world.run(30)
    world.monitor.hear([Heartbeat("n1", 2, 0, world.now_s)], now_s=world.now_s)
    world.run(10, silent=["n1"], answers=ChannelAnswer.SILENT)
    assert world.dead() == ["n1"]


def test_a_node_that_falls_silent_while_it_starts_is_condemned_late_and_not_never():
    world = World(8)
    world.run(30)
    world.monitor.add("new", hazard_per_day=HAZARD_PER_DAY)
    for sequence in range(3):
        world.run(1)
        world.monitor.hear([Heartbeat("new", 1, sequence, world.now_s)], now_s=world.now_s)
    world.run(20)
    assert world.dead() == [], "it may be starting"
    world.run(20)
    assert world.dead() == ["new"]


def test_a_node_that_pauses_as_the_others_do_not_is_given_more_time():
    def silence_of(pause_s):
        world = World(12)
        for sequence in range(160):
            world.run(pause_s if sequence % 20 == 19 else 1.0, silent=["n1"])
            world.monitor.hear([Heartbeat("n1", 1, sequence, world.now_s)], now_s=world.now_s)
        since_s = world.now_s
        world.run(12, silent=["n1"])
        return next(v.at_s for v in world.verdicts if v.node == "n1" and v.state is LivenessState.DEAD) - since_s

    assert silence_of(pause_s=3.5) >= silence_of(pause_s=1.0) + 0.5


def test_strangers_are_ignored_and_removed_nodes_are_forgotten():
    world = World(4)
    world.run(20)
    world.monitor.hear([Heartbeat("nobody", 1, 1, 0.0)], now_s=world.now_s)
    world.monitor.remove("n3")
    world.nodes.remove("n3")
    world.run(20)
    assert world.verdicts == []


def test_a_fleet_outgrows_its_first_arrays():
    world = World(100)
    world.run(30)
    world.run(12, silent=["n77"])
    assert world.dead() == ["n77"]


def test_a_lone_node_is_judged_by_the_monitor_s_clock():
    world = World(1)
    world.run(30)
    world.run(12, silent=["n0"])
    assert world.dead() == ["n0"]


def test_the_same_beats_in_any_order_give_the_same_verdicts():
    def play(order):
        world = World(10)
        rng = np.random.default_rng(order)
        for _ in range(200):
            world.num_ticks += 1
            world.now_s += TICK_S
            due = [node for at, node in enumerate(world.nodes) if at % 4 == world.num_ticks % 4]
            beats = [Heartbeat(n, 1, world.num_ticks, 0.0) for n in due if n != "n2" or world.now_s < 30]
            world.monitor.hear([beats[at] for at in rng.permutation(len(beats))], now_s=world.now_s)
            world.verdicts += world.monitor.tick(world.now_s).verdicts
        return world.verdicts

    assert play(0) == play(1)
    assert len(play(0)) == 2


def test_liveness_accepts_only_the_moves_of_its_table():
    for state in LivenessState:
        for event in LivenessEvent:
            if (state, event) in LIVENESS:
                assert advance(LIVENESS, state, event, subject="node n") in LivenessState
            else:
                with pytest.raises(InvalidTransition):
                    advance(LIVENESS, state, event, subject="node n")


def test_a_hold_does_not_run_out_while_the_monitor_sleeps():
    world = World(12)
    world.run(60)
    cut = world.nodes[:4]
    world.run(8, silent=cut)
    world.now_s += 10.0
    world.sequence += 1
    rest = [node for node in world.nodes if node not in cut[:1]]
    world.verdicts += world.monitor.hear([Heartbeat(n, 1, world.sequence, 0.0) for n in rest], now_s=world.now_s)
    world.verdicts += world.monitor.tick(world.now_s).verdicts
    world.run(1, silent=cut[:1])
    assert world.dead() == [], "the last of them has as long to come back as if the monitor had been awake"
    world.run(15, silent=cut[:1])
    assert world.dead() == cut[:1]


def test_what_its_own_kernel_says_is_believed_at_once_where_the_second_channel_agrees():
    world = World(12, second_channel=True)
    world.run(20)
    world.monitor.hear_witness("n3")
    world.run(0.5, silent={"n3"}, answers=ChannelAnswer.REFUSED)
    assert world.dead() == ["n3"]
    assert world.verdicts[-1].suspicion.silence_s < 2.0


def test_what_its_own_kernel_says_condemns_nobody_alone_and_is_forgotten_with_the_next_beat():
    world = World(12, second_channel=True)
    world.run(20)
    world.monitor.hear_witness("n3")
    world.run(0.5, silent={"n3"}, answers=ChannelAnswer.ANSWERED)
    world.run(20, answers=ChannelAnswer.ANSWERED)
    assert world.dead() == []
    assert world.monitor.state("n3") is LivenessState.ALIVE


@pytest.mark.parametrize("answer", [ChannelAnswer.REFUSED, ChannelAnswer.SILENT])
def test_a_node_that_died_between_two_monitors_is_missed_by_the_second(answer):
    world = World(12, second_channel=True)
    for node in world.nodes:
        world.monitor.expect(node, 1, now_s=world.now_s)
    world.run(8, silent={"n5"}, answers=answer)
    assert world.dead() == ["n5"]
