"""KubeRay's own schemas, with the defaults of the API server applied before a manifest is held against them."""

import copy
import gzip
import json
import os
from pathlib import Path

import pytest

SCHEMAS = "kuberay_v1_schemas_stripped.json.gz"


def schemas():
    """Kind -> JSON Schema; skips the test where they are not at hand."""
    jsonschema = pytest.importorskip("jsonschema")
    data = os.environ.get("PLATFORMOPS_DATA", "")
    place = Path(data).parent / "kit" / SCHEMAS
    if not data or not place.is_file():
        pytest.skip(f"{SCHEMAS} is not beside PLATFORMOPS_DATA")
    found = json.loads(gzip.decompress(place.read_bytes()))
    return {name.partition("|")[2]: jsonschema.Draft202012Validator(schema) for name, schema in found.items()}


def problems(manifest):
    """What the API server would refuse, each with its place."""
    known = schemas()
    validator, tree = known[manifest["kind"]], copy.deepcopy(manifest)
    _fill(validator.schema, tree)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(tree)]


def _fill(schema, tree):
    if isinstance(tree, list) and "items" in schema:
        for item in tree:
            _fill(schema["items"], item)
    if not isinstance(tree, dict):
        return
    for name, inner in schema.get("properties", {}).items():
        if name not in tree and "default" in inner:
            tree[name] = copy.deepcopy(inner["default"])
        if name in tree:
            _fill(inner, tree[name])
    if isinstance(schema.get("additionalProperties"), dict):
        for name in tree.keys() - schema.get("properties", {}).keys():
            _fill(schema["additionalProperties"], tree[name])
