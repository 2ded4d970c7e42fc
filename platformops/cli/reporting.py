"""Leaves the reports of a run in a folder, where a CI system finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from platformops.errors import UserError

if TYPE_CHECKING:
    from platformops.cli.running import Ran
    from platformops.delivery.records import GateResult


def write_reports(folder: Path, ran: Ran, gates: Sequence[GateResult]) -> None:
    """`gates.xml` (JUnit), `metrics.txt` (OpenMetrics), `model.md` (a table for a comment) and `badge.svg`."""
    from platformops.delivery.ci.records import Check
    from platformops.delivery.ci.reports import badge, junit, open_metrics, table
    from platformops.registry.lineage import said_revision

    checks = [Check(gate.name, gate.passed, gate.reason) for gate in gates]
    files = {"gates.xml": junit("gates", checks)}
    if ran.version is not None:
        version, system = ran.version, ran.planned.spec.system
        accuracy = version.metrics.get("accuracy")
        said = f"accuracy {accuracy:.3f}" if isinstance(accuracy, float) else f"v{version.number}"
        files |= {
            "metrics.txt": open_metrics(system, version.metrics),
            "model.md": table(system, version.name, version.metrics, checks, code=said_revision(version)),
            "badge.svg": badge(system, said, is_good=all(check.passed for check in checks)),
        }
    write_files(folder, files)


def write_files(folder: Path, texts: Mapping[str, str]) -> None:
    """Name -> text. Raises UserError for a folder that cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to: {error.strerror}", remedy="name another folder") from None
