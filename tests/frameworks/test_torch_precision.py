"""What makes training fast costs no accuracy: bfloat16 where float32 would do, pixels last in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from platformops.apps.contract import ModelParams, Operation, Preparation
from platformops.apps.load import load_app
from platformops.apps.prepared import SplitRows, open_prepared, write_dataset, write_shard
from platformops.clock import ManualClock
from platformops.frameworks.torch import fit
from platformops.spec.types import TrainSpec

APP = load_app("image", Path("."))
OPERATIONS = (Operation("channels", 1), Operation("resize", [8, 8]), Operation("normalize", "auto"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """scikit-learn's digits, a quarter held out."""
    directory, found = tmp_path_factory.mktemp("digits"), load_digits()
    images = np.round(found.images * (255 / 16)).astype(np.uint8)[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    splits = {}
    for name, rows in {"train": order[:1347], "validation": order[1347:], "test": order[:1]}.items():
        shard = write_shard(directory, name, 0, images[rows])
        splits[name] = SplitRows([shard], found.target[rows].tolist(), [str(row) for row in rows])
    write_dataset(
        directory,
        classes=[str(digit) for digit in range(10)],
        preparation=Preparation(OPERATIONS, 2, (8, 8, 1), None, None),
        mean=[0.305],
        std=[0.376],
        splits=splits,
        quarantine=[],
        digest="d",
    )
    return open_prepared(directory)


def params(digits) -> ModelParams:
    return ModelParams("small_cnn", digits.input_shape, digits.classes, digits.mean, digits.std, {"width": 16})


def test_bfloat16_reaches_the_accuracy_of_float32_on_digits(digits):
    reached = {}
    for precision in ("float32", "bfloat16"):
        settings = TrainSpec(epochs=8, batch_size=64, lr=0.1, precision=precision, seed=3)
        reached[precision] = fit(APP, digits, params(digits), settings, clock=ManualClock()).history[-1].accuracy
    assert reached["float32"] >= 0.97
    assert reached["bfloat16"] >= reached["float32"] - 0.01


def test_channels_last_gives_the_loss_and_gradients_of_contiguous_memory(digits):
    torch.manual_seed(0)
    plain = APP.build_model(params(digits))
    last = APP.build_model(params(digits))
    last.load_state_dict(plain.state_dict())
    last.to(memory_format=torch.channels_last)
    batch = torch.from_numpy(digits.splits["train"].images.slice(0, 64))
    labels = torch.from_numpy(digits.splits["train"].labels[:64])
    losses = [torch.nn.functional.cross_entropy(model(batch), labels) for model in (plain, last)]
    for loss in losses:
        loss.backward()
    assert torch.allclose(*losses, rtol=1e-4)
    for one, other in zip(plain.parameters(), last.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-2, atol=1e-4)
