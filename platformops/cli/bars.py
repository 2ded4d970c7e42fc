"""Progress on a terminal: one live bar a stage, with its message and the time left."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from platformops.cli.output import COLOURS, first_line, seconds_text, time_left_s
from platformops.spec.echo import escaped

if TYPE_CHECKING:
    from platformops.pipeline.records import Progress as News


class Bars:
    """Shows the last news of each stage until it is left."""

    def __init__(self, console: Console) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.fields[stage]}", style="bold", markup=False),
            TextColumn("{task.fields[state]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[time]}", style="dim", markup=False),
            TextColumn("{task.fields[message]}", markup=False),
            console=console,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, news: News) -> None:
        if news.stage not in self._tasks:
            self._tasks[news.stage] = self._bars.add_task("", total=None, stage="", state="", time="", message="")
        is_over = news.state in ("done", "cached")
        started = news.state != "waiting"
        self._bars.update(
            self._tasks[news.stage],
            total=1.0 if is_over or news.ratio is not None or not started else None,
            completed=1.0 if is_over else news.ratio or 0.0,
            stage=escaped(news.stage),
            state=f"[{COLOURS.get(news.state, 'white')}]{news.state}[/]",
            time=_times(news),
            message=first_line(news.message),
        )


def _times(news: News) -> str:
    left = time_left_s(news)
    elapsed = seconds_text(news.elapsed_s) if news.elapsed_s else ""
    return f"{elapsed}, {seconds_text(left)} left" if left is not None else elapsed
