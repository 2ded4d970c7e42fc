"""`--set train.epochs=3` laid over the tree of a spec file, before it is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from platformops.errors import SpecError, UserError
from platformops.spec.document import Document, Place, parse
from platformops.spec.echo import escaped
from platformops.store.records import Json


def overridden(document: Document, overrides: Sequence[str]) -> Document:
    """The document with each override laid over it in turn; raises SpecError that names the override."""
    problems: list[str] = []
    for override in overrides:
        name = f"--set {escaped(override)}"
        try:
            document = _with(document, override, name)
        except SpecError as error:
            problems += error.problems
        except UserError as error:
            problems.append(f"{name}: {error.message}")
    if problems:
        raise SpecError(problems, remedy="write it as --set section.key=value")
    return document


def _with(document: Document, override: str, name: str) -> Document:
    path, equals, text = override.partition("=")
    place = tuple(path.split("."))
    if not equals or not all(place):
        raise UserError("must be section.key=value")
    value = parse(text, name)
    for inner, problem in value.problems.items():
        raise UserError(f"{'.'.join(map(str, inner))} {problem}".strip())
    tree, at = _replaced(document.tree, place, value.tree, ())
    under = {p: w for p, w in document.written.items() if p[: len(at)] != at}
    return Document(
        tree=tree,
        written=under | {(*at, *p): w for p, w in value.written.items()},
        overridden={**document.overridden, at: name},
        problems={p: w for p, w in document.problems.items() if not p or p[: len(at)] != at},
    )


def _replaced(tree: Json, place: Sequence[str], value: Json, above: Place) -> tuple[Json, Place]:
    """The tree with `value` at `place`, and that place with list positions as numbers."""
    if not place:
        return value, above
    if isinstance(tree, Mapping) or tree is None:
        inner, at = _replaced((tree or {}).get(place[0]), place[1:], value, (*above, place[0]))
        return {**(tree or {}), place[0]: inner}, at
    if not isinstance(tree, Sequence) or isinstance(tree, str):
        raise UserError(f"{'.'.join(map(str, above))} is a single value and has no key {escaped(place[0])}")
    position = int(place[0]) if place[0].isdecimal() and len(place[0]) < 6 else len(tree)
    if position >= len(tree):
        raise UserError(f"{'.'.join(map(str, above))} is a list of {len(tree)}; name a position from 0")
    inner, at = _replaced(tree[position], place[1:], value, (*above, position))
    return [*tree[:position], inner, *tree[position + 1 :]], at
