"""`platformops drill node`: faults on purpose, on a node started for it, and a scorecard of what came of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platformops.health.drills import Score

KINDS = (
    "probe", "worker", "controller", "stall", "slow", "leak", "fill", "blip", "partition", "flap", "freeze", "kill",
)  # fmt: skip
Kinds = Annotated[
    list[str] | None, typer.Argument(metavar="[KIND]...", help=f"{', '.join(KINDS)}; all of them without one.")
]


def drill_node(kinds: Kinds = None, json_: AsJson = False) -> None:
    """Break a node on purpose, and see what is found, when, and what is done: kill, freeze, slow down, leak, fill, cut
    off, and more.

    The node is started for it and gone afterwards, also when the drill is killed half way; nothing that serves or
    trains is touched. Memory, disk, processor and network are the node's own, for which some drills need root: where
    the machine does not allow it, the drill says so and is not held.
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
    passed = all(score.passed or score.why_not for score in scores)
    if json_:
        print_json({"drills": [score.document() for score in scores], "passed": passed})
    else:
        _print(scores)
    if not passed:
        raise typer.Exit(1)


def _print(scores: Sequence[Score]) -> None:
    from platformops.cli.output import next_step, print_table, say, seconds_text

    rows = [
        (s.kind, s.fault, s.wanted, _verdict(s), seconds_text(s.found_s), f"{s.limit_s:g} s", str(len(s.false_actions)))
        for s in scores
    ]
    print_table(("drill", "fault", "ought to be", "", "after", "limit", "false actions"), rows)
    for s in scores:
        say(f"{s.kind}: cannot be held here: {s.why_not}" if s.why_not else f"{s.kind}: {s.said}")
        for action in s.false_actions:
            say(f"{s.kind}: not asked for: {action}")
    next_step("platformops health")


def _verdict(score: Score) -> str:
    if score.why_not:
        return "not held"
    return "passed" if score.passed else "failed"
