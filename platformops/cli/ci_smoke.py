"""`platformops ci smoke`: a short burst of requests to a live system, and what its answers are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson, Environment, Overrides, SpecFile
from platformops.spec.environments import PRODUCTION
from platformops.store.records import Json

if TYPE_CHECKING:
    from platformops.clock import Clock
    from platformops.store.records import Json

Requests = Annotated[int, typer.Option(min=1, max=100_000, help="How many.")]
ReportTo = Annotated[Path | None, typer.Option("--report", metavar="FOLDER", help="Leave a JUnit file there.")]
OrRollback = Annotated[bool, typer.Option("--or-rollback", help="On failure give all traffic to the last good one.")]


def ci_smoke(
    spec: SpecFile,
    set_: Overrides = None,
    environment: Environment = PRODUCTION,
    requests: Requests = 200,
    report: ReportTo = None,
    or_rollback: OrRollback = False,
    json_: AsJson = False,
) -> None:
    """Send the test split's sample again and again to the live system; exit 1 when its objective is missed.

    What must hold is the spec's `serve.slo`, and that the answers come from the version that the spec makes. Some more
    requests go before, whose latency is not judged: the first ones of a new replica find it cold.
    """
    from platformops.cli import settings
    from platformops.cli.output import next_step, print_json, print_table
    from platformops.cli.planning import planned
    from platformops.cli.reporting import write_files
    from platformops.cli.smoking import AT_ONCE, answers, version_made
    from platformops.clock import SystemClock
    from platformops.delivery.ci.reports import junit
    from platformops.delivery.ci.smoke import judged_answers, warm_up_requests

    clock, where = SystemClock(), settings.home()
    with settings.opened_store(where) as store:
        made = planned(spec, set_, store=store, clock=clock, environment=environment)
        version, system = version_made(made, store), made.spec.system
        serve = made.spec.serve
        warm_up = warm_up_requests(serve.replicas[1], AT_ONCE)
        burst = answers(made.spec, version, store, where, clock, warm_up + requests)
        checks = judged_answers(burst, serve.slo, version=version.name, warm_up=warm_up)
    if report:
        write_files(report, {f"smoke-{system}.xml": junit(f"smoke-{system}", checks)})
    is_good = all(check.passed for check in checks)
    undone = _rolled_back(system, clock) if or_rollback and not is_good else ""
    if json_:
        rows: list[Json] = [{"name": c.name, "passed": c.passed, "reason": c.reason} for c in checks]
        print_json({"system": system, "version": version.name, "checks": rows, "rollback": undone})
    else:
        told = [(c.name, "passed" if c.passed else "failed", c.reason) for c in checks]
        print_table(("check", "state", "why"), [*told, *([("rollback", "ordered", undone)] if undone else [])])
        next_step(f"platformops why {system}")
    if not is_good:
        raise typer.Exit(1)


def _rolled_back(system: str, clock: Clock) -> str:
    """What became of the order to go back; a first version has nothing to go back to."""
    from platformops.cli import settings
    from platformops.cli.ordering import given
    from platformops.cli.rollback import ended
    from platformops.delivery import orders
    from platformops.errors import UserError

    with settings.opened_store(settings.home()) as store:
        try:
            rollout = ended(store, given(orders.roll_back, store, system, "ci smoke", clock), clock)
        except UserError as error:
            return f"not possible: {error.message}"
    return f"{rollout.name} is {rollout.state.value}: {rollout.reason}"
