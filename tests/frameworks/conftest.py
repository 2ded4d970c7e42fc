"""A small prepared dataset that a network learns in about a second."""

import numpy as np
import pytest
import torch

from platformops.apps.contract import ModelParams, Operation, Preparation
from platformops.apps.prepared import SplitRows, open_prepared, write_dataset, write_shard

OPERATIONS = (
    Operation("channels", 3),
    Operation("resize", [8, 8]),
    Operation("crop", {"random": 8, "padding": 1}),
    Operation("flip", "horizontal"),
    Operation("normalize", "auto"),
)


def labelled(rows: int, seed: int) -> tuple[np.ndarray, list[int]]:
    """Noise in which the brightest of three bands names the class."""
    dice = np.random.default_rng(seed)
    labels = dice.integers(0, 3, rows)
    images = dice.integers(0, 120, (rows, 8, 8, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label * 3 : label * 3 + 2] += 90
    return images, labels.tolist()


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    directory = tmp_path_factory.mktemp("prepared")
    splits = {}
    for seed, (name, rows) in enumerate({"train": 200, "validation": 60, "test": 40}.items()):
        images, labels = labelled(rows, seed)
        shards = [write_shard(directory, name, n, part) for n, part in enumerate(np.array_split(images, 3))]
        splits[name] = SplitRows(shards, labels, [f"{name}{n}" for n in range(rows)])
    write_dataset(
        directory,
        classes=["top", "middle", "bottom"],
        preparation=Preparation(OPERATIONS, 2, (8, 8, 3), None, None),
        mean=[0.3] * 3,
        std=[0.2] * 3,
        splits=splits,
        quarantine=[],
        digest="d",
    )
    return open_prepared(directory)


@pytest.fixture
def params(dataset):
    return ModelParams("small_cnn", dataset.input_shape, dataset.classes, dataset.mean, dataset.std, {"width": 8})
