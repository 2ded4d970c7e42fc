"""A page on what changed in the answers of one model version: charts, tests, and pictures from before and now."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from platformops.observation import page as pages
from platformops.observation.charts import line_chart, number
from platformops.observation.drift.answers import REFERENCE, Answer
from platformops.observation.drift.pictures import COLUMNS
from platformops.observation.drift.records import Contrast
from platformops.observation.drift.two_samples import Separability, contrasts, separability

POINTS = 60
"""Of a chart: each is the mean of a stretch of answers."""
NEWEST = 500
"""Answers that are compared with the reference where no change was confirmed."""
MOST_PICTURES = 16


@dataclass(frozen=True, slots=True)
class DriftPage:
    """All that the page shows; pictures are encoded PNG, JPEG or WebP, the newest last."""

    system: str
    version: str
    reason: str
    answers: Sequence[Answer]
    """In the order in which they were given."""
    since: float | None
    """When the change began; None without one."""
    pictures_before: Sequence[bytes] = ()
    pictures_now: Sequence[bytes] = ()


def compared_answers(answers: Sequence[Answer], since: float | None) -> tuple[Sequence[Answer], Sequence[Answer]]:
    """The reference, and what is compared with it: what came since the change, else the newest."""
    later = answers[REFERENCE:]
    return answers[:REFERENCE], [a for a in later if since is None or a.at >= since][-NEWEST:]


def render(page: DriftPage) -> str:
    """One HTML file without scripts or anything from elsewhere."""
    before, now = compared_answers(page.answers, page.since)
    note, charts = _charts(page.answers, page.since)
    sections = [("Over time", f"<p class='note'>{note}</p>{charts}"), ("Then and now", _tests(before, now))]
    return pages.page(
        f"{page.system}: drift", f"{page.version}: {page.reason}", [*sections, ("Pictures", _pictures(page))]
    )


def _charts(answers: Sequence[Answer], since: float | None) -> tuple[str, str]:
    """What is said of them, and the charts."""
    table = _table(answers)
    changed = sum(a.at < since for a in answers) if since is not None else None
    note = f"the change began at about answer {changed:,}" if changed is not None else "no change was confirmed"
    drawn = [(name, _chart(name, table[name].to_numpy(np.float64))) for name in table.columns if name not in TEXTS]
    return note, pages.figures(drawn)


def _chart(name: str, values: np.ndarray) -> str:
    size = max(1, math.ceil(len(values) / POINTS))
    stretches = [values[at : at + size] for at in range(0, len(values), size)]
    means = [float(np.nanmean(part)) if np.isfinite(part).any() else math.nan for part in stretches]
    return line_chart([float(i * size) for i in range(len(means))], means, x_label="answer", y_label=name)


def _tests(before: Sequence[Answer], now: Sequence[Answer]) -> str:
    if not before or not now:
        return "<p class='none'>too few answers to compare</p>"
    old, new = _table(before), _table(now)
    together = separability(old[list(COLUMNS)].to_numpy(np.float64), new[list(COLUMNS)].to_numpy(np.float64))
    heads = ("stream", "test", "p-value", "PSI", "moved (sd)", "missing then", "missing now", "")
    said = (
        f"{len(before):,} answers of the reference against {len(now):,}; a p-value is of this one look, and the last "
        f"column accounts for all streams. {_said(together)}"
    )
    return f"<p class='note'>{said}</p>{pages.table(heads, [_row(c) for c in contrasts(old, new)])}"


def _row(c: Contrast) -> Sequence[str]:
    distance = "" if math.isnan(c.distance) else number(c.distance)
    missing = (f"{c.missing_before:.1%}", f"{c.missing_now:.1%}")
    return (
        c.name,
        c.test,
        f"{c.p_value:.2g}",
        number(c.psi),
        distance,
        *missing,
        "changed" if c.is_significant else "",
    )


def _said(found: Separability) -> str:
    return (
        f"A classifier tells pictures of now from those of then with an AUC of {found.auc:.2f} (0.5 is not at all; "
        f"p {found.p_value:.2g})."
    )


def _pictures(page: DriftPage) -> str:
    if not page.pictures_now:
        return "<p class='none'>inputs are kept where `watch.retrain` is on</p>"
    strips = (("then", page.pictures_before), ("now", page.pictures_now))
    return "".join(
        f"<div class='strip'><span>{name}</span>{''.join(map(_image, pictures[-MOST_PICTURES:]))}</div>"
        for name, pictures in strips
    )


def _image(content: bytes) -> str:
    kind = {b"\xff\xd8": "jpeg", b"\x89P": "png", b"RI": "webp"}.get(content[:2], "png")
    return f'<img alt="" src="data:image/{kind};base64,{b64encode(content).decode("ascii")}">'


TEXTS = ("answer", "truth")


def _table(answers: Sequence[Answer]) -> pd.DataFrame:
    """A row an answer; missing where a truth has not come back or a picture was not kept."""
    wrong = [float(a.label != a.truth) if a.truth else math.nan for a in answers]
    table = pd.DataFrame({
        "answer": [a.label for a in answers], "truth": [a.truth or None for a in answers], "wrong answers": wrong,
    })  # fmt: skip
    profiles = np.array([a.profile or (math.nan,) * len(COLUMNS) for a in answers], float).reshape(-1, len(COLUMNS))
    return pd.concat([table, pd.DataFrame(profiles, columns=list(COLUMNS))], axis=1)
