"""Deaths of replicas are laid at the door of the version, the node, or nobody."""

import pytest

from platformops.health.crashes import GRACE_S, Life, blamed, remedy_for
from platformops.health.remedy import Remedy

NOW = 1_000_000.0


def lives(revision, node, crashes, *, hours=1.0):
    """A replica that crashed so often within the hours before now, and lives."""
    step = hours * 3600.0 / (crashes + 1)
    starts = [NOW - hours * 3600.0 + i * step for i in range(crashes + 1)]
    ended = [Life(revision, node, at, at + step, has_crashed=True) for at in starts[:-1]]
    return [*ended, Life(revision, node, starts[-1])]


def blame(*groups, sound=("a", "b", "c")):
    return blamed([life for group in groups for life in group], sound, NOW)


def test_a_version_that_dies_on_every_node_is_rolled_back():
    found = blame(lives("r2", "a", 6), lives("r2", "b", 5))["r2"]
    assert found.probability > 0.95
    assert (found.crashes, found.nodes) == (11, 2)
    assert remedy_for(found).remedy is Remedy.ROLL_BACK


def test_one_node_on_which_every_version_dies_is_no_verdict_on_a_version():
    found = blame(lives("r1", "a", 6), lives("r2", "a", 6), lives("r1", "b", 0), lives("r2", "b", 0))
    assert max(b.probability for b in found.values()) < 0.05
    assert {remedy_for(b).remedy for b in found.values()} == {Remedy.WAIT}


def test_on_one_node_alone_nothing_tells_version_from_machine():
    found = blame(lives("r2", "a", 9))["r2"]
    assert remedy_for(found).remedy is Remedy.WAIT
    assert "across two nodes" in remedy_for(found).excluded[Remedy.ROLL_BACK]


@pytest.mark.parametrize("crashes", [1, 2])
def test_a_few_deaths_are_chance(crashes):
    found = blame(lives("r2", "a", crashes), lives("r2", "b", 1), lives("r2", "c", 0))["r2"]
    assert remedy_for(found).remedy is Remedy.WAIT


def test_a_version_that_was_well_for_a_day_has_not_become_bad_by_two_deaths():
    found = blame(lives("r2", "a", 2, hours=24.0), lives("r2", "b", 2, hours=24.0))["r2"]
    assert found.probability < 0.1


def test_replicas_that_went_with_their_node_or_were_stopped_are_no_crashes():
    assert blame(lives("r2", "a", 9), lives("r2", "b", 9), sound=()) == {}
    stopped = [Life("r2", "a", NOW - 60.0 * n, NOW - 60.0 * (n - 1)) for n in range(1, 9)]
    assert blame(stopped) == {}


def test_two_bad_versions_are_both_found_and_one_that_was_sent_back_hides_no_other():
    worst = lives("r1", "a", 20), lives("r1", "b", 20)
    gone = [life for group in worst for life in group if life.ended]
    found = blame(gone, lives("r2", "a", 4), lives("r2", "b", 4))
    assert min(found["r1"].probability, found["r2"].probability) > 0.9
    assert remedy_for(found["r2"]).remedy is Remedy.ROLL_BACK


def test_a_sick_node_hides_no_bad_version():
    sick = [lives(f"r{n}", "a", 10) for n in range(3, 6)]
    found = blame(*sick, lives("r2", "b", 5), lives("r2", "c", 5))
    assert found["r2"].probability > 0.9
    assert max([b.probability for r, b in found.items() if r != "r2"], default=0.0) < 0.1


@pytest.mark.parametrize("hours", [0.2, 1.0, 2.0])
def test_one_moment_in_which_all_replicas_die_is_one_event(hours):
    nodes = [f"n{i}" for i in range(10)]
    found = blame(*[lives("r2", node, 1, hours=hours) for node in nodes], sound=nodes)["r2"]
    assert remedy_for(found).remedy is Remedy.WAIT


def test_a_death_counts_once_it_is_known_whether_its_node_died_too():
    fresh = [Life("r2", n, NOW - 300 + 10 * i, NOW - GRACE_S / 2, has_crashed=True) for n in "ab" for i in range(5)]
    assert blamed(fresh, "ab", NOW) == {}
    assert blamed(fresh, "ab", NOW + GRACE_S)["r2"].crashes == 10


def test_a_version_of_which_nothing_lives_at_the_moment_is_rolled_back_too():
    ended = [life for node in "ab" for life in lives("r2", node, 8, hours=0.2) if life.ended]
    assert remedy_for(blamed(ended, "ab", NOW + GRACE_S)["r2"]).remedy is Remedy.ROLL_BACK


def test_what_crashed_long_ago_is_forgotten():
    assert (
        blamed([Life("r2", "a", NOW - 2e5, NOW - 1e5, has_crashed=True), Life("r2", "a", NOW - 9e4)], ["a"], NOW) == {}
    )


def test_the_sound_version_beside_a_bad_one_is_not_blamed():
    found = blame(lives("r1", "a", 1), lives("r1", "b", 0), lives("r2", "a", 6), lives("r2", "b", 6))
    assert found["r2"].probability > 0.9
    assert found["r1"].probability < 0.05
