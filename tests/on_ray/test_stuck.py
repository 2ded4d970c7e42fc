"""When a worker is stuck, from what it says and from the kernel; and when it is merely slow."""

from dataclasses import replace

import pytest

from platformops.on_ray.stuck import (
    SHORTEST_LIMIT_S,
    STOPPED_S,
    UNKNOWN_LIMIT_S,
    Beat,
    Durations,
    Section,
    Watched,
    beat_from,
    beat_text,
    condemned,
    limit_s,
    watch,
)
from platformops.pipeline.records import Owner

BEAT = Beat(Owner("host", "machine", 7, "1"), 3, Section.STEP, 10.0, longest_s={"step": 0.5})


def looks(beats, *, is_stopped=False, every_s=0.5):
    """The reason that comes out, and after how many seconds; "" when none does."""
    watched = Watched()
    for n, beat in enumerate(beats):
        watched, why = watch(watched, beat, is_stopped=is_stopped, elapsed_s=every_s)
        if why:
            return why, n * every_s
    return "", None


def test_a_worker_whose_beats_go_on_is_never_stuck():
    assert looks([replace(BEAT, number=n) for n in range(1000)]) == ("", None)


def test_a_worker_without_a_new_beat_is_stuck_after_its_limit_and_its_section_is_named():
    why, after_s = looks([BEAT] * 100)
    assert after_s == 10.0
    assert "step" in why


def test_a_worker_held_still_is_ended_long_before_its_limit():
    why, after_s = looks([BEAT] * 100, is_stopped=True)
    assert after_s <= STOPPED_S + 0.5
    assert "signal" in why


def test_a_watcher_that_slept_itself_condemns_nobody():
    watched, _ = watch(Watched(), BEAT, is_stopped=False, elapsed_s=0.5)
    assert watch(watched, BEAT, is_stopped=False, elapsed_s=3600.0)[1] == ""
    assert watch(Watched(), BEAT, is_stopped=True, elapsed_s=3600.0)[1] == ""


def test_time_without_a_processor_is_not_held_against_a_worker():
    watched = Watched()
    for _ in range(1000):
        watched, why = watch(watched, BEAT, is_stopped=False, elapsed_s=0.5, starved_s=0.5)
        assert why == ""


def test_a_worker_that_has_ended_is_waited_for_no_more():
    assert looks([replace(BEAT, limit_s=None, section=Section.ENDED)] * 1000, is_stopped=True) == ("", None)


def test_a_rank_that_waits_for_another_ones_checkpoint_is_spared_and_one_that_waits_for_nobody_is_not():
    waiting, writing = BEAT, replace(BEAT, section=Section.CHECKPOINT, limit_s=120.0)
    assert condemned({0: (writing, ""), 1: (waiting, "quiet")}) == ()
    assert condemned({0: (writing, "quiet too"), 1: (waiting, "quiet")}) == (0, 1)
    assert condemned({0: (replace(writing, limit_s=None), ""), 1: (waiting, "quiet")}) == (1,)
    assert condemned({0: (waiting, ""), 1: (waiting, "quiet")}) == (1,)


@pytest.mark.parametrize(
    ("durations_s", "limit"),
    [
        ([], UNKNOWN_LIMIT_S),
        ([0.1] * 100, SHORTEST_LIMIT_S),
        ([4.0] * 3, 20.0),
        ([1.0] * 99 + [600.0], SHORTEST_LIMIT_S),
    ],
    ids=["never seen", "short", "long", "one outlier"],
)
def test_a_limit_is_learnt_from_what_the_section_took(durations_s, limit):
    assert limit_s(durations_s) == limit


def test_what_one_group_learnt_the_next_one_knows():
    first = Durations()
    first.add(Section.SETUP, 30.0)
    second = Durations()
    for section, longest_s in first.longest_s().items():
        second.add(Section(section), longest_s)
    assert second.limit_s(Section.SETUP) == 150.0
    assert second.limit_s(Section.STEP) == UNKNOWN_LIMIT_S


def test_a_beat_is_read_as_it_was_written_and_anything_else_is_none():
    assert beat_from(beat_text(BEAT)) == BEAT
    assert beat_from("") is None
    assert beat_from('{"number": 1}') is None
    assert beat_from(beat_text(BEAT)[:-9]) is None
