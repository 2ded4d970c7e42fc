"""JSON Schema of a spec file, so that an editor completes, explains and checks it while it is written."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

from platformops.spec import types
from platformops.store.records import JsonObject

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> JsonObject:
    """The schema of a whole file, with each field's docstring as its description."""
    schema: dict[str, Any] = types.PlatformSpec.model_json_schema(by_alias=True)
    models = {"PlatformSpec": schema, **schema["$defs"]}
    for model, field, text in _field_docstrings():
        properties = models[model]["properties"] if model in models else {}
        if field in properties:
            properties[field]["description"] = text
    return {"$schema": DIALECT, **schema, "title": "PlatformOps spec"}


def _field_docstrings() -> Iterator[tuple[str, str, str]]:
    """(model, field as written in YAML, docstring below it), from the source: Python keeps none at run time."""
    source = Path(types.__file__).read_text(encoding="utf-8")
    for model in (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)):
        for field, below in zip(model.body, model.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                yield model.name, ast.unparse(field.target).rstrip("_"), cleandoc(ast.literal_eval(below.value))
