"""The spec as each of its environments has it."""

import pytest

from platformops.errors import UserError
from platformops.spec.environments import in_environment
from platformops.spec.types import PlatformSpec

SPEC = PlatformSpec.model_validate({
    "system": "digits", "stages": ({"name": "a", "uses": "m:f"},), "release": {"steps": ("1%", "100%")},
    "environments": {"production": {"approve": ("ada",)}, "staging": {"approve": ("eve",)}},
})  # fmt: skip


def test_production_is_the_spec_as_it_is_written():
    assert in_environment(SPEC, "production") is SPEC


def test_another_environment_is_a_system_of_its_own_that_takes_its_traffic_at_once():
    staging = in_environment(SPEC, "staging")
    assert (staging.system, staging.release.steps) == ("digits-staging", ("100%",))
    assert staging.environments["production"].approve == ("eve",), "its own approvers, not those of production"
    assert staging.stages == SPEC.stages


def test_the_test_environment_is_there_without_being_named_and_wants_no_approval():
    assert in_environment(SPEC, "test").environments["production"].approve == ()


def test_an_environment_that_is_not_named_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'staging'"):
        in_environment(SPEC, "stagign")


def test_a_system_name_that_would_be_too_long_is_refused():
    with pytest.raises(UserError, match="1 to 63"):
        in_environment(SPEC.model_copy(update={"system": "x" * 60}), "test")
