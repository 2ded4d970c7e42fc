"""Where a version came from, asked of a real git and told as a tree."""

import shutil
import subprocess
from dataclasses import replace

import pytest

from platformops.cli.revision import git_in
from platformops.registry.lineage import code_revision, lineage_of
from platformops.registry.records import Lineage, ModelVersion

VERSION = ModelVersion(
    model="digits",
    number=3,
    fingerprint="e" * 64,
    artifacts={"train": {"fingerprint": "b" * 64, "manifest_digest": "f" * 64}},
    metrics={},
    params={},
    lineage=Lineage({"sklearn://digits": "d" * 64}, {"prepare": "a" * 64, "train": "b" * 64}, "r-1", "c0ffee", False),
    created_at=0.0,
)


def test_the_tree_leads_from_the_version_to_the_digests_of_its_data():
    assert lineage_of(VERSION) == "\n".join(
        [
            "digits:v3 eeeeeeeeeeee",
            "├── run r-1",
            "├── code c0ffee",
            "├── steps",
            "│   ├── prepare aaaaaaaaaaaa",
            "│   └── train bbbbbbbbbbbb (manifest ffffffffffff)",
            "└── data",
            f"    └── sklearn://digits {'d' * 64}",
        ]
    )


def test_uncommitted_changes_are_said_in_the_tree():
    dirty = replace(VERSION, lineage=replace(VERSION.lineage, code_dirty=True))
    assert "├── code c0ffee with uncommitted changes" in lineage_of(dirty)


def answering(answers):
    return lambda arguments: answers.get(arguments[0])


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"rev-parse": "abc\n", "status": ""}, ("abc", False)),
        ({"rev-parse": "abc\n", "status": " M file\n"}, ("abc", True)),
        ({"rev-parse": "abc\n", "status": None}, ("abc", True)),
        ({"rev-parse": None}, ("unknown", False)),
        ({"rev-parse": ""}, ("unknown", False)),
    ],
)
def test_what_git_answers_becomes_a_revision(answers, said):
    assert code_revision(answering(answers)) == said


@pytest.fixture
def tree(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git(tmp_path, "init", "-q")
    (tmp_path / "app.py").write_text("x = 1\n")
    (tmp_path / ".gitignore").write_text("ignored\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
    return tmp_path


def git(folder, *arguments):
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def test_a_clean_tree_is_its_commit(tree):
    commit, is_dirty = code_revision(git_in(tree))
    assert len(commit) == 40
    assert not is_dirty
    (tree / "ignored").write_text("")
    assert code_revision(git_in(tree)) == (commit, False)


@pytest.mark.parametrize("name", ["app.py", "new.py"])
def test_a_changed_and_an_untracked_file_make_a_tree_dirty(tree, name):
    (tree / name).write_text("x = 2\n")
    assert code_revision(git_in(tree))[1]


def test_a_folder_without_a_repository_or_a_commit_is_unknown(tmp_path):
    assert code_revision(git_in(tmp_path / "nowhere")) == ("unknown", False)
    git(tmp_path, "init", "-q")
    assert code_revision(git_in(tmp_path)) == ("unknown", False)


def test_a_machine_without_git_is_unknown(tree, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert code_revision(git_in(tree)) == ("unknown", False)
