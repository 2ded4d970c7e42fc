"""What is drawn while `status` is watched: counters of two looks become a point, and points become bars."""

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from platformops.cli.trends import MOST_POINTS, Trends, point_of, sparkline
from platformops.gateway.exchange import Exchange
from platformops.gateway.metrics import GatewayMetrics


class Gateway:
    """Answers requests and says what it counted."""

    def __init__(self):
        self.metrics = GatewayMetrics()

    def answer(self, count, *, seconds=0.002, status=200, system="digits"):
        for _ in range(count):
            self.metrics.answered(
                Exchange("a", 0.0, "POST", "/", "c", system=system, status=status, seconds=seconds, items=1)
            )

    def counted(self):
        families = text_string_to_metric_families(self.metrics.text([]).decode())
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def test_a_point_is_what_came_between_two_looks():
    gateway = Gateway()
    gateway.answer(100)
    before = gateway.counted()
    gateway.answer(95, seconds=0.004)
    gateway.answer(5, seconds=0.2, status=503)
    point = point_of(before, gateway.counted(), "digits", 2.0)
    assert (point.per_s, point.errors_ratio, point.p99_s) == (50.0, 0.05, 0.25)


def test_systems_are_told_apart_and_silence_has_no_latency():
    gateway, trends = Gateway(), Trends()
    gateway.answer(1)
    gateway.answer(1, system="faces")
    trends.look(gateway.counted(), 0.0)
    assert trends.lines("digits") == []
    gateway.answer(10)
    trends.look(gateway.counted(), 5.0)
    assert trends.points["digits"][0].per_s == 2.0
    assert trends.points["faces"][0].per_s == 0.0
    assert math.isnan(trends.points["faces"][0].p99_s)
    assert trends.lines("faces")[1].endswith("-")


def test_a_gateway_that_was_started_anew_counts_from_nothing():
    old, new = Gateway(), Gateway()
    old.answer(100)
    new.answer(6)
    assert point_of(old.counted(), new.counted(), "digits", 2.0).per_s == 3.0


def test_the_newest_points_are_kept():
    gateway, trends = Gateway(), Trends()
    for look in range(MOST_POINTS + 5):
        gateway.answer(look)
        trends.look(gateway.counted(), float(look))
    assert len(trends.points["digits"]) == MOST_POINTS
    assert trends.lines("digits")[0].endswith("█ 44.0")


@pytest.mark.parametrize(("values", "bars"), [([0, 1, 2, 4], "▁▃▅█"), ([0, 0], "▁▁"), ([math.nan, 1], " █"), ([], "")])
def test_bars_reach_from_nothing_to_the_largest(values, bars):
    assert sparkline(values) == bars
