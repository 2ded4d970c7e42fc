"""The recorded and simulated heartbeats at hand: what the default policy makes of them."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("PLATFORMOPS_DATA", "../shared/data")) / "health"


@pytest.fixture
def fleets():
    from benchmarks import heartbeat_fleet, liveness

    return liveness, heartbeat_fleet


def test_a_short_simulated_fleet_loses_no_crash_and_condemns_nobody_in_a_stall(fleets):
    liveness, fleet = fleets
    outcome = liveness.Outcome()
    taken = liveness.play(fleet.simulate_fleet(3, num_nodes=24, duration_s=400.0), outcome)
    assert outcome.missed == 0
    assert outcome.in_stalls == 0
    assert len(taken) == 8


@pytest.mark.skipif(
    not (DATA / "heartbeats_udp.parquet").exists(), reason="no recorded heartbeats below PLATFORMOPS_DATA"
)
def test_recorded_senders_that_live_are_condemned_at_most_three_times(fleets):
    import pandas as pd

    liveness, _ = fleets
    frame = pd.read_parquet(DATA / "heartbeats_udp.parquet")
    frame = frame[frame.scenario.isin(["freeze", "cpu10", "gc"])]
    groups = frame.groupby("scenario", observed=True)
    false = [liveness.Recording(rows, second_channel=False).num_false() for _, rows in groups]
    assert sum(false) <= 3
