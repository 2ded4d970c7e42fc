"""A power cut takes what was not synced: files are synced before a rename shows them, it before anybody is told."""

import re
from pathlib import Path

import pytest

from tests.faults import system_calls
from tests.faults.operations.on_artifacts import ON_ARTIFACTS
from tests.faults.operations.on_checkpoints import ON_CHECKPOINTS
from tests.faults.sweep import Sweep

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(system_calls.why_not()), reason=system_calls.why_not()),
]
CALL = re.compile(r"^\d+\s+(\w+)\((.*)\)\s+= (?:\d+(?:<(.*)>)?)")
SHOWN = {"publish": "artifacts/f1", "checkpoint": "checkpoints/epoch-000003"}


def calls_of(log):
    """(call, paths) of each call that changes or syncs something, and went well."""
    for line in log.read_text().splitlines():
        if not (found := CALL.match(line)):
            continue
        call, arguments, opened = found.groups()
        quoted = re.findall(r'"([^"]*)"', arguments)
        if call in ("write", "pwrite64", "fsync", "fdatasync"):
            yield call, (re.match(r"\d+<([^>]*)>", arguments) or [None, ""])[1], None
        elif call == "openat" and "O_CREAT" in arguments:
            yield "create", opened, None
        elif call == "mkdir":
            yield call, quoted[0], None
        elif call == "rename":
            yield call, *quoted


class Disk:
    """What a power cut would take at each moment."""

    def __init__(self):
        self.unsynced = set()
        self.shown_too_early = []

    def see(self, call, path, target):
        if call in ("write", "pwrite64"):
            self.unsynced.add(path)
        elif call in ("create", "mkdir"):
            self.unsynced.add(str(Path(path).parent))
        elif call in ("fsync", "fdatasync"):
            self.unsynced.discard(path)
        elif call == "rename":
            self.shown_too_early += [p for p in self.unsynced if p == path or p.startswith(f"{path}/")]
            self.unsynced.add(str(Path(target).parent))


@pytest.mark.parametrize("operation", [ON_ARTIFACTS[0], ON_CHECKPOINTS[0]], ids=lambda operation: operation.name)
def test_what_is_shown_is_synced_before_and_what_is_told_is_synced_too(tmp_path, operation):
    sweep, disk, renames = Sweep(tmp_path, [operation]), Disk(), []
    for call, path, target in calls_of(sweep.log_of(operation)):
        disk.see(call, path, target)
        renames += [target] if target else []
    (shown,) = renames
    assert shown.endswith(SHOWN[operation.name])
    assert disk.shown_too_early == []
    lost = {path for path in disk.unsynced if path == str(Path(shown).parent) or path.startswith(shown)}
    assert lost == set(), "acknowledged, and a power cut would take it"
