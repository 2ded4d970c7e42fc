"""Finds the working tree, the spec that its pipeline is made from, and its pipeline files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from platformops.delivery.ci.records import CiPipeline
from platformops.delivery.ci.systems import SYSTEMS, CiSystem
from platformops.errors import UserError
from platformops.spec.types import PlatformSpec

SpecHere = Annotated[
    Path | None,
    typer.Argument(
        metavar="SPEC",
        help="A YAML file; default the one of the pipeline files, else the only one here or in configs/.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Found:
    top: Path
    """Where the pipeline runs: the top of the working tree."""
    spec: PlatformSpec
    pipeline: CiPipeline


def found(given: Path | None) -> Found:
    """The pipeline of the spec that was given, or is found. Raises UserError, naming the candidates."""
    from platformops.cli import settings
    from platformops.delivery.ci.stages import pipeline_of
    from platformops.spec.load import load_spec

    top = top_of(Path.cwd())
    path = _within(given, top) if given else _default(top)
    spec = load_spec(top / path, data_root=settings.data_root())
    return Found(top, spec, pipeline_of(spec, path))


def top_of(directory: Path) -> Path:
    """The top of the working tree around `directory`, which it is itself where there is none."""
    from platformops.cli.revision import asked
    from platformops.registry.checkout import git_root, svn_root

    tops = [git_root(asked("git", directory)), svn_root(asked("svn", directory))]
    return Path(max((top for top in tops if top), key=len, default=str(directory)))


def _within(given: Path, top: Path) -> str:
    try:
        return given.resolve().relative_to(top.resolve()).as_posix()
    except ValueError:
        raise UserError(f"{given}: lies outside of the working tree {top}", remedy="name a spec within it") from None


def _default(top: Path) -> str:
    from platformops.delivery.ci.region import spec_in

    texts = [text for system in SYSTEMS.values() if (text := text_of(system, top)) is not None]
    named = dict.fromkeys(spec for text in texts if (spec := spec_in(text)))
    candidates = list(named) or sorted(set(_specs(top)))
    if len(candidates) == 1:
        return candidates[0]
    where = f"there are several specs: {', '.join(candidates)}" if candidates else "no spec here or in configs/"
    raise UserError(where, remedy="name the one: platformops ci write gitlab SPEC")


def _specs(top: Path) -> Iterator[str]:
    """YAML files with a line `system: NAME`."""
    for folder in dict.fromkeys((Path.cwd(), top, top / "configs")):
        for path in (*folder.glob("*.yaml"), *folder.glob("*.yml")):
            if path.is_file() and any(line.startswith("system:") for line in _lines(path)):
                yield path.resolve().relative_to(top.resolve()).as_posix()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def text_of(system: CiSystem, top: Path) -> str | None:
    """What the system's file holds; None where there is none. Raises UserError where it cannot be read."""
    try:
        return (top / system.file).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{system.file}: cannot be read: {error}") from None
