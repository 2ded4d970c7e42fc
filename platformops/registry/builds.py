"""Which CI system runs this, on whose behalf and for which revision: read from the variables that it sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from platformops.registry.checkout import without_credentials
from platformops.registry.records import UNKNOWN, Provenance


@dataclass(frozen=True, slots=True)
class CiNames:
    """Names of a CI system's variables; of several the first that is set counts."""

    system: str
    marker: str
    """Is set wherever that system runs something."""
    revision: tuple[str, ...]
    branch: tuple[str, ...]
    url: tuple[str, ...]
    who: tuple[str, ...]


KNOWN = (
    CiNames(
        system="gitlab",
        marker="GITLAB_CI",
        revision=("CI_COMMIT_SHA",),
        branch=("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_REF_NAME"),
        url=("CI_JOB_URL", "CI_PIPELINE_URL"),
        who=("GITLAB_USER_LOGIN",),
    ),
    CiNames(
        system="jenkins",
        marker="JENKINS_URL",
        revision=("GIT_COMMIT", "SVN_REVISION"),
        branch=("CHANGE_BRANCH", "BRANCH_NAME", "GIT_BRANCH"),
        url=("BUILD_URL",),
        who=("BUILD_USER_ID", "CHANGE_AUTHOR"),
    ),
    CiNames(
        system="travis",
        marker="TRAVIS",
        revision=("TRAVIS_COMMIT",),
        branch=("TRAVIS_PULL_REQUEST_BRANCH", "TRAVIS_BRANCH"),
        url=("TRAVIS_BUILD_WEB_URL",),
        who=(),
    ),
    CiNames(
        system="github",
        marker="GITHUB_ACTIONS",
        revision=("GITHUB_SHA",),
        branch=("GITHUB_HEAD_REF", "GITHUB_REF_NAME"),
        url=(),
        who=("GITHUB_ACTOR",),
    ),
)


def in_build(provenance: Provenance, environment: Mapping[str, str], *, user: str = "") -> Provenance:
    """`provenance` with what the CI system's variables add; version control's own answers stand.

    A CI system checks out a commit rather than a branch, so the branch is its own to tell. `user` is who is logged in
    where no CI system runs.
    """
    names = next((names for names in KNOWN if environment.get(names.marker)), None)
    if names is None:
        return replace(provenance, who=user)
    found = _first(environment, names.revision)
    return replace(
        provenance,
        revision=found if provenance.revision == UNKNOWN and found else provenance.revision,
        branch=provenance.branch or _first(environment, names.branch),
        ci=names.system,
        build_url=without_credentials(_first(environment, names.url) or _github_url(environment)),
        who=_first(environment, names.who),
    )


def _first(environment: Mapping[str, str], names: Sequence[str]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _github_url(environment: Mapping[str, str]) -> str:
    parts = [environment.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")]
    return f"{parts[0]}/{parts[1]}/actions/runs/{parts[2]}" if all(parts) else ""
