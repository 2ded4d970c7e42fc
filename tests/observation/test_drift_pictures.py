"""Pictures: another encoder is no drift; another camera is."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from platformops.observation.drift.pictures import COLUMNS, profiles
from platformops.observation.drift.records import Kind, Stream
from platformops.observation.drift.watch import Watch

CIFAR = Path(os.environ.get("PLATFORMOPS_DATA", "../shared/data")) / "apps" / "images" / "cifar10"
STREAMS = [Stream(name, Kind.INPUT) for name in COLUMNS]


@pytest.fixture(scope="module")
def photographs():
    """1,000 real ones, at most 32x32."""
    files = sorted(CIFAR.glob("test-*.parquet"))
    if not files:
        pytest.skip(f"PLATFORMOPS_DATA has no {CIFAR}")
    import pyarrow.parquet as pq

    encoded = pq.read_table(files[0], columns=["image"]).column("image").slice(0, 1000).to_pylist()
    return [cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1] for one in encoded]


def saved_again(image, quality):
    encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[:, :, ::-1]


def found_in(photographs, change):
    watch = Watch(STREAMS, profiles(photographs[:400]))
    return watch.observe(profiles([change(image) for image in photographs[400:]]))


@pytest.mark.parametrize("quality", [60, 75, 95])
def test_pictures_that_were_encoded_again_are_the_same(photographs, quality):
    assert found_in(photographs, lambda image: saved_again(image, quality)) == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda image: (image * 0.7).astype(np.uint8),
        lambda image: np.clip(image.astype(int) + np.array((25, 0, -25)), 0, 255).astype(np.uint8),
        lambda image: cv2.GaussianBlur(image, (0, 0), 2.5),
        lambda image: (image * 0.6 + 50).astype(np.uint8),
    ],
    ids=["darker", "warmer", "blurred", "hazy"],
)
def test_pictures_of_another_camera_are_found_within_500(photographs, change):
    found = found_in(photographs, change)
    assert found
    assert found[0].row <= 500


def test_an_image_of_one_pixel_has_a_profile():
    assert np.isfinite(profiles([np.zeros((1, 1, 3), np.uint8)])).all()
