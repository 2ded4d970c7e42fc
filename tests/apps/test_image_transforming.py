"""The same operations give the same pixels in training, evaluation and serving; dice are thrown in training only."""

import cv2
import numpy as np
import pytest

from platformops.apps.contract import Operation
from platformops.apps.image import transforming
from platformops.apps.image.operations import settle
from platformops.apps.image.transforming import augment, transform
from platformops.errors import BadInput

CHANCE = [
    Operation("crop", {"random": 12, "padding": 2}),
    Operation("crop", {"random": [6, 9], "scale": [0.3, 1.0]}),
    Operation("flip", "horizontal"),
    Operation("flip", "vertical"),
    Operation("cutout", 4),
]


def batch(rows: int = 16, height: int = 12, width: int = 12, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, height, width, channels), dtype=np.uint8)


def one(operation: str, value, image: np.ndarray) -> np.ndarray:
    return transform([image], [Operation(operation, value)])[0]


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [((40, 60), 20, (20, 30)), ((60, 40), 20, (30, 20)), ((8, 8), 8, (8, 8)), ((5, 1000), 2, (2, 400))],
)
def test_one_number_resizes_the_shorter_side(shape, side, expected):
    assert one("resize", side, batch(1, *shape)[0]).shape == (*expected, 3)


def test_two_numbers_resize_to_height_and_width():
    assert one("resize", [5, 9], batch()[0]).shape == (5, 9, 3)


def test_an_image_of_the_right_size_is_left_as_it_is():
    assert (one("resize", [12, 12], batch()[0]) == batch()[0]).all()


def test_shrinking_takes_the_mean_of_an_area():
    image = np.zeros((4, 4, 1), np.uint8)
    image[:2, :2] = 200
    assert one("resize", [2, 2], image)[:, :, 0].tolist() == [[200, 0], [0, 0]]


@pytest.mark.parametrize("sides", [(7, 5), (31, 40), (100, 33)])
def test_fine_stripes_shrink_to_grey_and_not_to_other_stripes(sides):
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[::2] = 250
    shrunk = one("resize", list(sides), stripes)
    assert shrunk.shape == (*sides, 3)
    assert shrunk.min() >= 60
    assert shrunk.max() <= 190


def test_an_odd_size_shrinks_close_to_the_mean_of_its_areas():
    image = cv2.resize(batch(1, 9, 7)[0], (333, 257), interpolation=cv2.INTER_CUBIC)
    areas = cv2.resize(image, (40, 50), interpolation=cv2.INTER_AREA)
    assert np.abs(one("resize", [50, 40], image).astype(int) - areas).mean() < 2


def test_the_centre_is_a_square_of_the_shorter_side():
    image = batch(1, 10, 20)[0]
    assert (one("crop", "center", image) == image[:, 5:15]).all()


def test_a_crop_larger_than_the_image_enlarges_it_first():
    assert one("crop", 24, batch(1, 6, 12)[0]).shape == (24, 24, 3)


def test_grey_and_colour_become_each_other():
    grey = batch(1, channels=1)[0]
    assert (one("channels", 3, grey) == np.repeat(grey, 3, axis=2)).all()
    assert (one("channels", 1, np.repeat(grey, 3, axis=2)) == grey).all()


@pytest.mark.parametrize("operation", CHANCE, ids=str)
def test_transform_throws_no_dice(operation):
    assert (transform(batch(), [operation]) == transform(list(batch()), [operation])).all()


@pytest.mark.parametrize("operation", CHANCE, ids=str)
def test_augment_has_the_shape_of_transform_and_leaves_its_input_alone(operation):
    rows = batch(height=14)
    before = rows.copy()
    augmented = augment(rows, [operation], np.random.default_rng(3))
    assert augmented.shape == transform(rows, [operation]).shape
    assert augmented.dtype == np.uint8
    assert (rows == before).all()


@pytest.mark.parametrize("operation", CHANCE, ids=str)
def test_augment_repeats_with_the_same_dice_and_differs_with_others(operation):
    first, again, other = (augment(batch(64), [operation], np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert (first == again).all()
    assert (first != other).any()


def test_a_padded_random_crop_is_a_window_of_the_mirrored_image():
    row = batch(1)
    padded = np.pad(row[0], ((2, 2), (2, 2), (0, 0)), mode="symmetric")
    windows = {padded[y : y + 12, x : x + 12].tobytes() for y in range(5) for x in range(5)}
    found = {image.tobytes() for image in augment(np.repeat(row, 400, axis=0), CHANCE[:1], np.random.default_rng(0))}
    assert found == windows


def test_a_flip_turns_about_half_of_the_rows():
    rows = np.repeat(batch(1), 1000, axis=0)
    flipped = (augment(rows, [Operation("flip", "horizontal")], np.random.default_rng(0)) != rows).any(axis=(1, 2, 3))
    assert 400 < flipped.sum() < 600


def test_a_random_window_keeps_within_its_share_of_the_area():
    # Each pixel holds its own column: the widest window is seen from the range of values.
    rows = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, None, :, None], (300, 200, 200, 1))
    windows = augment(rows, [Operation("crop", {"random": 50, "scale": [0.25, 0.25]})], np.random.default_rng(0))
    widths = windows[:, 0, -1, 0].astype(int) - windows[:, 0, 0, 0]
    assert widths.min() >= 80
    assert widths.max() <= 120


def test_a_cutout_hides_at_most_its_square():
    rows = batch(50)
    hidden = (augment(rows, [Operation("cutout", 4)], np.random.default_rng(0)) != rows).any(axis=3).sum(axis=(1, 2))
    assert hidden.max() <= 16
    assert hidden.min() >= 1


@pytest.mark.parametrize("value", [{"resize": 224}, {"crop": 224}, {"crop": {"random": 224}}, {"resize": 4096}])
@pytest.mark.parametrize("shape", [(1, 60_000, 3), (60_000, 1, 1)])
def test_a_line_of_pixels_is_refused_before_it_grows_to_gigabytes(value, shape):
    ((name, size),) = value.items()
    with pytest.raises(BadInput, match="too long and narrow") as refused:
        transform([np.zeros(shape, np.uint8)], [Operation(name, size)])
    assert refused.value.code == "extreme_shape"


def test_a_line_of_pixels_among_the_first_rows_does_not_decide_how_the_others_are_prepared():
    samples = [np.zeros((1, 60_000, 3), np.uint8), np.zeros((300, 400, 3), np.uint8)]
    settled = settle([Operation("resize", 224), Operation("crop", "center")], samples)
    assert settled.input_shape == (224, 224, 3)


def test_a_large_image_may_still_be_made_smaller():
    panorama = np.zeros((100, 300_000, 1), np.uint8)
    assert transform([panorama], [Operation("resize", 50)]).shape == (1, 50, 150_000, 1)


def test_a_batch_that_needs_nothing_is_not_copied():
    rows = batch()
    assert transform(rows, [Operation("resize", [12, 12]), Operation("normalize", "auto")]) is rows


def test_an_image_that_is_changed_goes_through_its_operations_once(monkeypatch):
    seen, resized = [], transforming.resized
    monkeypatch.setattr(transforming, "resized", lambda image, size: seen.append(size) or resized(image, size))
    batch = transform([np.zeros((16, 24, 3), dtype=np.uint8)] * 2, [Operation("resize", [8, 8])])
    assert (batch.shape, seen) == ((2, 8, 8, 3), [(8, 8)] * 2)
