"""The driver's side of preparation: what tasks wrote becomes one dataset. Tasks run in this process here."""

import json

import cv2
import numpy as np
import pytest

from platformops.apps.load import load_app
from platformops.apps.prepared import open_prepared
from platformops.errors import DataRefused
from platformops.on_ray import data
from platformops.on_ray.read import pack, unpack
from platformops.spec.types import CheckSpec, SplitSpec


@pytest.fixture(autouse=True)
def _tasks_in_this_process(monkeypatch):
    def read(reader, check, quarantine, progress):
        app = load_app(reader.app_ref, reader.root)
        for number in range(len(reader.groups)):
            record = pack(reader.read(app, number))
            packed = unpack(record["meta"][0], record["payload"][0])
            quarantine += packed.quarantine
            yield packed

    monkeypatch.setattr(data, "_read", read)


def folders(root, rows: int, first: int = 0) -> str:
    """Class folders with `rows` images; image `n` is always the same, whatever its name."""
    for number in range(first, first + rows):
        folder = root / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:03d}.png"), pixels)
    return str(root)


def prepare(tmp_path, source, test=None, **changes):
    output = tmp_path / "prepared"
    output.mkdir()
    settings = {"check": CheckSpec(), "split": SplitSpec(train=0.6, validation=0.2, test=0.2)} | changes
    request = data.Request(
        "image", tmp_path, source, test, settings["split"], ({"normalize": "auto"},), settings["check"], {}
    )
    counts = data.prepare(request, output, lambda ratio, message, **figures: None)
    return counts, open_prepared(output)


def test_all_rows_are_in_one_split_with_statistics_of_the_training_pixels(tmp_path):
    counts, dataset = prepare(tmp_path, folders(tmp_path / "rows", 60))
    assert sum(counts[name] for name in ("train", "validation", "test")) == 60
    assert counts["classes"] == ["cat", "dog"]
    train = dataset.splits["train"].images.slice(0, 100).reshape(-1, 3) / 255.0
    assert dataset.mean == pytest.approx(train.mean(axis=0))
    assert dataset.std == pytest.approx(train.std(axis=0))


def test_a_row_of_the_test_source_is_never_trained_on(tmp_path):
    source = folders(tmp_path / "rows", 60)
    test = folders(tmp_path / "held", 30, first=50)
    counts, dataset = prepare(tmp_path, source, test, split=SplitSpec(train=0.7, validation=0.3, test=0.0))
    assert counts["duplicates_dropped"] == 10
    assert counts["test"] == dataset.splits["test"].rows == 30
    assert counts["train"] + counts["validation"] == 50
    with np.load(tmp_path / "prepared" / "raw-test-rows.npz") as raw:
        assert len(raw["labels"]) == 30


def test_the_same_rows_make_the_same_files_each_time(tmp_path):
    source, files = folders(tmp_path / "rows", 40), []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        prepare(tmp_path / name, source)
        files.append({path.name: path.read_bytes() for path in (tmp_path / name / "prepared").iterdir()})
    assert files[0] == files[1]


def test_too_many_unreadable_rows_are_refused_with_the_first_reasons(tmp_path):
    source = folders(tmp_path / "rows", 40)
    for number in range(0, 40, 8):
        (tmp_path / "rows" / "dog" / f"{number:03d}.png").write_bytes(b"not an image")
    with pytest.raises(DataRefused, match="5 of 40 rows cannot be read"):
        prepare(tmp_path, source)


def test_the_quarantine_names_each_row_that_was_left_out(tmp_path):
    source = folders(tmp_path / "rows", 40)
    (tmp_path / "rows" / "dog" / "000.png").write_bytes(b"not an image")
    counts, _ = prepare(tmp_path, source, check=CheckSpec(missing_ratio=0.1))
    assert counts["quarantined"] == 1
    (entry,) = json.loads((tmp_path / "prepared" / "quarantine.json").read_text())
    assert entry["id"] == "dog/000.png"
