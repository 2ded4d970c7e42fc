"""A process in reserve is started for trainings that go on for long enough to pay for it."""

import pytest

from platformops.on_ray.spares import is_worth_it


@pytest.mark.parametrize(
    ("elapsed_s", "progress_ratio", "is_worth"),
    [
        (5.0, 0.001, False),  # nobody knows yet how long it takes
        (15.0, 0.33, False),
        (15.0, 0.05, True),
        (60.0, 0.1, True),
        (600.0, 0.9, False),
        (600.0, 0.0, True),
    ],
)
def test_only_a_training_with_minutes_before_it_gets_a_spare(elapsed_s, progress_ratio, is_worth):
    assert is_worth_it(elapsed_s, progress_ratio) is is_worth
