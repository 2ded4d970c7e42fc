"""An application is a built-in name or a file; what is missing or wrong is refused by name before anything runs."""

import pickle
from pathlib import Path

import pytest

from platformops.apps import image
from platformops.apps.load import load_app
from platformops.errors import AppError


def app_file(tmp_path: Path, text: str) -> str:
    (tmp_path / "app.py").write_text(text, encoding="utf-8")
    return "./app.py"


def test_the_built_in_image_app_has_every_function(tmp_path):
    app = load_app("image", tmp_path)
    assert app.name == "image"
    assert app.decode is image.decode


def test_an_unknown_name_says_what_can_be_written(tmp_path):
    with pytest.raises(AppError, match=r"'img' is not known(.|\n)*image"):
        load_app("img", tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(AppError, match=r"app\.py is not there"):
        load_app("./app.py", tmp_path)


@pytest.mark.parametrize("rest", ["from platformops.apps.image import *", 'BASE = "image"'])
def test_a_file_replaces_one_function_and_takes_the_rest(tmp_path, rest):
    ref = app_file(tmp_path, f"{rest}\ndef encode(outputs, classes):\n    return [{{'mine': True}}]\n")
    app = load_app(ref, tmp_path)
    assert app.encode(None, ()) == [{"mine": True}]
    assert app.transform is image.transform


def test_a_file_without_a_base_has_every_missing_function_named(tmp_path):
    ref = app_file(tmp_path, "def rows(part):\n    return []\n")
    with pytest.raises(AppError) as refused:
        load_app(ref, tmp_path)
    assert "decode is missing" in str(refused.value)
    assert "score is missing" in str(refused.value)
    assert "rows is missing" not in str(refused.value)


def test_a_function_with_the_wrong_arguments_is_refused_with_the_right_ones(tmp_path):
    ref = app_file(tmp_path, 'BASE = "image"\ndef decode(content):\n    return content\n')
    with pytest.raises(AppError, match=r"decode\(content\) cannot be called as decode\(content: .*max_pixels"):
        load_app(ref, tmp_path)


def test_a_name_that_holds_no_function_is_refused(tmp_path):
    ref = app_file(tmp_path, 'BASE = "image"\ntransform = 3\n')
    with pytest.raises(AppError, match="transform is a int, not a function"):
        load_app(ref, tmp_path)


def test_a_file_that_cannot_be_imported_says_why(tmp_path):
    with pytest.raises(AppError, match="ZeroDivisionError"):
        load_app(app_file(tmp_path, "1 / 0\n"), tmp_path)


def test_an_unknown_base_is_refused(tmp_path):
    with pytest.raises(AppError, match="BASE is 'imag'"):
        load_app(app_file(tmp_path, 'BASE = "imag"\n'), tmp_path)


def test_functions_of_a_file_can_be_sent_to_another_process(tmp_path):
    app = load_app(app_file(tmp_path, 'BASE = "image"\ndef rows(part):\n    return []\n'), tmp_path)
    assert pickle.loads(pickle.dumps(app.rows)) is app.rows
