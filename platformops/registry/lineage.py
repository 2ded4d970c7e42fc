"""Where a version came from, for people: the code it was made with, and the tree down to digests of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from platformops.registry.records import ModelVersion, Provenance

_SHOWN = 12  # characters of a digest that people compare by eye


def said_revision(version: ModelVersion) -> str:
    lineage = version.lineage
    if lineage.provenance.vcs:
        return lineage.provenance.said
    return f"{lineage.code_revision} with uncommitted changes" if lineage.code_dirty else lineage.code_revision


def _origin(provenance: Provenance) -> list[str]:
    """What is known beside the revision, a line each."""
    repository = f" ({provenance.repository})" if provenance.repository else ""
    built = f"built by {provenance.ci} {provenance.build_url}".rstrip() if provenance.ci else ""
    lines = (
        f"from {provenance.remote}{repository}" if provenance.remote else "",
        f"{built} for {provenance.who}".strip() if provenance.who else built,
        f"{provenance.lock_file} {_digest(provenance.lock_digest)}" if provenance.lock_file else "",
    )
    return [line for line in lines if line]


def lineage_of(version: ModelVersion) -> str:
    """The tree from the version to the digests of its data, for people."""
    lineage = version.lineage
    branches: list[tuple[str, Sequence[str]]] = [
        (f"run {lineage.run_id}", []),
        (f"code {said_revision(version)}", _origin(lineage.provenance)),
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
