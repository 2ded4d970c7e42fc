"""Which URLs name a store."""

import subprocess
import sys

import pytest

from platformops.errors import UserError
from platformops.store.open import open_store
from platformops.store.records import ABSENT, numbered


def test_a_path_with_any_name_is_taken_literally(tmp_path):
    path = tmp_path / "sp ace #1 %41 :memory:.db"
    store = open_store(f"sqlite:///{path}")
    store.put("k", {}, expect=ABSENT)
    store.close()
    assert path.exists()


def test_three_slashes_are_relative_to_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///here.db").close()
    assert (tmp_path / "here.db").exists()


BAD_URLS = [
    "",
    "sqlite://",
    "sqlite:///",
    "sqlite:///:memory:",
    "sqlite:///a?mode=ro",
    "mysql://me:hush@host/db",
    "/path",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_names_no_store_is_refused_with_what_to_write(url):
    with pytest.raises(UserError, match="fix: write sqlite:///") as caught:
        open_store(url)
    assert "hush" not in str(caught.value)


def test_a_sqlite_store_is_opened_without_the_slow_libraries():
    code = (
        "import sys, platformops.store.open; print([m for m in ('sqlalchemy', 'fsspec', 's3fs') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_numbers_in_keys_sort_as_numbers():
    assert sorted(map(numbered, (10, 9, 100, 1))) == [numbered(n) for n in (1, 9, 10, 100)]
