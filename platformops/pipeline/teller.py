"""Tells the run's log, and the person who waits, what happens to each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from platformops.clock import Clock
from platformops.pipeline.logbook import Logbook
from platformops.pipeline.records import Progress, Step
from platformops.pipeline.wire import News
from platformops.store.records import Json

OnProgress = Callable[[Progress], None]


class Teller:
    def __init__(self, logbook: Logbook, clock: Clock, on_progress: OnProgress | None) -> None:
        self._logbook, self._clock, self._on_progress = logbook, clock, on_progress
        self._since: dict[str, float] = {}
        self.figures: dict[str, Mapping[str, float]] = {}
        """Stage -> what it said last of itself."""

    def run(self, action: str, message: str, *, level: str = "info", **about: Json) -> None:
        self._logbook.write(action, message, level=level, about=about)

    def step(self, step: Step, state: str, message: str = "", *, level: str = "info", **about: Json) -> None:
        """`state` as in Progress; `about` goes to the log only."""
        if state == "running":
            self._since[step.stage.name] = self._clock.monotonic()
        where: dict[str, Json] = {"stage": step.stage.name, "fingerprint": step.fingerprint}
        self._logbook.write(f"step-{state}", message, level=level, about={**where, **about})
        self._show(step, state, message, None)

    def news(self, step: Step, attempt: int, news: News) -> None:
        about: dict[str, Json] = {"stage": step.stage.name, "fingerprint": step.fingerprint, "attempt": attempt}
        if news.kind == "progress":
            about["ratio"] = news.ratio
            if news.figures:
                about["figures"] = dict(news.figures)
                self.figures[step.stage.name] = news.figures
            self._show(step, "running", news.message, news.ratio)
        self._logbook.write(f"step-{news.kind}", news.message, about=about)

    def _show(self, step: Step, state: str, message: str, ratio: float | None) -> None:
        if self._on_progress:
            since = self._since.get(step.stage.name, self._clock.monotonic())
            self._on_progress(Progress(step.stage.name, state, ratio, message, self._clock.monotonic() - since))
