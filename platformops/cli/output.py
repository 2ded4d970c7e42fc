"""How verbs speak: results on stdout, progress on stderr, JSON as one last line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from platformops.spec.echo import escaped
from platformops.store.records import JsonObject

if TYPE_CHECKING:
    from rich.console import Console

    from platformops.pipeline.records import Progress

WIDE = 200
"""Columns of a table that no terminal bounds: a pipe must not cut figures off."""
COLOURS = {
    "done": "green", "succeeded": "green", "ready": "green", "up": "green", "promoted": "green", "passed": "green",
    "cached": "cyan", "running": "yellow", "waiting": "dim", "will run": "yellow",
    "failed": "red", "refused": "red", "cancelled": "red", "down": "red", "rolled_back": "red",
}  # fmt: skip


def say(text: str = "") -> None:
    """Lines for a person, on stdout; control characters other than the line feed are shown, not obeyed."""
    print("\n".join(escaped(line) for line in text.split("\n")))


def print_json(document: JsonObject) -> None:
    """The one line that scripts read."""
    print(json.dumps(document, ensure_ascii=True, allow_nan=False, default=str), flush=True)


def next_step(command: str) -> None:
    """The next sensible command; on stderr, so that it is not taken for a result."""
    print(f"\nNext: {escaped(command)}", file=sys.stderr)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as the terminal, or as wide as its text when stdout is none."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")  # a narrow terminal breaks words rather than hide their ends
    for row in rows:
        table.add_row(*(Text(escaped(cell), style=COLOURS.get(cell, "")) for cell in row))
    _console(stderr=False).print(table)


def seconds_text(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`; empty for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal() else WIDE
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


@contextmanager
def progress_shown() -> Iterator[Callable[[Progress], None]]:
    """A function to call with each piece of news: a live bar a stage on a terminal, else a line a change."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from platformops.cli.bars import Bars

        with Bars(_console(stderr=True)) as bars:
            yield bars.show
    else:
        yield Lines().show


class Lines:
    """Plain lines: when a stage changes its state, and every 10 s while it runs."""

    EVERY_S = 10.0

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._told_s: dict[str, float] = {}

    def show(self, news: Progress) -> None:
        is_change = self._states.get(news.stage) != news.state
        is_due = news.elapsed_s - self._told_s.get(news.stage, 0.0) >= self.EVERY_S
        if not is_change and not (news.state == "running" and is_due):
            return
        self._states[news.stage], self._told_s[news.stage] = news.state, news.elapsed_s
        print(progress_line(news), file=sys.stderr, flush=True)


def progress_line(news: Progress) -> str:
    """`train: running 40 % 12 s, 18 s left: epoch 5 of 12`."""
    share = f" {100 * news.ratio:.0f} %" if news.ratio is not None and news.state == "running" else ""
    time = f" {seconds_text(news.elapsed_s)}" if news.elapsed_s else ""
    left = time_left_s(news)
    remaining = f", {seconds_text(left)} left" if left is not None else ""
    message = f": {first_line(news.message)}" if news.message else ""
    return f"{escaped(news.stage)}: {news.state}{share}{time}{remaining}{message}"


def first_line(message: str) -> str:
    """What fits beside a bar; the rest is said at the end, and by `why`."""
    return escaped(message.partition("\n")[0])


def time_left_s(news: Progress) -> float | None:
    """By the share done so far; None while nothing can be said."""
    if news.state != "running" or not news.ratio or news.ratio >= 1:
        return None
    return news.elapsed_s * (1 - news.ratio) / news.ratio
