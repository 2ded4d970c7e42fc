"""The thread of a crank: it is turned again and again, and made anew after whatever went wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from platformops.errors import LeaseLost, PlatformError


class Crank(Protocol):
    def turn(self) -> tuple[str, ...]:
        """What cannot be done now. Raises LeaseLost once another one has taken over."""
        ...


class CrankThread:
    """Turns a crank each `tick_s` until it is stopped or overtaken; `tell` gets what cannot be done.

    Others share its process, so that nothing that goes wrong here may end it: after `rest_s` the crank is opened anew.
    """

    def __init__(
        self,
        name: str,
        opened: Callable[[], AbstractContextManager[Crank]],
        tell: Callable[[str, str], None],
        *,
        tick_s: float,
        rest_s: float,
        patience_s: float,
    ) -> None:
        self._opened, self._tell = opened, tell
        self._tick_s, self._rest_s, self._patience_s = tick_s, rest_s, patience_s
        self._stopped = threading.Event()
        self._said: tuple[str, ...] = ()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The turn under way has ended on return, or has taken longer than `patience_s`."""
        self._stopped.set()
        self._thread.join(timeout=self._patience_s)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._opened() as crank:
                    self._turn_always(crank)
            except LeaseLost as lost:
                self._tell("overtaken", lost.message)
                return
            except Exception as error:
                self._say((f"{type(error).__name__}: {error}",))
                self._stopped.wait(self._rest_s)

    def _turn_always(self, crank: Crank) -> None:
        while not self._stopped.wait(self._tick_s):
            try:
                self._say(crank.turn())
            except LeaseLost:
                raise
            except PlatformError as error:
                self._say((error.message,))

    def _say(self, problems: tuple[str, ...]) -> None:
        for problem in set(problems) - set(self._said):
            self._tell("problem", problem)
        self._said = problems
