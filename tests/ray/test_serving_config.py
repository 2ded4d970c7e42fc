"""The config for `serve deploy` is one that Serve accepts, opens no proxy, and names functions that are there."""

import importlib
import inspect
from pathlib import Path

import pytest
import yaml

CONFIG = Path(__file__).resolve().parents[2] / "serve" / "config.yaml"

pytestmark = pytest.mark.filterwarnings("ignore")
"""Importing Serve warns about itself."""


def read():
    return yaml.safe_load(CONFIG.read_text())


def test_serve_accepts_the_config_and_starts_no_proxy():
    from ray.serve.schema import ServeDeploySchema

    assert ServeDeploySchema.model_validate(read()).proxy_location == "Disabled"


@pytest.mark.parametrize("application", read()["applications"], ids=lambda a: a["name"])
def test_every_application_is_a_function_that_takes_these_arguments(application):
    module, name = application["import_path"].split(":")
    function = getattr(importlib.import_module(module), name)
    (parameter,) = inspect.signature(function, eval_str=True).parameters.values()
    parameter.annotation.model_validate(application["args"])
    with pytest.raises(ValueError, match="Extra inputs"):
        parameter.annotation.model_validate({**application["args"], "tpyo": 1})


def test_a_system_without_a_stable_revision_is_refused_by_name(tmp_path):
    from platformops.errors import UserError
    from serve.model import ModelArguments, application

    with pytest.raises(UserError, match="digits has no stable revision"):
        application(ModelArguments(home=tmp_path, system="digits"))
