"""Where a version came from: the code revision it was made with, and the tree from it down to digests of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from platformops.registry.records import ModelVersion

Git = Callable[[Sequence[str]], str | None]
"""Runs git with these arguments in the directory in question: what it printed, None when it failed."""

UNKNOWN = "unknown"
_SHOWN = 12  # characters of a digest that people compare by eye


def code_revision(git: Git) -> tuple[str, bool]:
    """Commit and whether anything differs from it; (`unknown`, False) where there is no commit.

    Untracked files count as a difference, since a run may well have imported them; ignored ones do not.
    """
    commit = git(["rev-parse", "--verify", "HEAD"])
    if commit is None or not commit.strip():
        return UNKNOWN, False
    changes = git(["status", "--porcelain", "--untracked-files=normal"])
    return commit.strip(), changes is None or bool(changes.strip())


def said_revision(version: ModelVersion) -> str:
    lineage = version.lineage
    return f"{lineage.code_revision} with uncommitted changes" if lineage.code_dirty else lineage.code_revision


def lineage_of(version: ModelVersion) -> str:
    """The tree from the version to the digests of its data, for people."""
    lineage = version.lineage
    branches = [
        (f"run {lineage.run_id}", []),
        (f"code {said_revision(version)}", []),
        ("steps", [_step_line(name, version) for name in lineage.steps]),
        ("data", [f"{source} {digest}" for source, digest in lineage.sources.items()]),
    ]
    return "\n".join([f"{version.name} {_digest(version.fingerprint)}", *_drawn(branches)])


def _step_line(name: str, version: ModelVersion) -> str:
    artifact = version.artifacts.get(name)
    line = f"{name} {_digest(version.lineage.steps[name])}"
    if isinstance(artifact, Mapping):
        line += f" (manifest {_digest(artifact.get('manifest_digest'))})"
    return line


def _drawn(branches: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    lines = []
    for index, (name, leaves) in enumerate(branches):
        is_last = index == len(branches) - 1
        lines.append(f"{'└── ' if is_last else '├── '}{name}")
        for leaf_index, leaf in enumerate(leaves):
            corner = "└── " if leaf_index == len(leaves) - 1 else "├── "
            lines.append(f"{'    ' if is_last else '│   '}{corner}{leaf}")
    return lines


def _digest(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN]
