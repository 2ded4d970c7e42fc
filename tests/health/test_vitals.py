"""What is read of the kernel's files: differences of counters, shares, and None for what it does not say."""

import pytest

from platformops.health.vitals import Counters, Texts, counters, process_stat, readings

STAT = "cpu  100 0 50 800 10 0 5 35 0 0\ncpu0 50 0 25 400 5 0 2 17 0 0\n"
LATER = "cpu  190 0 60 800 10 0 5 35 0 0\n"
MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    250 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"
NET = """Inter-|   Receive        |  Transmit
 face |bytes    packets errs drop fifo frame ...
    lo: 9 9 7 7 0 0 0 0 9 9 7 7 0 0 0 0
  eth0: 9 9 1 2 0 0 0 0 9 9 3 4 0 0 0 0
"""
PRESSURE = "some avg10=12.50 avg60=1.00 avg300=0.00 total=9\nfull avg10=2.00 avg60=0.00 avg300=0.00 total=3\n"


def test_readings_are_shares_of_what_passed_between_two_looks():
    before = counters(Texts(stat=STAT))
    found = readings(
        Texts(stat=LATER, meminfo=MEMINFO, net_dev=NET, file_nr="800 0 1600\n", pressure_io=PRESSURE), before
    )
    assert found["cpu_busy_ratio"] == pytest.approx(1.0)
    assert found["cpu_steal_ratio"] == 0.0
    assert found["memory_available_ratio"] == pytest.approx(0.25)
    assert found["io_stall_ratio"] == pytest.approx(0.02)
    assert found["file_handles_ratio"] == pytest.approx(0.5)
    assert found["network_errors"] == 10.0


def test_what_the_kernel_does_not_say_is_none_and_not_zero():
    found = readings(Texts(), Counters())
    assert set(found.values()) == {None}
    assert readings(Texts(meminfo=MEMINFO), Counters())["swap_used_ratio"] is None


def test_a_network_counter_that_was_reset_is_no_flood_of_errors():
    assert readings(Texts(net_dev=NET), Counters(network_errors=99))["network_errors"] == 0.0


VERSION_1 = ("512000\n", "460800\n", "cache 1\ninactive_file 1\ntotal_inactive_file 25600\n")
VERSION_2 = ("512000\n", "460800\n", "anon 9\ninactive_file 25600\n")


@pytest.mark.parametrize(
    ("group", "left"),
    [
        (VERSION_1, 0.15),
        (VERSION_2, 0.15),
        (("max\n", "460800\n", ""), 0.25),
        (("9223372036854771712\n", "460800\n", ""), 0.25),
        (("512000\n", "0\n", ""), 0.25),
        (("", "", ""), 0.25),
    ],
)
def test_memory_is_that_of_the_machine_or_of_the_group_where_that_leaves_less(group, left):
    texts = Texts(meminfo=MEMINFO, group_limit=group[0], group_used=group[1], group_stat=group[2])
    assert readings(texts, Counters())["memory_available_ratio"] == pytest.approx(left)


@pytest.mark.parametrize("name", ["python3", "a b", "x) R (y", "((("])
def test_a_process_is_read_whatever_it_is_called(name):
    text = f"17 ({name}) T 1 17 17 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 4711 1000 10 0"
    found = process_stat(text)
    assert (found.name, found.state, found.started) == (name, "T", 4711)


@pytest.mark.parametrize("text", ["", "17 (cut", "17 (cut) R 1"])
def test_a_process_that_is_gone_meanwhile_is_none(text):
    assert process_stat(text) is None


@pytest.mark.parametrize(("quota", "granted"), [("5000 100000", 0.05), ("max 100000", None), ("-1 100000", None)])
def test_a_quota_is_told_in_processors_and_the_share_of_its_periods_that_ran_out(quota, granted):
    before = counters(Texts(quota_stat="nr_periods 10\nnr_throttled 4\nthrottled_time 99\n"))
    found = readings(Texts(quota=quota, quota_stat="nr_periods 30\nnr_throttled 19\nthrottled_time 999\n"), before)
    assert found["cpu_granted"] == granted
    assert found["cpu_throttled_ratio"] == pytest.approx(0.75)
    assert (
        readings(Texts(quota=quota, quota_stat="nr_periods 10\nnr_throttled 4\n"), before)["cpu_throttled_ratio"]
        is None
    )
