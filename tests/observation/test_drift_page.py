"""The page on drift: charts, tests and pictures in one file, with nothing from elsewhere."""

import re

import numpy as np
import pytest

from platformops.observation.drift.answers import Answer
from platformops.observation.drift.page import DriftPage, compared_answers, render

PNG = b"\x89PNG\r\n\x1a\nnot really"


def answers(count, *, dark_from=None):
    luck = np.random.default_rng(0)
    return [
        Answer(
            f"r{i}", 1000.0 + i, "ab"[i % 2], "ab"[i % 2] if i % 3 else "", 1001.0 + i,
            tuple(luck.normal(0.2 if dark_from is not None and i >= dark_from else 0.6, 0.05, 7)),
        )
        for i in range(count)
    ]  # fmt: skip


def page(**changed):
    given = {
        "system": "<digits>", "version": "digits:v1", "reason": "brightness has changed", "since": 1400.0,
        "answers": answers(700, dark_from=400), "pictures_before": [PNG], "pictures_now": [PNG, PNG],
    }  # fmt: skip
    return render(DriftPage(**{**given, **changed}))


@pytest.fixture(scope="module")
def changed():
    return page()


def test_what_changed_is_marked_and_what_did_not_is_not(changed):
    rows = dict(re.findall(r"<tr><td>([^<]+)</td>.*?<td>([^<]*)</td></tr>", changed))
    assert rows["brightness"] == rows["contrast"] == "changed"
    assert rows["answer"] == rows["wrong answers"] == ""
    assert "AUC of 1.00" in changed


def test_a_steady_system_has_no_mark():
    assert ">changed<" not in page(since=None, answers=answers(700))


def test_the_page_holds_its_pictures_and_nothing_from_elsewhere(changed):
    assert changed.count("data:image/png;base64,") == 3
    assert changed.count("<svg") == 8
    assert "<script" not in changed
    assert "&lt;digits&gt;" in changed
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", changed)


def test_few_answers_make_a_page_that_says_so():
    assert "too few answers" in page(answers=answers(20), since=None, pictures_now=[])


def test_what_came_since_the_change_is_compared_with_the_reference():
    before, now = compared_answers(answers(700), 1650.0)
    assert (len(before), [a.at for a in now]) == (200, [1650.0 + i for i in range(50)])
