"""Charts as inline SVG: no script, no external resource; colours are CSS variables of the page around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 66, 16, 12, 40
MOST_LABELS = 30
"""Classes whose names still fit beside a confusion matrix; more are drawn without names and counts."""
MOST_CELLS = 10_000
"""Beyond 100 classes a cell is smaller than a pixel, and the page larger than a photograph."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from `low` to `high`, drawn from pixel `start` to `stop`."""

    low: float
    high: float
    start: float
    stop: float

    def at(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return self.start + (value - self.low) / span * (self.stop - self.start)


def number(value: float) -> str:
    """Short and exact enough to read: `0.9731`, `12.3`, `1,500`."""
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:.4g}"


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Round values that cover `low` to `high`, about `count` of them."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 12) for i in range(first, last + 1)]


def whole_ticks(low: float, high: float, *, count: int = 6) -> list[float]:
    """Whole numbers from `low` to `high` and none beyond: for epochs, of which there is no half."""
    step = max(1.0, math.ceil(high - low) // count)
    return [low + i * step for i in range(int((high - low) / step) + 1)]


def line_chart(
    xs: Sequence[float], ys: Sequence[float], *, x_label: str, y_label: str, low: float | None = None
) -> str:
    """One series over whole numbers; points that are not finite are left out."""
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return _empty("no values")
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    x_ticks, x_axis = whole_ticks(first, last), Axis(first, last, LEFT, WIDTH - RIGHT)
    y_ticks = ticks(min([y for _, y in points] + ([low] if low is not None else [])), max(y for _, y in points))
    y_axis = _upward(y_ticks)
    path = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in points)
    radius = 2.6 if len(points) <= 40 else 1.2
    dots = "".join(_dot(x_axis.at(x), y_axis.at(y), radius, f"{x_label} {number(x)}: {number(y)}") for x, y in points)
    inside = f'<polyline points="{path}" class="line"/>{dots}'
    return _framed(x_axis, y_axis, x_ticks, y_ticks, x_label, y_label, inside)


def reliability_chart(bins: Sequence[tuple[float, float, int]]) -> str:
    """`bins` are (confidence, accuracy, rows); calibrated answers lie on the diagonal. Areas are rows."""
    if not bins:
        return _empty("no values")
    marks = ticks(0, 1)
    x_axis, y_axis = Axis(0.0, 1.0, LEFT, WIDTH - RIGHT), _upward(marks)
    most = max(rows for _, _, rows in bins)
    dots = "".join(
        _line(x_axis.at(c), y_axis.at(c), x_axis.at(c), y_axis.at(a), "gap")
        + _dot(x_axis.at(c), y_axis.at(a), 2 + 3 * math.sqrt(n / most), f"said {c:.3f}, right {a:.3f}, {n:,} rows")
        for c, a, n in bins
    )
    diagonal = _line(x_axis.at(0), y_axis.at(0), x_axis.at(1), y_axis.at(1), "diagonal")
    return _framed(x_axis, y_axis, marks, marks, "confidence", "share that is right", diagonal + dots)


def confusion_chart(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Rows are the truth, columns the answers; shade is the share of the row."""
    n = len(classes)
    if n * n > MOST_CELLS:
        return _empty(f"A matrix of {n:,} classes cannot be drawn; the table has what matters of it.")
    is_named = n <= MOST_LABELS
    cell = max(4.0, min(44.0, 560 / n)) if n else 0.0
    margin = 12 + 6.2 * max((len(_short(c)) for c in classes), default=0) if is_named else 8.0
    size = margin + n * cell + 8
    cells = "".join(
        _cell(row, column, count, sum(counts), margin, cell, classes, is_named=is_named)
        for row, counts in enumerate(matrix)
        for column, count in enumerate(counts)
        if count or is_named
    )
    names = "".join(_names(i, name, margin, cell) for i, name in enumerate(classes)) if is_named else ""
    return (
        f'<svg viewBox="0 0 {size:.0f} {size:.0f}" style="max-width:{size:.0f}px" role="img" '
        f'aria-label="confusion matrix">{cells}{names}</svg>'
    )


def interval_bar(value: float, low: float, high: float) -> str:
    """A figure between 0 and 1 with its interval, the width of a table cell."""
    a, b, v = (100 * min(max(x, 0.0), 1.0) for x in (low, high, value))
    inside = _line(0, 4, 100, 4, "grid") + _line(a, 4, b, 4, "span") + _dot(v, 4, 2.6, "")
    return f'<svg viewBox="0 0 100 8" class="interval" aria-hidden="true">{inside}</svg>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _dot(x: float, y: float, radius: float, title: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="dot"><title>{escape(title)}</title></circle>'


def _text(x: float, y: float, text: str, kind: str, *, upright: bool = True) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}"' if upright else f'transform="translate({x:.1f} {y:.1f}) rotate(-90)"'
    return f'<text {place} class="{kind}">{escape(text)}</text>'


def _cell(
    row: int, column: int, count: int, total: int, margin: float, cell: float, classes: Sequence[str], *, is_named: bool
) -> str:
    share = count / total if total else 0.0
    x, y = margin + column * cell, margin + row * cell
    box = f'x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}" rx="2"'
    kind, bold = "right" if row == column else "wrong", " strong" if share > 0.5 else ""
    title = f"{classes[row]} answered as {classes[column]}: {count:,} of {total:,}"
    is_told = count and is_named and cell >= 16
    text = _text(x + cell / 2, y + cell / 2 + 3.5, str(count), f"count{bold}") if is_told else ""
    return (
        f'<g><title>{escape(title)}</title><rect {box} class="empty"/>'
        f'<rect {box} class="{kind}" style="opacity:{share**0.5:.3f}"/>{text}</g>'
    )


def _names(i: int, name: str, margin: float, cell: float) -> str:
    at, short = margin + (i + 0.5) * cell + 3.5, _short(name)
    return _text(margin - 6, at, short, "name end") + _text(at, margin - 6, short, "name", upright=False)


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"


def _upward(marks: Sequence[float]) -> Axis:
    return Axis(marks[0], marks[-1], HEIGHT - BOTTOM, TOP)


def _framed(
    x_axis: Axis,
    y_axis: Axis,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_label: str,
    y_label: str,
    inside: str,
) -> str:
    across = "".join(
        _line(LEFT, y_axis.at(t), WIDTH - RIGHT, y_axis.at(t), "grid")
        + _text(LEFT - 7, y_axis.at(t) + 3.5, number(t), "tick end")
        for t in y_ticks
    )
    below = "".join(_text(x_axis.at(t), HEIGHT - BOTTOM + 16, number(t), "tick middle") for t in x_ticks)
    labels = _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "label middle") + _text(
        12, (TOP + HEIGHT - BOTTOM) / 2, y_label, "label middle", upright=False
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} by {escape(x_label)}">'
        f"{across}{below}{labels}{inside}</svg>"
    )


def _empty(why: str) -> str:
    return f'<p class="none">{escape(why)}</p>'
