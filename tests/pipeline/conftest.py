import pytest

from tests.pipeline.workshop import workshop_at


@pytest.fixture
def shop(tmp_path):
    return workshop_at(tmp_path)
