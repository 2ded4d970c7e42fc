"""Cases made from recorded failures: what lies after a landmark must not show in what is known at it."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.failure_cases import counts_within, frozen_priors, newest
from benchmarks.failure_disks import SMART, load_backblaze
from benchmarks.failure_lanl import load_lanl

START = pd.Timestamp("2001-01-01")


def lanl_table(rng, num=300, nodes=12, days=400):
    return pd.DataFrame(
        {
            "system": 5,
            "node": rng.integers(0, nodes, num).astype(float),
            "start": START + pd.to_timedelta(np.sort(rng.random(num)) * days, unit="D"),
            "cause": rng.choice(["Hardware", "Software"], num),
            "nodes_in_system": float(nodes),
        }
    )


def test_what_is_known_at_a_landmark_does_not_change_with_the_future(tmp_path):
    table = lanl_table(np.random.default_rng(1))
    (tmp_path / "all").mkdir()
    (tmp_path / "past").mkdir()
    table.to_parquet(tmp_path / "all" / "lanl_node_failures.parquet")
    past = table[table["start"] < START + pd.Timedelta(days=250)]
    past.to_parquet(tmp_path / "past" / "lanl_node_failures.parquet")
    full, cut = load_lanl(tmp_path / "all"), load_lanl(tmp_path / "past")
    rows = len(cut.failed)
    assert 0 < rows < len(full.failed)
    for name, values in cut.columns.items():
        np.testing.assert_array_equal(values, full.columns[name][:rows], err_msg=name)
    np.testing.assert_allclose(cut.priors, full.priors[:rows])
    np.testing.assert_allclose(cut.reference, full.reference[:rows])


def test_a_node_without_a_failure_is_in_the_roster_too(tmp_path):
    table = lanl_table(np.random.default_rng(2), nodes=12)
    table["node"] = table["node"] % 3
    table.to_parquet(tmp_path / "lanl_node_failures.parquet")
    assert len(load_lanl(tmp_path).failed) % 12 == 0


def test_a_disk_is_judged_at_landmarks_and_not_where_its_rows_end(tmp_path):
    table = pd.DataFrame(
        {
            "disk": [0, 0, 1],
            "model": ["m", "m", "m"],
            "manufacturer": ["ST", "ST", "WDC"],
            "size_tb": [4.0, 4.0, 2.0],
            "tstart": [100, 900, 0],
            "tstop": [900, 1500, 1000],
            "fails": [0, 1, 0],
            **{name: [0.0, 5.0, 1.0] for name in SMART},
        }
    )
    table.to_parquet(tmp_path / "backblaze_smart.parquet")
    cases = load_backblaze(tmp_path)
    # Disk 0 fails at 1500: not within 720 h of 720, but of 1440. Disk 1 is seen from 0 to 1000: known at 0 only.
    assert list(
        zip(cases.groups.tolist(), cases.columns["power_hours"].tolist(), cases.failed.tolist(), strict=True)
    ) == [
        (0, 720.0, 0.0),
        (0, 1440.0, 1.0),
        (1, 0.0, 0.0),
    ]
    assert cases.columns["smart_5_rise"][1] == 5.0
    priors = frozen_priors(cases, cases)
    assert ((priors > 0.0) & (priors < 1.0)).all()


def test_an_event_at_the_landmark_is_known_and_one_after_it_is_not():
    times = np.asarray([7.0, 7.5])
    assert counts_within([times], np.asarray([7.0]), 7.0)[0, 0] == 1.0
    assert newest(times, np.asarray([6.0, 7.0, 8.0])).tolist() == pytest.approx([np.nan, 7.0, 7.5], nan_ok=True)
