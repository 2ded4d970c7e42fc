"""Whether the tree that a release comes from may reach its environment."""

from __future__ import annotations

from platformops.registry.records import UNCLEAN, Provenance
from platformops.spec.environments import PRODUCTION
from platformops.spec.types import EnvironmentSpec

_REMEDIES = {
    "modified": "commit the changes, or put them away",
    "mixed": "svn update",
    "switched": "svn switch the parts back",
    "sparse": "svn update --set-depth infinity",
}


def refused_origin(environment: str, wanted: EnvironmentSpec | None, tree: Provenance) -> tuple[str, str] | None:
    """Why `tree` may not be released into `environment`, and what to do; None when it may.

    `wanted` is what the spec says of the environment, None when it does not name it. A tree without version control is
    let through: there is no revision that it could differ from.
    """
    if wanted is None or not tree.unclean or not _wants_clean(environment, wanted):
        return None
    steps = "; ".join(_REMEDIES[state] for state in UNCLEAN if state in tree.unclean)
    reason = f"{environment} takes only what a revision gives again, and this tree is {tree.said}"
    return reason, f"{steps}; or allow it: environments.{environment}.tree: any"


def _wants_clean(environment: str, wanted: EnvironmentSpec) -> bool:
    return wanted.tree == "clean" or (wanted.tree == "auto" and environment == PRODUCTION)
