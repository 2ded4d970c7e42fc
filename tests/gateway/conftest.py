import pytest

from tests.gateway.door import Door, served


@pytest.fixture
def door():
    return Door()


@pytest.fixture
def port(door):
    with served(door) as port:
        yield port
