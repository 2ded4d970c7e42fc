"""The description of the interface, tried out: answers are as described, and never 5xx."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import GenerationMode

from tests.gateway.door import Door, served

pytestmark = pytest.mark.real

EXAMPLES = 40
"""Of each operation; an operation has a valid and an invalid half."""


@pytest.fixture(scope="module")
def gateway():
    """A gateway and its address."""
    door = Door()
    with served(door) as port:
        yield door, f"http://127.0.0.1:{port}"


def described():
    document = Door().ask("GET", "/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    return schema


SCHEMA = described()


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_described_and_never_an_error_of_ours(case, gateway):
    door, address = gateway
    if "system" in (case.path_parameters or {}) and case.operation.method.upper() == "POST":
        case.path_parameters["system"] = "digits"
    response = case.call(base_url=address, headers={"Authorization": f"Bearer {door.tokens['operate']}"})
    case.validate_response(response)
    assert response.status_code < 500
