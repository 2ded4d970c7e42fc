"""The small languages inside the YAML."""

import pytest

from platformops.errors import UserError
from platformops.spec.conditions import Condition, condition, duration_s, parity, percent, release_weights


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (">= 0.95", Condition("accuracy", ">=", 0.95)),
        ("<=80", Condition("accuracy", "<=", 80.0)),
        ("> -1.5e-3", Condition("accuracy", ">", -0.0015)),
        ("< 1 at 90%", Condition("accuracy", "<", 1.0, confidence=0.9)),
        (">= champion", Condition("accuracy", ">=", 0.0, relative_to_champion=True)),
        (">= champion - 0.01 at 95%", Condition("accuracy", ">=", 0.0, True, -0.01, 0.95)),
        ("<= champion + 5", Condition("accuracy", "<=", 0.0, True, 5.0)),
        ("  <= champion+5  at 99.9 %  ", Condition("accuracy", "<=", 0.0, True, 5.0, 0.9990000000000001)),
    ],
)
def test_a_condition_is_read(text, expected):
    assert condition("accuracy", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "0.95", "== 1", ">= ", ">= nan", ">= inf", ">= 1e999", ">= champion * 2", ">= champion -",
        "champion >= 1", ">= 1 at 100%", ">= 1 at 10%", ">= 1 at",
        ">= 1; rm", ">= 1\n>= 2", "=> 1", ">= １", ">= champion - -1", ">= 95%",
    ],
)  # fmt: skip
def test_a_condition_that_is_none_is_refused(text):
    with pytest.raises(UserError):
        condition("accuracy", text)


@pytest.mark.parametrize(("text", "ratio"), [("5%", 0.05), ("0.1 %", 0.001), ("100%", 1.0), ("0%", 0.0)])
def test_a_percentage_is_a_ratio(text, ratio):
    assert percent(text) == pytest.approx(ratio)


@pytest.mark.parametrize("text", ["5", "101%", "-5%", "%", "5%%", "٥%", "1e1%"])
def test_other_percentages_are_refused(text):
    with pytest.raises(UserError):
        percent(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("6h", 21600), ("2d", 172800), ("1.5m", 90), ("500ms", 0.5)]
)
def test_a_duration_is_seconds(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "6", "h", "0s", "-1h", "6 h x", "10000d", "9" * 400 + "h"])
def test_other_durations_are_refused(text):
    with pytest.raises(UserError):
        duration_s(text)


def test_release_steps_are_percent_of_traffic():
    assert release_weights(["shadow", "1%", "50%", "100%"]) == (0, 1, 50, 100)


@pytest.mark.parametrize(
    "steps", [[], ["50%"], ["100%", "100%"], ["0%", "100%"], ["1%", "shadow", "100%"], ["shadow"], ["x"]]
)
def test_release_steps_that_do_not_rise_to_all_traffic_are_refused(steps):
    with pytest.raises(UserError):
        release_weights(steps)


def test_parity_is_exact_or_a_tolerance():
    assert (parity("exact").tolerance, parity("0.001").tolerance) == (0.0, 0.001)
    for text in ("Exact", "nan", "-1", "2", ""):
        with pytest.raises(UserError):
            parity(text)
