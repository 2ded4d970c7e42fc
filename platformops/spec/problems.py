"""What pydantic found, in words for the person who wrote the file: `place: what (got value)`, nearest spelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, get_args

from platformops.spec.document import Document, Place
from platformops.spec.echo import did_you_mean, escaped, nearest, shown
from platformops.spec.names import METRIC, METRIC_RULE, NAME, NAME_RULE
from platformops.store.records import Json

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_RULES = {NAME: NAME_RULE, METRIC: METRIC_RULE}
_KIND = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "model_type": "a section with keys",
    "dict_type": "a section with keys",
    "tuple_type": "a list",
    "finite_number": "a finite number",
}
_BOUND = {"greater_than": "above {gt:g}", "greater_than_equal": "at least {ge:g}", "less_than_equal": "at most {le:g}"}


def dotted(place: Place) -> str:
    """`data.prepare[1].crop`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{escaped(part)}" for part in place)
    return text.removeprefix(".")


def line(file: str, place: Place, problem: str) -> str:
    """`file: place: problem`, as every problem is printed."""
    return f"{file}: {dotted(place)}: {problem}" if place else f"{file}: {problem}"


def translated(error: ValidationError, document: Document, model: type[BaseModel]) -> dict[Place, str]:
    """One problem a place; the branches of a union are joined by `or`."""
    found: dict[Place, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        found.setdefault(_place(detail, document.tree), []).append(detail)
    return {place: _problem(place, details, document, model) for place, details in found.items()}


def value_at(tree: Json, place: Place) -> Json:
    """The value at `place`; raises LookupError when there is none."""
    for part in place:
        match tree:
            case Mapping() if isinstance(part, str):
                tree = tree[part]
            case list() if isinstance(part, int):
                tree = tree[part]
            case _:
                raise LookupError(part)
    return tree


def _place(detail: ErrorDetails, tree: Json) -> Place:
    """Pydantic's location without the names it gives to branches of a union and to keys."""
    place = tuple(detail["loc"])
    kept = len(place) - (detail["type"] == "missing")
    for end in range(kept, -1, -1):
        try:
            value_at(tree, place[:end])
        except LookupError:
            continue
        return place if detail["type"] == "missing" and end == kept else place[:end]
    return ()


def _problem(place: Place, details: Sequence[ErrorDetails], document: Document, model: type[BaseModel]) -> str:
    first = details[0]
    match first["type"]:
        case "refused" if "(" in first["ctx"]["what"]:
            return str(first["ctx"]["what"])
        case "refused":
            return f"{first['ctx']['what']} (got {_got(place, document)})"
        case "missing":
            return "is required"
        case "extra_forbidden":
            return f"unknown key{did_you_mean(place[-1], _keys(model, place[:-1]))}"
        case "string_pattern_mismatch":
            rule = _RULES.get(first["ctx"]["pattern"], "must be module:function")
            return f"{rule} (got {_got(place, document)})"
    wanted = dict.fromkeys(_wanted(detail) for detail in details)
    return f"must be {' or '.join(wanted)} (got {_got(place, document)}){_near_word(details)}"


def _wanted(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"])
    if kind in _BOUND:
        return _BOUND[kind].format(**context)
    if kind in _KIND:
        return _KIND[kind]
    return escaped(detail["msg"]).removeprefix("Input should be ")


def _got(place: Place, document: Document) -> str:
    """The value, and how YAML came to it where a person would not expect that."""
    value, written = value_at(document.tree, place), document.written.get(place)
    if written is None:
        return shown(value)
    if isinstance(value, str):
        return f"{shown(value)}, which YAML reads as text: a number with an exponent is written 1.0e-3"
    return f"{escaped(written)}, which YAML reads as {shown(value)}: put it in quotes if text is meant"


def _near_word(details: Sequence[ErrorDetails]) -> str:
    words = [w.strip("' ") for d in details if d["type"] == "literal_error" for w in d["ctx"]["expected"].split(" or ")]
    words = [w.strip("' ") for word in words for w in word.split(",")]
    value = details[0]["input"]
    return nearest(value, words) if isinstance(value, str) else ""


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that the section at `place` accepts."""
    from pydantic import BaseModel

    kinds: list[object] = [model]
    for part in place:
        if isinstance(part, str):
            sections = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
            fields = [f for s in sections for name, f in s.model_fields.items() if (f.alias or name) == part]
            kinds = [k for f in fields for k in _parts(f.annotation)]
    models = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
    return [f.alias or name for m in models for name, f in m.model_fields.items()]


def _parts(annotation: object) -> list[object]:
    """The annotation and all that it is made of: `tuple[StageSpec, ...]` holds StageSpec."""
    return [annotation, *(p for a in get_args(annotation) for p in _parts(a))]
