"""`init`: two files that a person can change, and that work as they are."""

import pytest

from platformops.spec.load import load_spec


def test_init_writes_a_spec_and_an_app_that_plan_accepts(platformops, tmp_path):
    answer = platformops("init", "--app", "image", "cats", "--json")
    assert answer.code == 0
    assert answer.json == {"system": "cats", "spec": "cats/cats.yaml", "app": "cats/app.py"}
    planned = platformops("plan", "cats/cats.yaml", "--json")
    assert [step["name"] for step in planned.json["steps"]] == ["prepare", "train", "evaluate"]


def test_a_relative_source_is_written_as_seen_from_the_spec(platformops, tmp_path):
    (tmp_path / "work" / "photos" / "cat").mkdir(parents=True)
    assert platformops("init", "cats", "--source", "photos").code == 0
    assert load_spec(tmp_path / "work" / "cats" / "cats.yaml").data.source == "../photos"


def test_init_never_overwrites(platformops, tmp_path):
    assert platformops("init", "cats").code == 0
    spec = tmp_path / "work" / "cats" / "cats.yaml"
    spec.write_text("mine")
    answer = platformops("init", "cats")
    assert answer.code == 2
    assert "already there" in answer.err
    assert spec.read_text() == "mine"


def test_when_one_file_is_in_the_way_neither_is_written(platformops, tmp_path):
    folder = tmp_path / "work" / "here"
    folder.mkdir()
    (folder / "app.py").symlink_to("nowhere")
    assert platformops("init", "cats", "--to", "here").code == 2
    assert [p.name for p in folder.iterdir()] == ["app.py"]


@pytest.mark.parametrize("name", ["../x", "a/b", "-x", "", "A", "a\nb", "x" * 64, "‮x", "CON"])
def test_a_name_that_is_none_writes_nothing(platformops, tmp_path, name):
    answer = platformops("init", "--", name)
    assert answer.code == 2
    assert not list((tmp_path / "work").iterdir())
    assert "\u202e" not in answer.err


@pytest.mark.parametrize("source", ["nowhere", "http://x/y", "data://x", "sklearn://digit"])
def test_a_source_that_cannot_be_read_writes_nothing(platformops, tmp_path, source):
    answer = platformops("init", "cats", "--source", source)
    assert answer.code == 2
    assert "data.source" in answer.err
    assert not list((tmp_path / "work").iterdir())


def test_an_unknown_kind_of_application_is_named_with_the_nearest(platformops):
    answer = platformops("init", "cats", "--app", "imgae")
    assert answer.code == 2
    assert "did you mean 'image'?" in answer.err
