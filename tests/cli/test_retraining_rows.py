"""The rows of a retraining: which are new, which judge, and which window the newest labels speak for."""

import cv2
import numpy as np
import pytest

from platformops.apps.load import load_app
from platformops.cli import retraining_rows
from platformops.cli.retraining_rows import Gathered, LabelledRow, chosen_window, gather, read_rows, write_rows
from platformops.delivery.retraining import Order, Phase
from platformops.errors import DataRefused, UserError
from platformops.gateway.inputs import Inputs
from platformops.spec.types import DataSpec, PlatformSpec
from platformops.store.memory import MemoryStore
from platformops.store.records import Put

APP = load_app("image", None)
ORDER = Order("img", 1, Phase.CHOOSE, since=1000.0, until=1290.0)


def picture(bright, luck):
    """Half of it bright, on the left or on the right."""
    pixels = luck.integers(0, 40, (8, 8, 3), np.uint8)
    pixels[:, slice(0, 4) if bright == "left" else slice(4, 8)] += 200
    return cv2.imencode(".png", pixels)[1].tobytes()


def rows(count, luck, *, swapped=False):
    sides = luck.choice(["left", "right"], count)
    other = {"left": "right", "right": "left"}
    return tuple(
        LabelledRow(f"{swapped}-{i}", picture(s, luck), other[s] if swapped else s) for i, s in enumerate(sides)
    )


def nobody_knows(contents):
    return np.zeros((len(contents), 2))


@pytest.fixture
def samples(tmp_path):
    """300 answers, one a second since 900; labelled five seconds later, the last ten after the work began."""
    store, inputs = MemoryStore(), Inputs(tmp_path)
    inputs.systems = frozenset({"img"})
    for i in range(300):
        inputs.keep("img", f"r{i:03}", f"{i}".encode())
        at = 900.0 + i
        value = {"request_id": f"r{i:03}", "at": at, "truth": "left", "truth_at": at + 105.0 * (i > 290) + 5.0}
        store.commit([Put(f"sample/img/r{i:03}", value, None)])
    inputs.flush()
    return store, tmp_path


def test_rows_that_came_after_the_change_are_new_and_the_newest_third_judges(samples):
    found = gather(*samples, ORDER, [LabelledRow("source", b"", "left")])
    assert [row.id for row in found.old] == ["source", *(f"r{i:03}" for i in range(100))]
    assert [row.id for row in found.new] == [f"r{i:03}" for i in range(100, 228)]
    assert [row.id for row in found.recent] == [f"r{i:03}" for i in range(228, 291)]


def test_labels_that_come_while_the_work_goes_on_change_nothing(samples):
    before = gather(*samples, ORDER, [])
    samples[0].commit(
        [Put("sample/img/late", {"request_id": "late", "at": 1100.0, "truth": "x", "truth_at": 9e9}, None)]
    )
    assert gather(*samples, ORDER, []) == before


def test_too_few_new_rows_are_refused_with_their_number(samples):
    with pytest.raises(DataRefused, match="11 labelled rows since the change are too few, 100"):
        gather(*samples, Order("img", 1, Phase.CHOOSE, since=1180.0, until=1290.0), [])


def test_a_concept_that_turned_round_is_learnt_from_what_came_since():
    luck = np.random.default_rng(0)
    gathered = Gathered(rows(600, luck), rows(200, luck, swapped=True), ())
    name, errors = chosen_window(gathered, nobody_knows, app=APP, max_pixels=10_000)
    assert name in ("rows since the change", "the newest 10%", "the newest 25%")
    assert errors["all rows"] > 0.3 > errors[name]
    assert {row.id.split("-")[0] for row in retraining_rows.window_rows(gathered, "rows since the change")} == {"True"}


def test_where_nothing_turned_round_all_rows_are_trained_on():
    luck = np.random.default_rng(0)
    gathered = Gathered(rows(600, luck), rows(200, luck), ())
    name, _ = chosen_window(gathered, nobody_knows, app=APP, max_pixels=10_000)
    assert name == "all rows"
    assert retraining_rows.window_rows(gathered, name) == list(gathered.fitted)


def test_a_window_that_weighs_old_rows_less_keeps_fewer_of_them_and_always_the_same():
    gathered = Gathered(rows(600, np.random.default_rng(0)), rows(200, np.random.default_rng(0), swapped=True), ())
    kept = retraining_rows.window_rows(gathered, "all rows, halved 4 times")
    assert kept == retraining_rows.window_rows(gathered, "all rows, halved 4 times")
    old = sum(row.id.startswith("False") for row in kept)
    assert 0.1 * 600 < old < 0.5 * 600
    assert len(kept) - old > 0.6 * 200


def test_rows_are_the_same_after_they_were_written(tmp_path):
    found = rows(5, np.random.default_rng(0))
    write_rows(tmp_path / "a" / "rows.parquet", found, {"image": "photo"})
    assert tuple(read_rows(tmp_path / "a" / "rows.parquet", {"image": "photo"})) == found
    first = (tmp_path / "a" / "rows.parquet").read_bytes()
    write_rows(tmp_path / "a" / "rows.parquet", found, {"image": "photo"})
    assert (tmp_path / "a" / "rows.parquet").read_bytes() == first


def test_the_rows_of_the_systems_own_source_are_read_and_a_stages_output_is_refused(tmp_path):
    spec = PlatformSpec(system="img", app="image", data=DataSpec(source="sklearn://digits"), gates={"accuracy": ">= 0"})
    assert len(retraining_rows.source_rows(APP, spec, tmp_path, None)) == 1797
    made = spec.model_copy(update={"data": DataSpec(source="stage://join")})
    with pytest.raises(UserError, match="made by a stage"):
        retraining_rows.source_rows(APP, made, tmp_path, None)
