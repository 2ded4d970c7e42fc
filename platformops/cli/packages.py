"""Gathers what goes into a system's package: its own files, the platform's, and the distributions they need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from platformops.cli.planning import Planned
from platformops.delivery.packaging.image import Component
from platformops.pipeline.modules import PLATFORM, PLATFORM_ROOT, find_module, import_roots
from platformops.pipeline.records import USES


def own_files(made: Planned, spec: Path) -> dict[str, bytes]:
    """Path from the spec's folder -> content: the spec, and the code that its plan's fingerprints cover."""
    files = {spec.name: spec.read_bytes()}
    for name in {name for step in made.plan.steps for name in step.key.code}:
        if name == USES or name.partition(".")[0] == PLATFORM:
            continue
        path = _source(name, made.root)
        files[_relative(path, name, made.root)] = path.read_bytes()
    return files


def _source(name: str, root: Path) -> Path:
    return (root / name).resolve() if name.endswith(".py") else find_module(name, import_roots(root)).path


def _relative(path: Path, name: str, root: Path) -> str:
    """As it lies below the spec; a module from elsewhere where its name leads to."""
    if path.resolve().is_relative_to(root.resolve()):
        return path.resolve().relative_to(root.resolve()).as_posix()
    folder = name.replace(".", "/")
    return f"{folder}/__init__.py" if path.name == "__init__.py" else f"{folder}.py"


def platform_files() -> dict[str, bytes]:
    """The platform's own modules, and the applications for Ray Serve where they lie beside them."""
    folders = [PLATFORM_ROOT / PLATFORM, PLATFORM_ROOT / "serve"]
    found = (path for folder in folders if (folder / "model.py").is_file() or folder.name == PLATFORM
             for path in sorted(folder.rglob("*")))  # fmt: skip
    return {
        path.relative_to(PLATFORM_ROOT).as_posix(): path.read_bytes()
        for path in found
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts
    }


def platform_info() -> dict[str, str]:
    """Its metadata as it is installed here: what it requires, and its command."""
    installed = distribution(PLATFORM)
    names = ("METADATA", "entry_points.txt", "top_level.txt")
    return {name: text for name in names if (text := installed.read_text(name))}


def required() -> tuple[Component, ...]:
    """Every distribution that the platform needs, directly or not, in the version that is installed here."""
    found: dict[str, Component] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(PLATFORM, frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform, or an extra that nobody asked for
        if name != PLATFORM:
            found[name] = Component(installed.metadata["Name"], installed.version)
        waiting += _needs(installed, extras)
    return tuple(found[name] for name in sorted(found))


def _needs(installed: Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for line in installed.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield re.sub(r"[-_.]+", "-", requirement.name).lower(), frozenset(requirement.extras)
