"""`platformops drill node`: faults on purpose, on a node started for it, and a scorecard of what came of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platformops.on_ray.drilling import Score

KINDS = ("probe", "worker", "controller", "freeze", "kill")
"""What ends the node comes last."""
Kinds = Annotated[
    list[str] | None, typer.Argument(metavar="[KIND]...", help=f"{', '.join(KINDS)}; all of them without one.")
]


def drill_node(kinds: Kinds = None, json_: AsJson = False) -> None:
    """Kill and freeze a node, a worker, a probe and the controller on purpose: what is found, when, and what is done.

    The node is started for it and gone afterwards; nothing that serves or trains is touched.
    """
    import os

    from platformops.cli import settings
    from platformops.cli.output import print_json
    from platformops.clock import SystemClock
    from platformops.errors import ClusterError, UserError
    from platformops.on_ray import cluster
    from platformops.spec.echo import did_you_mean, shown

    for kind in kinds or ():
        if kind not in KINDS:
            raise UserError(f"there is no drill {shown(kind)}", remedy=did_you_mean(kind, KINDS).removeprefix("; "))
    where = settings.home()
    with settings.opened_store(where) as store:
        found = cluster.find(store, os.environ)
        if found is None:
            raise ClusterError("no cluster runs", remedy="platformops up SPEC")
        os.environ.update(found.environment)
        from platformops.on_ray.drilling import drill

        scores = drill([kind for kind in KINDS if not kinds or kind in kinds], where, store, SystemClock())
    if json_:
        print_json({"drills": [score.document() for score in scores], "passed": all(s.passed for s in scores)})
    else:
        _print(scores)
    if not all(score.passed for score in scores):
        raise typer.Exit(1)


def _print(scores: Sequence[Score]) -> None:
    from platformops.cli.output import next_step, print_table, seconds_text

    rows = [
        (s.kind, s.wanted, "passed" if s.passed else "failed", seconds_text(s.found_s), f"{s.limit_s:g} s", s.said)
        for s in scores
    ]
    print_table(("drill", "ought to be", "", "after", "limit", "because"), rows)
    next_step("platformops health")
