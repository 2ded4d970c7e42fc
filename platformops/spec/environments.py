"""The spec as one of its environments has it: production as written, the others beside it, each under its own name."""

from __future__ import annotations

from platformops.errors import UserError
from platformops.spec.echo import did_you_mean, shown
from platformops.spec.names import checked_name
from platformops.spec.types import EnvironmentSpec, PlatformSpec

PRODUCTION, TEST = "production", "test"
AT_ONCE = ("100%",)


def system_in(system: str, environment: str) -> str:
    """What the system is called in an environment: `digits`, and `digits-test` beside it."""
    return system if environment == PRODUCTION else f"{system}-{environment}"


def in_environment(spec: PlatformSpec, environment: str) -> PlatformSpec:
    """`spec` for `environment`: outside production a system of its own, which takes its traffic at once.

    The name is no part of any step's identity, so every environment has the same artifacts. Raises UserError for one
    that the spec does not name; `production` and `test` are always there.
    """
    if environment == PRODUCTION:
        return spec
    if environment not in (TEST, *spec.environments):
        known = [PRODUCTION, TEST, *spec.environments]
        raise UserError(
            f"there is no environment {shown(environment)}{did_you_mean(environment, known)}",
            remedy=f"name it in the spec: environments: {{{environment}: {{}}}}",
        )
    system = checked_name(system_in(spec.system, environment), "environment")
    own = spec.environments.get(environment, EnvironmentSpec())
    return spec.model_copy(
        update={
            "system": system,
            "release": spec.release.model_copy(update={"steps": AT_ONCE}),
            "environments": {environment: own, PRODUCTION: own},
        }
    )
