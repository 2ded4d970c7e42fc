"""Which CI systems there are, and the file of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from platformops.delivery.ci import github, gitlab, jenkins, travis
from platformops.delivery.ci.records import CiPipeline
from platformops.delivery.ci.region import Region, merged, outside


@dataclass(frozen=True, slots=True)
class CiSystem:
    name: str
    file: str
    """From the top of the working tree."""
    regions: Callable[[CiPipeline, str], tuple[Region, ...]]
    """Of a pipeline, given a person's own part of the file."""
    between: str = ""


SYSTEMS = {
    system.name: system
    for system in (
        CiSystem("gitlab", gitlab.FILE, gitlab.gitlab_regions),
        CiSystem("jenkins", jenkins.FILE, jenkins.jenkins_regions, jenkins.BETWEEN),
        CiSystem("travis", travis.FILE, travis.travis_regions),
        CiSystem("github", github.FILE, github.github_regions),
    )
}


def written(system: CiSystem, pipeline: CiPipeline, existing: str | None) -> str:
    """The system's file, with all of `existing` that is a person's own; writing it again changes nothing.

    Raises UserError for a file without our marks.
    """
    regions = system.regions(pipeline, outside(existing, system.file))
    return merged(existing, regions, pipeline.spec, file=system.file, between=system.between)
