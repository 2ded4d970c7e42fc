"""The JSON Schema for editors, and the templates of `init`."""

from pathlib import Path

import pytest
import yaml

from platformops.apps.image.operations import CHECKS
from platformops.spec.checks import OPERATIONS
from platformops.spec.load import load_spec
from platformops.spec.schema import json_schema
from platformops.spec.templates import app_text, spec_text
from platformops.spec.types import PlatformSpec

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_every_key_of_a_spec_is_in_the_schema_with_its_explanation():
    schema = json_schema()
    assert set(schema["properties"]) == set(PlatformSpec.model_fields)
    assert "quarantined" in schema["$defs"]["CheckSpec"]["properties"]["missing_ratio"]["description"]
    assert schema["additionalProperties"] is False


def test_a_stage_has_the_key_with_as_it_is_written():
    assert "with" in json_schema()["$defs"]["StageSpec"]["properties"]


def test_the_operations_that_a_spec_may_name_are_those_that_the_application_knows():
    assert set(OPERATIONS) == set(CHECKS)


@pytest.mark.parametrize("source", ["sklearn://digits", "../photos", "s3://bucket/path", "we ird: #'\"\\"])
def test_what_init_writes_is_a_good_spec(tmp_path, source):
    folder = tmp_path / "cats"
    (folder / source).mkdir(parents=True) if "://" not in source else folder.mkdir()
    (folder / "cats.yaml").write_text(spec_text("cats", file="cats.yaml", source=source))
    (folder / "app.py").write_text(app_text("cats"))
    spec = load_spec(folder / "cats.yaml")
    assert (spec.system, spec.app, spec.data.source) == ("cats", "./app.py", source)


def test_the_app_that_init_writes_is_short_and_loads(tmp_path):
    from platformops.apps.load import load_app

    (tmp_path / "app.py").write_text(app_text("cats"))
    app = load_app("./app.py", tmp_path)
    assert app.transform.__module__ == app.build_model.__module__ != app.decode.__module__
    assert len(app_text("cats").splitlines()) <= 20


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_every_file_in_configs_is_a_good_spec(path):
    # Whether their data is here depends on the machine.
    assert load_spec(path, check_files=False).system
    assert yaml.safe_load(path.read_text())["system"] == path.stem
