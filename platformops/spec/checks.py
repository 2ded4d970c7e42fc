"""What sections must not say together: rules over the whole tree, which hold however broken the rest of it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from platformops.errors import UserError
from platformops.spec.conditions import condition, parity
from platformops.spec.document import Place
from platformops.spec.echo import did_you_mean, shown
from platformops.spec.types import APPS
from platformops.store.records import Json

BUILT_IN_STAGES = ("prepare", "search", "train", "evaluate")
OPERATIONS = ("channels", "resize", "crop", "flip", "cutout", "normalize")
"""What the built-in application can do to an image; the user's own may know more."""
Problem = tuple[Place, str]


def section(tree: Json, key: str) -> Mapping[str, Json]:
    """The mapping under `key`, or an empty one."""
    value = tree.get(key) if isinstance(tree, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def entries(tree: Json, key: str) -> Sequence[Json]:
    """The list under `key`, or an empty one."""
    value = tree.get(key) if isinstance(tree, Mapping) else None
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def whole_spec_problems(tree: Mapping[str, Json]) -> Iterator[Problem]:
    """Every contradiction between sections, and every text whose grammar depends on where it stands."""
    yield from _presence(tree)
    yield from _app(tree.get("app"))
    yield from _gates(section(tree, "gates"))
    yield from _operations(entries(section(tree, "data"), "prepare"), closed=tree.get("app") in APPS)
    yield from _search(tree)
    yield from _stages(tree)


def _presence(tree: Mapping[str, Json]) -> Iterator[Problem]:
    if "app" in tree:
        for key, example in (("data", "{source: sklearn://digits}"), ("gates", '{accuracy: ">= 0.9"}')):
            if not tree.get(key):
                yield (key,), f"is required with an app, for example {key}: {example}"
        return
    for key in ("data", "gates", "search", "train"):
        if tree.get(key):
            yield (key,), "needs an `app`, such as app: image"
    if not tree.get("stages"):
        yield (), "has neither `app` nor `stages`, so there is nothing to run"


def _app(app: Json) -> Iterator[Problem]:
    if not isinstance(app, str) or app in APPS:
        return
    if not app.endswith(".py"):
        yield ("app",), f"is not a built-in application (got {shown(app)}){did_you_mean(app, [*APPS, './app.py'])}"
    elif app.startswith("/") or ".." in app.split("/") or "\\" in app:
        yield ("app",), f"must be a file below the spec's own folder, such as ./app.py (got {shown(app)})"


def _gates(gates: Mapping[str, Json]) -> Iterator[Problem]:
    for metric, text in gates.items():
        if not isinstance(text, str):
            continue
        try:
            parity(text) if metric == "parity" else condition(metric, text)
        except UserError as error:
            yield ("gates", metric), f"{error.message} (got {shown(text)})"


def _operations(operations: Sequence[Json], *, closed: bool) -> Iterator[Problem]:
    for i, operation in enumerate(operations):
        if not isinstance(operation, Mapping):
            continue
        place: Place = ("data", "prepare", i)
        if len(operation) != 1:
            yield place, f"must be one operation, such as {{resize: 32}} (got {shown(operation)})"
        for name in operation:
            if closed and name not in OPERATIONS:
                yield (*place, name), f"unknown operation{did_you_mean(name, OPERATIONS)}"


def _search(tree: Mapping[str, Json]) -> Iterator[Problem]:
    trial, full = section(tree, "search").get("epochs"), section(tree, "train").get("epochs")
    if isinstance(trial, int) and isinstance(full, int) and trial > full:
        yield ("search", "epochs"), f"must be at most train.epochs, {full} (got {trial})"


def _stages(tree: Mapping[str, Json]) -> Iterator[Problem]:
    built_in = set(BUILT_IN_STAGES) if "app" in tree else set()
    known = built_in - (set() if tree.get("search") else {"search"})
    needs: dict[str, list[str]] = {}
    for i, stage in enumerate(entries(tree, "stages")):
        name = stage.get("name") if isinstance(stage, Mapping) else None
        if not isinstance(name, str):
            continue
        if name in built_in:
            yield ("stages", i, "name"), f"{name} is a built-in stage of an app; choose another name"
        elif name in needs:
            yield ("stages", i, "name"), f"two stages are called {shown(name)}"
        needs.setdefault(name, [n for n in entries(stage, "needs") if isinstance(n, str)])
    yield from _needs(tree, known | set(needs))
    cycle = _cycle(needs)
    if cycle:
        yield ("stages",), f"need each other in a circle: {' -> '.join(cycle)}"


def _needs(tree: Mapping[str, Json], known: set[str]) -> Iterator[Problem]:
    for i, stage in enumerate(entries(tree, "stages")):
        for j, need in enumerate(entries(stage, "needs")):
            if isinstance(need, str) and need not in known:
                yield ("stages", i, "needs", j), f"there is no stage {shown(need)}{did_you_mean(need, known)}"


def _cycle(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """One circle of names, first and last equal; empty when there is none."""
    settled: set[str] = set()
    for start in needs:
        trail: list[str] = []
        waiting = [(start, 0)]
        while waiting:
            name, depth = waiting.pop()
            del trail[depth:]
            if name in trail:
                return [*trail[trail.index(name) :], name]
            if name not in needs or name in settled:
                continue
            trail.append(name)
            waiting += [(n, depth + 1) for n in needs[name]]
        settled.add(start)
    return []
