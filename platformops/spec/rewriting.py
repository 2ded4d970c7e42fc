"""New values in a spec's text, with its comments, its order and its layout left as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping

import yaml

from platformops.errors import UserError
from platformops.store.records import Json


def with_values(text: str, section: str, values: Mapping[str, Json]) -> str:
    """The text with `values` in its top-level `section`: each replaced where it stands, or added at the section's end.

    Raises UserError for a text whose section cannot be changed in place.
    """
    for key, value in values.items():
        text = _with_value(text, section, key, json.dumps(value))
    found = yaml.safe_load(text)
    if not isinstance(found, dict) or any(found.get(section, {}).get(k) != v for k, v in values.items()):
        raise UserError(f"`{section}` cannot be changed in place", remedy="write the values by hand")
    return text


def _with_value(text: str, section: str, key: str, value: str) -> str:
    node = _child(yaml.compose(text, Loader=yaml.SafeLoader), section)
    if node is None:
        return f"{text.rstrip()}\n{section}: {{{key}: {value}}}\n"
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"`{section}` is no section", remedy=f"write it as {section}: {{{key}: {value}}}")
    old = _child(node, key)
    if old is not None:
        start, end = old.start_mark.index, old.end_mark.index
        kept = text[start:end]  # a block value ends where the next one begins, with the line break between them
        return text[:start] + value + kept[len(kept.rstrip()) :] + text[end:]
    if node.flow_style:
        end = node.end_mark.index - 1
        return text[:end].rstrip() + (", " if node.value else "") + f"{key}: {value}" + text[end:]
    first = node.start_mark
    return text[: first.index] + f"{key}: {value}\n" + " " * first.column + text[first.index :]


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in pairs if key.value == name), None)
