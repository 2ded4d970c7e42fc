"""From a spec file to a plan: what `plan`, `run` and `up` do first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from platformops.cli import settings
from platformops.clock import Clock
from platformops.pipeline.records import Plan
from platformops.spec.environments import PRODUCTION
from platformops.spec.types import PlatformSpec
from platformops.store.records import Store


@dataclass(frozen=True, slots=True)
class Planned:
    spec: PlatformSpec
    root: Path
    """The folder of the spec file: its relative paths start here."""
    plan: Plan


def planned(
    path: Path, overrides: Sequence[str] | None, *, store: Store, clock: Clock, environment: str = PRODUCTION
) -> Planned:
    """The spec in `path` with `--set` laid over it, and its steps with their fingerprints."""
    from platformops.pipeline.builtin import stages_of
    from platformops.pipeline.identity import FileIdentity
    from platformops.pipeline.plan import make_plan
    from platformops.spec.environments import in_environment
    from platformops.spec.load import load_spec

    data_root = settings.data_root()
    spec = in_environment(load_spec(path, overrides=overrides or (), data_root=data_root), environment)
    root = path.absolute().parent
    identity = FileIdentity(root=root, data_root=data_root, store=store, clock=clock)
    return Planned(spec, root, make_plan(spec.system, stages_of(spec), identity=identity))
