"""Refuses, on record, a release from a tree that its environment does not take; says it when such a one is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platformops.errors import GateRefused

if TYPE_CHECKING:
    from platformops.cli.planning import Planned
    from platformops.cli.running import Session

STAGE = "tree"


def check_origin(made: Planned, environment: str, s: Session) -> None:
    """Raises GateRefused, before anything runs, where `environment` takes no tree like the one around the spec."""
    from platformops.cli.revision import provenance_in
    from platformops.delivery.decisions import decision_puts
    from platformops.delivery.origin import refused_origin
    from platformops.delivery.records import Decision
    from platformops.pipeline.records import Progress

    wanted = made.spec.environments.get(environment)
    tree = provenance_in(made.root) if wanted else None  # asking takes a tenth of a second that most runs can spare
    if tree is None or not tree.unclean:
        return
    refused = refused_origin(environment, wanted, tree)
    if refused is None:
        s.show(Progress(STAGE, "done", message=f"{tree.said}; {environment} allows it"))
        return
    reason, remedy = refused
    decision = Decision(made.spec.system, "refused to release from this tree", reason, (), remedy, s.clock.now())
    s.store.commit(decision_puts(s.store, [decision]))
    raise GateRefused(reason, remedy=remedy)
