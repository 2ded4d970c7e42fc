"""The layers do what their names say, and networks take any honest input shape."""

import numpy as np
import pytest
import torch

from platformops.apps.contract import ModelParams
from platformops.apps.image import build_model
from platformops.apps.image.layers import Flipped, Normalized, Whitening

CLASSES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def _one_thread_and_known_dice():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def params(model: str, shape: tuple[int, int, int], **options) -> ModelParams:
    channels = shape[2]
    return ModelParams(model, shape, CLASSES, (0.4,) * channels, (0.2,) * channels, options)


@pytest.mark.parametrize("model", ["small_cnn", "resnet9", "torchvision:resnet18"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (20, 48, 3)])
def test_networks_take_uint8_rows_of_any_shape(model, shape):
    network = build_model(params(model, shape)).eval()
    logits = network(torch.randint(0, 256, (5, *shape), dtype=torch.uint8))
    assert logits.shape == (5, 3)
    assert torch.isfinite(logits).all()


def test_a_stem_shrinks_large_images():
    assert build_model(params("resnet9", (96, 64, 3), width=8, deep=8, stem=2)).eval()(
        torch.zeros(2, 96, 64, 3, dtype=torch.uint8)
    ).shape == (2, 3)


def test_normalization_gives_zero_mean_and_unit_deviation_channels_last():
    rows = np.random.default_rng(0).integers(0, 256, (50, 6, 6, 2), dtype=np.uint8)
    shares = rows / 255
    normalized = Normalized(shares.mean(axis=(0, 1, 2)), shares.std(axis=(0, 1, 2)))(torch.from_numpy(rows))
    assert normalized.shape == (50, 2, 6, 6)
    assert normalized.is_contiguous(memory_format=torch.channels_last)
    assert normalized.mean().abs() < 1e-5
    assert abs(normalized.std() - 1) < 1e-3


def test_whitened_patches_are_uncorrelated_with_equal_variance():
    smooth = torch.nn.functional.avg_pool2d(torch.randn(100, 3, 20, 20), 3, stride=1)
    layer = Whitening(3, size=2)
    layer.calibrate(smooth)
    answers = layer(smooth)[:, : layer.out_channels // 2].transpose(0, 1).flatten(1)
    covariance = answers @ answers.T / answers.shape[1]
    deviation = (covariance - torch.diag(covariance.diagonal())).abs().max()
    assert deviation < 0.01
    assert covariance.diagonal().min() > 0.5
    assert covariance.diagonal().max() < 1.01


def test_the_second_half_of_whitened_channels_is_the_opposite_of_the_first():
    layer = Whitening(1, size=2)
    images = torch.randn(4, 1, 6, 6)
    layer.calibrate(images)
    first, second = layer(images).chunk(2, dim=1)
    assert torch.allclose(first, -second, atol=1e-5)


def test_a_flipped_network_answers_alike_for_an_image_and_its_mirror_image():
    network = Flipped(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16, 3)))
    images = torch.randn(5, 3, 4, 4)
    assert not torch.allclose(network(images), network(images.flip(3)))
    network.eval()
    assert torch.allclose(network(images), network(images.flip(3)), atol=1e-6)
