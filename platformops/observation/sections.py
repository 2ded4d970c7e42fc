"""The sections of a report: each takes records and gives HTML, empty when there is nothing to show."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from platformops.observation.charts import confusion_chart, interval_bar, line_chart, number, reliability_chart
from platformops.observation.records import Mistake, Picture, Report
from platformops.store.records import Json, JsonObject

MOST_CLASSES = 200
"""Classes in a table; beyond that only the worst are of use to a reader."""
MOST_SAMPLED = 40
MOST_PAIRS = 10
MOST_QUARANTINED = 50
HEADLINES = {
    "accuracy": "Accuracy",
    "precision_macro": "Precision, mean of classes",
    "recall_macro": "Recall, mean of classes",
    "f1_macro": "F1, mean of classes",
    "calibration_error": "Calibration error",
    "log_loss": "Log loss",
    "brier": "Brier score",
}


def _interval(metrics: JsonObject, name: str) -> tuple[float, float] | None:
    intervals = metrics.get("intervals")
    found = intervals.get(name) if isinstance(intervals, Mapping) else None
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) != 2:
        return None
    low, high = found
    both = isinstance(low, int | float) and isinstance(high, int | float)
    return (float(str(low)), float(str(high))) if both else None


def headlines(metrics: JsonObject) -> str:
    cards = []
    for name, title in HEADLINES.items():
        value = metrics.get(name)
        if not isinstance(value, int | float):
            continue
        spread = _interval(metrics, name)
        said = f"{number(spread[0])} to {number(spread[1])}" if spread else ""
        bar = interval_bar(value, *spread) if spread and name not in ("log_loss", "brier") else ""
        cards.append(
            f"<div class='card'><b>{number(round(value, 4))}</b>{bar}<span>{title}</span><small>{said}</small></div>"
        )
    note = "<p class='note'>Ranges are 95 % bootstrap intervals over the test rows.</p>"
    return f"<div class='cards'>{''.join(cards)}</div>{note}" if cards else ""


def data(report: Report) -> str:
    return _counts(report) + _quarantined(report.quarantined) + _samples(report)


def _counts(report: Report) -> str:
    if not report.counts:
        return ""
    most = max((n for by_class in report.counts.values() for n in by_class.values()), default=0) or 1
    head = "".join(f"<th class='n'>{escape(s)}</th>" for s in report.counts)
    totals = "".join(f"<td class='n'>{sum(by_class.values()):,}</td>" for by_class in report.counts.values())
    rows = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(_counted(c.get(name, 0), most) for c in report.counts.values())}</tr>"
        for name in report.classes[:MOST_CLASSES]
    )
    return (
        f"<table><thead><tr><th>class</th>{head}</tr></thead><tbody>{rows}</tbody>"
        f"<tfoot><tr><th>all</th>{totals}</tr></tfoot></table>{_left_out(len(report.classes), MOST_CLASSES, 'classes')}"
    )


def _counted(count: int, most: int) -> str:
    return f"<td class='n'><i style='width:{70 * count / most:.1f}%'></i>{count:,}</td>"


def _left_out(have: int, shown: int, what: str) -> str:
    return f"<p class='note'>{have - shown:,} more {what} are not shown.</p>" if have > shown else ""


def _quarantined(rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return ""
    items = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(reason)}</td></tr>" for name, reason in rows[:MOST_QUARANTINED]
    )
    return (
        f"<details><summary>Quarantined, as they could not be read: {len(rows):,}</summary><table>{items}</table>"
        f"{_left_out(len(rows), MOST_QUARANTINED, 'rows')}</details>"
    )


def _samples(report: Report) -> str:
    names = [name for name in report.classes if report.samples.get(name)]
    rows = "".join(
        f"<div class='strip'><span>{escape(name)}</span>{''.join(_image(p) for p in report.samples[name])}</div>"
        for name in names[:MOST_SAMPLED]
    )
    return f"<h3>Samples</h3>{rows}{_left_out(len(names), MOST_SAMPLED, 'classes')}" if rows else ""


def _image(picture: Picture) -> str:
    content = picture.content
    kind = "jpeg" if content[:2] == b"\xff\xd8" else "webp" if content[8:12] == b"WEBP" else "png"
    encoded = base64.b64encode(content).decode("ascii")
    caption = escape(picture.caption)
    return f'<img src="data:image/{kind};base64,{encoded}" alt="{caption}" title="{caption}">'


def training(history: Sequence[JsonObject]) -> str:
    charts = []
    for name, label, low in (
        ("loss", "training loss", 0.0),
        ("accuracy", "validation accuracy", None),
        ("lr", "learning rate", 0.0),
    ):
        points = [(_float(e.get("epoch")), _float(e.get(name))) for e in history]
        points = [(x, y) for x, y in points if x == x and y == y]
        if points:
            xs, ys = zip(*points, strict=True)
            charts.append(f"<figure>{line_chart(xs, ys, x_label='epoch', y_label=label, low=low)}</figure>")
    return f"<div class='charts'>{''.join(charts)}</div>" if charts else ""


def _float(value: Json) -> float:
    """nan for what is not a number."""
    return float(value) if isinstance(value, int | float) else float("nan")


def _matrix(metrics: JsonObject) -> list[list[int]]:
    found = metrics.get("confusion")
    rows = found if isinstance(found, Sequence) and not isinstance(found, str) else []
    return [[int(str(n)) for n in row] for row in rows if isinstance(row, Sequence)]


def confusion(report: Report) -> str:
    matrix = _matrix(report.metrics)
    if not matrix:
        return ""
    pairs = sorted(
        (
            (n, truth, answer)
            for truth, row in enumerate(matrix)
            for answer, n in enumerate(row)
            if n and truth != answer
        ),
        key=lambda p: (-p[0], p[1], p[2]),
    )
    rows = "".join(
        f"<tr><td>{escape(report.classes[truth])}</td><td>{escape(report.classes[answer])}</td>"
        f"<td class='n'>{n:,}</td><td class='n'>{n / sum(matrix[truth]):.1%}</td></tr>"
        for n, truth, answer in pairs[:MOST_PAIRS]
    )
    table = (
        "<table><thead><tr><th>truth</th><th>answer</th><th class='n'>rows</th><th class='n'>of the class</th></tr>"
        f"</thead><tbody>{rows}</tbody></table>"
    )
    caption = "<figcaption>rows: truth, columns: answers; shade: share of the row</figcaption>"
    drawn = f"<figure>{confusion_chart(matrix, report.classes)}{caption}</figure>"
    return f"<div class='charts'>{drawn}<div>{'<h3>Most often confused</h3>' + table if rows else ''}</div></div>"


def calibration(metrics: JsonObject) -> str:
    found = metrics.get("reliability")
    bins = [
        (_float(b.get("confidence")), _float(b.get("accuracy")), int(_float(b.get("rows"))))
        for b in (found if isinstance(found, Sequence) and not isinstance(found, str) else ())
        if isinstance(b, Mapping)
    ]
    note = "On the line, answers given with probability p are right in a share p of cases; below it, too few are."
    return f"<figure class='half'>{reliability_chart(bins)}<figcaption>{note}</figcaption></figure>" if bins else ""


def classes(report: Report) -> str:
    per_class = report.metrics.get("per_class")
    if not isinstance(per_class, Mapping):
        return ""
    found = [(name, row) for name, row in per_class.items() if isinstance(row, Mapping)]
    found.sort(key=lambda pair: (_float(pair[1].get("f1")) if pair[1].get("f1") is not None else 2.0, pair[0]))
    head = "".join(f"<th>{m}</th>" for m in ("precision", "recall", "f1"))
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td class='n'>{number(_float(row.get('rows')))}</td>"
        f"{''.join(_class_figure(row, metric) for metric in ('precision', 'recall', 'f1'))}</tr>"
        for name, row in found[:MOST_CLASSES]
    )
    return (
        f"<table><thead><tr><th>class, weakest first</th><th class='n'>test rows</th>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{_left_out(len(found), MOST_CLASSES, 'classes')}"
    )


def _class_figure(row: JsonObject, metric: str) -> str:
    value, spread = row.get(metric), _interval(row, metric)
    if not isinstance(value, int | float):
        return "<td class='none'>not defined</td>"
    if spread is None:
        return f"<td>{value:.3f}</td>"
    said = f"{spread[0]:.3f} to {spread[1]:.3f}"
    return f"<td><div class='figure'><b>{value:.3f}</b>{interval_bar(value, *spread)}<small>{said}</small></div></td>"


def mistakes(mistakes: Sequence[Mistake]) -> str:
    cards = "".join(
        f"<figure class='mistake'>{_image(m.picture)}<figcaption><b>{escape(m.answer)}</b> at {m.probability:.0%}, "
        f"is {escape(m.truth)}<small>{escape(m.id)}</small></figcaption></figure>"
        for m in mistakes
    )
    return f"<div class='mistakes'>{cards}</div>" if cards else ""


def facts(facts: JsonObject) -> str:
    rows = "".join(f"<dt>{escape(str(name))}</dt><dd>{_fact(value)}</dd>" for name, value in facts.items())
    return f"<dl>{rows}</dl>" if rows else ""


def _fact(value: Json) -> str:
    if isinstance(value, Mapping):
        return facts(value) or "–"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return escape(", ".join(str(v) for v in value)) or "–"
    return escape(number(value) if isinstance(value, float) else str(value))
