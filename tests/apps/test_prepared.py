"""A prepared dataset reads as one array over its shards, and refuses files that disagree with its description."""

import json

import numpy as np
import pytest

from platformops.apps.contract import Operation, Preparation
from platformops.apps.prepared import ShardWriter, SplitRows, open_prepared, write_dataset, write_shard
from platformops.errors import ArtifactCorrupt

OPERATIONS = (Operation("resize", [2, 3]), Operation("flip", "horizontal"), Operation("normalize", "auto"))


def images(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, 2, 3, 1), dtype=np.uint8)


@pytest.fixture
def written(tmp_path):
    shards = [write_shard(tmp_path, "train", n, images(rows, n)) for n, rows in enumerate([4, 1, 5])]
    splits = {
        "train": SplitRows(shards, list(range(10)), [f"t{n}" for n in range(10)]),
        "validation": SplitRows([], [], []),
        "test": SplitRows([write_shard(tmp_path, "test", 0, images(2, 9))], [1, 0], ["a", "ü"]),
    }
    write_dataset(
        tmp_path,
        classes=["no", "yes"],
        preparation=Preparation(OPERATIONS, 1, (2, 3, 1), None, None),
        mean=[0.5],
        std=[0.25],
        splits=splits,
        quarantine=[{"id": "bad", "reason": "truncated"}],
        digest="d",
    )
    return tmp_path


def test_rows_come_in_the_order_asked_for_across_shards(written):
    train = open_prepared(written).splits["train"]
    together = np.concatenate([images(4, 0), images(1, 1), images(5, 2)])
    asked = np.array([9, 0, 4, 4, 3, 5])
    assert (train.images.gather(asked) == together[asked]).all()
    assert (train.images.slice(3, 99) == together[3:]).all()
    assert len(train.images) == train.rows == 10


def test_everything_written_is_read_back(written):
    dataset = open_prepared(written)
    assert dataset.classes == ("no", "yes")
    assert dataset.input_shape == (2, 3, 1)
    assert (dataset.mean, dataset.std, dataset.digest, dataset.quarantined) == ((0.5,), (0.25,), "d", 1)
    assert dataset.operations == OPERATIONS
    assert dataset.remaining == OPERATIONS[1:]
    assert dataset.splits["test"].ids == ("a", "ü")
    assert dataset.splits["test"].labels.tolist() == [1, 0]
    assert json.loads((written / "quarantine.json").read_text()) == [{"id": "bad", "reason": "truncated"}]


def test_a_shard_that_grew_by_batches_is_one_array(tmp_path):
    shard = ShardWriter(tmp_path, "grown.npy")
    batches = [images(rows, rows) for rows in (3, 1, 7)]
    for batch in batches:
        shard.append(batch[:, ::-1])
    shard.close()
    together = np.concatenate(batches)[:, ::-1]
    assert (np.load(tmp_path / "grown.npy", mmap_mode="r") == together).all()
    assert shard.num_bytes == together.nbytes


def test_a_split_without_rows_is_empty(written):
    validation = open_prepared(written).splits["validation"]
    assert validation.rows == len(validation.images) == 0


def test_a_shard_with_a_row_too_few_is_refused(written):
    write_shard(written, "train", 1, images(2))
    with pytest.raises(ArtifactCorrupt, match="train says 10 rows and has 11 images"):
        open_prepared(written)


def test_a_shard_that_is_a_pickle_is_refused(written):
    np.save(written / "train-00001.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactCorrupt, match=r"train-00001\.npy"):
        open_prepared(written)


def test_a_shard_of_floats_is_refused(written):
    np.save(written / "train-00001.npy", np.zeros((1, 2, 3, 1)))
    with pytest.raises(ArtifactCorrupt, match="float64"):
        open_prepared(written)


def test_a_cut_shard_is_refused(written):
    path = written / "train-00000.npy"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ArtifactCorrupt, match=r"train-00000\.npy"):
        open_prepared(written)
