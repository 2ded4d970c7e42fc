"""An interrupted search goes on, and begins again where it cannot."""

import pytest
import ray

from platformops.on_ray.search import continued


@pytest.fixture
def folder(tmp_path):
    left = tmp_path / "search"
    left.mkdir()
    (left / "state").write_text("of an earlier search")
    return left


def said(*_):
    return None


def must_not_run():
    raise AssertionError("this search was not to be run")


def test_an_interrupted_search_goes_on(folder):
    assert continued(folder, lambda: "results", must_not_run, said) == "results"
    assert list(folder.iterdir())


def test_a_search_that_cannot_go_on_begins_again_in_an_empty_folder_and_says_why(folder):
    told = []

    def half_written():
        raise RuntimeError("no search space has been defined")

    def fresh():
        assert not folder.exists()
        return "new results"

    assert continued(folder, half_written, fresh, lambda _, message, **figures: told.append(message)) == "new results"
    assert "no search space has been defined" in told[0]


def test_a_search_that_was_never_begun_is(folder):
    assert continued(folder, lambda: None, lambda: "results", said) == "results"


def test_a_cluster_in_trouble_costs_no_finished_trial(folder):
    def lost():
        raise ray.exceptions.RaySystemError("the head is gone")

    with pytest.raises(ray.exceptions.RaySystemError):
        continued(folder, lost, must_not_run, said)
    assert list(folder.iterdir())
