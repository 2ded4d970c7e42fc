"""What can be written under `data.prepare`, what is refused and how, and what it comes to for given rows."""

import numpy as np
import pytest

from platformops.apps.contract import Operation
from platformops.apps.image.operations import operations, settle
from platformops.errors import SpecError

GREY, COLOUR = np.zeros((8, 8, 1), np.uint8), np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "entry",
    [
        {"resize": 32},
        {"resize": [24, 32]},
        {"crop": "center"},
        {"crop": 128},
        {"crop": {"random": 32, "padding": 4}},
        {"crop": {"random": [20, 30]}},
        {"crop": {"random": 112, "scale": [0.35, 1]}},
        {"flip": "horizontal"},
        {"cutout": 8},
        {"channels": 1},
        {"normalize": "auto"},
        {"normalize": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}},
        {"normalize": {"mean": 0.5, "std": 0.25}},
    ],
)
def test_the_grammar_accepts(entry):
    ((name, value),) = entry.items()
    assert operations([entry]) == (Operation(name, value),)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"rezise": 32}, "unknown operation 'rezise': did you mean 'resize'?"),
        ({"resize": 0}, "resize: a number of pixels from 1 to 4096"),
        ({"resize": True}, "resize: a number"),
        ({"resize": [32]}, "or [height, width] (got [32])"),
        ({"resize": 3.5}, "resize: a number"),
        ({"resize": 1e30}, "resize: a number"),
        ({"crop": "centre"}, "crop: `center`"),
        ({"crop": {"random": 32, "pading": 4}}, "unknown key 'pading'"),
        ({"crop": {"padding": 4}}, "random: a number of pixels"),
        ({"crop": {"random": 32, "padding": -1}}, "padding: pixels from 0 to 256"),
        ({"crop": {"random": 32, "scale": [0.9, 0.1]}}, "scale: [lowest, highest]"),
        ({"crop": {"random": 32, "scale": [0, float("nan")]}}, "scale: [lowest, highest]"),
        ({"flip": "sideways"}, "`horizontal` or `vertical`"),
        ({"channels": 4}, "1 (grey) or 3 (colour)"),
        ({"channels": True}, "1 (grey) or 3 (colour)"),
        ({"normalize": {"mean": [0.5]}}, "normalize: `auto`, or"),
        ({"normalize": {"mean": 0.5, "std": 0}}, "std above 0"),
        ({"normalize": {"mean": 0.5, "std": float("nan")}}, "std above 0"),
        ({"resize": 3, "flip": "horizontal"}, "an operation has one name"),
        ({}, "an operation has one name"),
    ],
)
def test_the_grammar_refuses_with_place_and_reason(entry, problem):
    with pytest.raises(SpecError) as refused:
        operations([{"resize": 8}, entry])
    assert refused.value.problems[0].startswith("data.prepare.1")
    assert problem in str(refused.value)


def test_all_problems_are_told_at_once():
    with pytest.raises(SpecError) as refused:
        operations([{"rezise": 8}, {"flip": 1}, {"normalize": "auto"}, {"normalize": "auto"}])
    assert len(refused.value.problems) == 3


@pytest.mark.parametrize(("samples", "channels"), [([GREY, GREY], 1), ([GREY, COLOUR], 3)])
def test_one_colour_row_makes_all_rows_colour(samples, channels):
    settled = settle(operations([{"resize": [8, 8]}]), samples)
    assert settled.input_shape == (8, 8, channels)
    assert settled.operations[0] == Operation("channels", channels)


def test_written_channels_stand():
    assert settle(operations([{"resize": [8, 8]}, {"channels": 1}]), [COLOUR]).input_shape == (8, 8, 1)


def test_the_leading_operations_up_to_chance_are_stored():
    declared = [{"resize": [40, 40]}, {"crop": {"random": 32}}, {"flip": "horizontal"}, {"normalize": "auto"}]
    settled = settle(operations(declared), [COLOUR])
    assert [o.name for o in settled.operations[: settled.stored_operations]] == ["channels", "resize"]
    assert settled.input_shape == (32, 32, 3)


def test_rows_of_one_size_fix_that_size_for_requests_of_any_size():
    settled = settle(operations([{"flip": "horizontal"}]), [COLOUR, COLOUR])
    assert settled.operations[:2] == (Operation("channels", 3), Operation("resize", [8, 8]))
    assert settled.stored_operations == 2


def test_rows_of_several_sizes_need_a_resize_before_chance():
    with pytest.raises(SpecError, match="2 sizes"):
        settle(operations([{"flip": "horizontal"}, {"resize": [8, 8]}]), [COLOUR, np.zeros((9, 8, 3), np.uint8)])


def test_automatic_normalization_is_left_to_the_training_split():
    settled = settle(operations([{"normalize": "auto"}]), [COLOUR])
    assert (settled.mean, settled.std) == (None, None)


def test_given_normalization_is_spread_over_the_channels():
    settled = settle(operations([{"normalize": {"mean": 0.5, "std": [0.1, 0.2, 0.3]}}]), [COLOUR])
    assert (settled.mean, settled.std) == ((0.5,) * 3, (0.1, 0.2, 0.3))


def test_without_normalization_values_are_shares_of_255():
    settled = settle(operations([{"resize": [8, 8]}]), [GREY])
    assert (settled.mean, settled.std) == ((0.0,), (1.0,))


def test_normalization_for_other_channels_is_refused():
    with pytest.raises(SpecError, match=r"normalize\.mean has 3 values for 1 channels"):
        settle(operations([{"normalize": {"mean": [0.1] * 3, "std": 1}}]), [GREY])
