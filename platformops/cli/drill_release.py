"""`platformops drill release`: known defects are released on purpose, and the scorecard says what caught each."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson, Overrides
from platformops.errors import ClusterError, UserError

if TYPE_CHECKING:
    from platformops.delivery.drills import Case, Defect, Manner
    from platformops.store.records import Store

CONNECTIONS = 1
"""While one request waits behind another hardly any copies are made, and copies are what most defects show in."""
PATIENCE_S = 0.0
"""Nothing that a drill does may break a connection."""
Spec = Annotated[
    Path | None, typer.Argument(metavar="[SPEC]", help="A YAML file; default the live system.", show_default=False)
]
Named = Annotated[
    list[str] | None,
    typer.Option("--defect", metavar="NAME", help="A defect to plant. Repeatable.", show_default=False),
]
All = Annotated[bool, typer.Option("--all", help="Every defect; so without --defect.")]
Rate = Annotated[float, typer.Option("--rate", min=1.0, max=1000.0, help="Requests a second that are sent meanwhile.")]


def drill_release(
    spec: Spec = None,
    set_: Overrides = None,
    defect: Named = None,
    all_: All = False,
    rate: Rate = 80.0,
    json_: AsJson = False,
) -> None:
    """Release known defects on purpose, under load, on the live system: what catches each, and what it costs users.

    Each defect is planted in a copy of the live model, which is gated, copied to and tried on as any candidate, and
    never promoted. Killed half-way it ends by itself within minutes; Ctrl-C ends it at once.
    """
    from platformops.cli import settings
    from platformops.cli.access import ensure_key
    from platformops.cli.drilling import Range, drilled
    from platformops.cli.endpoint import gateway_url
    from platformops.cli.load import Load, rows_of
    from platformops.cli.output import print_json, progress_shown
    from platformops.clock import SystemClock
    from platformops.delivery.drills import drill_document
    from platformops.delivery.systems import load_system
    from platformops.security.key_file import read_key_file
    from platformops.store.artifacts import Artifacts

    chosen, where, clock = _chosen(defect, all_=all_), settings.home(), SystemClock()
    with settings.opened_store(where) as store, progress_shown() as show, _ended_by_signals():
        system, manner = _asked_for(spec, set_, store)
        address, (present, _) = gateway_url(store), load_system(store, system)
        if address is None or present is None or present.stable is None:
            raise ClusterError(f"{system} is not live here", remedy="bring it up first: platformops up SPEC")
        token = read_key_file(ensure_key(system, where, store, clock)) or ""
        rows = rows_of(present.stable, Artifacts(where.artifacts_url, cache=where.cache))
        url = f"{address}/{system}"
        with Load(
            url, token, rows, clock, rate_per_s=rate, connections=CONNECTIONS, patience_s=PATIENCE_S
        ) as load:  # fmt: skip
            cases = list(drilled(chosen, Range(store, clock, system, manner, load, show)))
    document = drill_document(cases)
    if json_:
        print_json({"system": system, **document})
    else:
        _print(cases)
    if not document["passed"]:
        raise typer.Exit(1)


def _chosen(names: Sequence[str] | None, *, all_: bool) -> tuple[Defect, ...]:
    from platformops.delivery.drills import DEFECTS

    if names and all_:
        raise UserError("--defect and --all say different things", remedy="give one of them")
    if unknown := [name for name in names or () if name not in DEFECTS]:
        raise UserError(f"no defect {unknown[0]!r}", remedy=f"one of: {', '.join(DEFECTS)}")
    return tuple(DEFECTS[name] for name in dict.fromkeys(names or DEFECTS))


def _asked_for(spec: Path | None, overrides: Sequence[str] | None, store: Store) -> tuple[str, Manner]:
    """The system to drill and how it releases: as the spec says, else as its stable version was released."""
    from platformops.cli import settings
    from platformops.delivery.drills import manner_before, manner_of
    from platformops.delivery.systems import load_systems
    from platformops.spec.load import load_spec

    if spec is not None:
        wanted = load_spec(spec, overrides=overrides or (), data_root=settings.data_root())
        return wanted.system, manner_of(wanted)
    live = [name for name, (system, _) in load_systems(store).items() if system.stable and system.wanted == "up"]
    if len(live) != 1:
        found = f"{len(live)} systems are live ({', '.join(live)})" if live else "no system is live"
        raise UserError(found, remedy="name the spec: platformops drill release SPEC")
    return live[0], manner_before(store, live[0])


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM as Ctrl-C: what runs is aborted on the way out."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print(cases: Sequence[Case]) -> None:
    from platformops.cli.output import next_step, print_table, say

    rows = [
        (
            case.name,
            case.caught_by or "nothing",
            f"{case.requests_to_verdict:,}",
            f"{case.exposure_ratio:.2%}",
            str(case.requests_lost),
            f"{case.to_stable_s:.1f} s",
        )
        for case in cases
    ]
    print_table(("defect", "caught by", "after requests", "exposure", "lost", "back on stable"), rows)
    caught = sum(bool(case.caught_by) for case in cases)
    say(f"\n{caught} of {len(cases)} defects were stopped; {sum(c.requests_lost for c in cases)} requests were lost")
    next_step("platformops status")
