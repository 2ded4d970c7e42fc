"""A revision without a replica is refused at once, and taken again when a new one is ready."""

from platformops.gateway.outages import STALE_S, Outages


def test_nothing_is_out_until_a_replica_dies():
    outages = Outages()
    outages.observe({}, 0.0)
    assert not outages
    assert "a-r1" not in outages


def test_a_report_from_before_the_death_does_not_end_the_outage_but_a_new_replica_does():
    outages = Outages()
    outages.died("a-r1", 10.0)
    outages.observe({"a-r1": 1}, 10.2)
    assert "a-r1" in outages
    outages.observe({}, 10.4)
    assert "a-r1" in outages
    outages.observe({"a-r1": 1}, 13.0)
    assert "a-r1" not in outages


def test_a_replacement_between_two_looks_ends_the_outage_after_a_while():
    outages = Outages()
    outages.died("a-r1", 10.0)
    outages.observe({"a-r1": 1}, 10.0 + STALE_S)
    assert not outages


def test_a_second_death_begins_a_second_outage():
    outages = Outages()
    outages.died("a-r1", 10.0)
    outages.observe({}, 11.0)
    outages.died("a-r1", 12.0)
    outages.observe({"a-r1": 1}, 12.5)
    assert "a-r1" in outages
