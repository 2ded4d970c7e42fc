"""Datagrams between probe and controller: what is said arrives, and nobody else can say it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platformops.health.records import Heartbeat
from platformops.health.wire import (
    LONGEST_BYTES,
    SEAL_BYTES,
    Order,
    RayletState,
    Report,
    Stopped,
    order_bytes,
    order_from,
    report_bytes,
    report_from,
)

KEY, OTHER = b"k" * 32, b"o" * 32
REPORT = Report(
    Heartbeat("n1", 3, 9, 1700000000.25, 0.125),
    RayletState.STOPPED,
    {"fsync_s": 0.015625, "swap_used_ratio": None},
    (Stopped(12, 99, "ray::A", 2.5),),
)
ORDER = Order("n1", 4, 3, 9, ((12, 99),), end_server=True)


def test_reports_and_orders_arrive_as_they_were_said():
    assert report_from(report_bytes(REPORT, KEY), KEY) == REPORT
    assert order_from(order_bytes(ORDER, KEY), KEY) == ORDER


@pytest.mark.parametrize("at", [0, SEAL_BYTES - 1, SEAL_BYTES, SEAL_BYTES + 20, -1])
def test_a_changed_byte_or_another_key_is_heard_by_nobody(at):
    said = bytearray(order_bytes(ORDER, KEY))
    said[at] ^= 1
    assert order_from(bytes(said), KEY) is None
    assert order_from(order_bytes(ORDER, OTHER), KEY) is None


def test_an_order_is_no_report_and_a_report_no_order():
    assert report_from(order_bytes(ORDER, KEY), KEY) is None
    assert order_from(report_bytes(REPORT, KEY), KEY) is None


@given(st.binary(max_size=64))
def test_noise_is_no_report(noise):
    assert report_from(noise, KEY) is None


@given(st.recursive(st.none() | st.booleans() | st.text(max_size=5), lambda s: st.lists(s, max_size=3), max_leaves=6))
def test_sealed_nonsense_is_no_report_and_no_order(value):
    from hashlib import blake2s

    for said in (json.dumps(value).encode(), json.dumps({"n": value, "p": value, "x": value, "k": value}).encode()):
        datagram = blake2s(said, key=KEY, digest_size=SEAL_BYTES).digest() + said
        assert report_from(datagram, KEY) is None
        assert order_from(datagram, KEY) is None


def test_a_full_report_fits_into_a_datagram():
    stopped = tuple(Stopped(2**22 + n, 2**40, "ray::" + "x" * 15, 12.345) for n in range(64))
    readings = {f"reading_number_{n}_ratio": 0.123456789 for n in range(40)}
    assert len(report_bytes(Report(REPORT.heartbeat, RayletState.ANSWERS, readings, stopped), KEY)) < LONGEST_BYTES
