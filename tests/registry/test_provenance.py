"""Which state of the code a run starts from, asked of a real Git and a real Subversion behind its server."""

import subprocess
from dataclasses import replace
from hashlib import sha256

import pytest

from platformops.cli import revision
from platformops.cli.revision import provenance_in
from platformops.registry.checkout import git_provenance, svn_states, without_credentials
from platformops.registry.records import UNKNOWN, Provenance
from tests.registry.repositories import Subversion, git, git_repository

NO_CI = {}


@pytest.fixture
def tree(tmp_path):
    return git_repository(tmp_path / "tree")


def test_a_clean_git_tree_is_its_commit_branch_and_remote_without_the_password(tree):
    found = provenance_in(tree, NO_CI)
    assert found == Provenance(
        "git", git(tree, "rev-parse", "HEAD"), "main", "https://git.example/team/app.git", who=found.who
    )


@pytest.mark.parametrize("name", ["app.py", "new.py", "deep/new.py"])
def test_a_changed_and_an_untracked_file_make_a_git_tree_modified(tree, name):
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text("x = 2\n")
    assert provenance_in(tree, NO_CI).unclean == ("modified",)


def test_ignored_files_and_what_the_platform_leaves_do_not_make_a_git_tree_modified(tree):
    (tree / "ignored").write_text("")
    (tree / ".platformops").mkdir()
    (tree / ".platformops" / "report").write_text("")
    assert provenance_in(tree, NO_CI).states == ()


def test_the_whole_git_tree_counts_when_the_spec_lies_below_it(tree):
    (tree / "below").mkdir()
    (tree / "app.py").write_text("x = 2\n")
    assert provenance_in(tree / "below", NO_CI).unclean == ("modified",)


def test_a_detached_head_has_the_branch_that_the_ci_system_tells(tree):
    git(tree, "checkout", "-q", "--detach")
    assert provenance_in(tree, NO_CI).states == ("detached",)
    told = provenance_in(tree, {"GITLAB_CI": "true", "CI_COMMIT_REF_NAME": "topic"})
    assert (told.branch, told.unclean) == ("topic", ())


def test_a_shallow_clone_and_a_worktree_are_said_and_are_clean(tree, tmp_path):
    git(tree, "commit", "--allow-empty", "-qm", "second")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{tree}", "shallow")
    git(tree, "worktree", "add", "-q", "-b", "topic", str(tmp_path / "other"))
    shallow, other = (provenance_in(tmp_path / name, NO_CI) for name in ("shallow", "other"))
    assert (shallow.states, shallow.unclean) == (("shallow",), ())
    assert (other.states, other.branch, other.revision) == (("worktree",), "topic", shallow.revision)


def test_a_folder_without_version_control_is_unknown(tmp_path):
    assert provenance_in(tmp_path, NO_CI).revision == UNKNOWN
    assert provenance_in(tmp_path / "nowhere", NO_CI).vcs == ""


def test_a_git_tree_without_a_commit_is_unknown_and_a_status_that_is_not_answered_counts_as_a_change(tmp_path):
    git(tmp_path, "init", "-q")
    assert provenance_in(tmp_path, NO_CI).revision == UNKNOWN
    answers = {"rev-parse": "abc\n"}
    assert git_provenance(lambda arguments: answers.get(arguments[0])).unclean == ("modified",)


def test_a_machine_without_tools_is_unknown(tree, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance_in(tree, NO_CI).revision == UNKNOWN


def test_the_lock_file_is_looked_for_from_the_spec_upwards_to_the_top_of_the_tree(tree):
    (tree / "below").mkdir()
    (tree.parent / "uv.lock").write_text("outside")
    assert provenance_in(tree / "below", NO_CI).lock_file == ""
    (tree / "requirements.txt").write_text("numpy==2.0\n")
    found = provenance_in(tree / "below", NO_CI)
    assert (found.lock_file, found.lock_digest) == ("requirements.txt", sha256(b"numpy==2.0\n").hexdigest())
    (tree / "below" / "uv.lock").write_text("nearer")
    assert provenance_in(tree / "below", NO_CI).lock_file == "uv.lock"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Subversion(tmp_path_factory.mktemp("svn") / "root").served() as server:
        trunk = server.working_copy()
        server.commit(trunk, "x = 1\n")
        server.commit(trunk, "y = 1\n", "other.py")
        server.svn(trunk, "update")
        yield server


@pytest.fixture
def trunk(served, request):
    return served.working_copy(f"wc-{abs(hash(request.node.name))}")


def test_anonymous_reading_is_refused_by_the_server(served):
    with pytest.raises(subprocess.CalledProcessError):
        served.svn(served.root, "checkout", f"{served.url}/trunk", "anonymous", user="")


def test_a_clean_working_copy_is_its_repository_path_and_last_changed_revision(served, trunk):
    found = provenance_in(trunk, NO_CI)
    uuid = served.svn(trunk, "info", "--show-item", "repos-uuid")
    assert found == Provenance("svn", "3", "^/trunk", served.url, uuid, who=found.who)


def test_a_commit_elsewhere_does_not_change_the_last_changed_revision(served, trunk):
    before = provenance_in(trunk, NO_CI).revision
    served.svn(served.root, "copy", "-m", "branch", f"{served.url}/trunk", f"{served.url}/branches/elsewhere")
    served.svn(trunk, "update")
    assert provenance_in(trunk, NO_CI).revision == before


@pytest.mark.parametrize("name", ["app.py", "new.py"])
def test_a_changed_and_an_unversioned_file_make_a_working_copy_modified(trunk, name):
    (trunk / name).write_text("x = 2\n")
    (trunk / ".platformops").mkdir()
    assert provenance_in(trunk, NO_CI).unclean == ("modified",)
    (trunk / name).unlink()


def test_what_the_platform_leaves_does_not_make_a_working_copy_modified(trunk):
    (trunk / ".platformops").mkdir()
    assert provenance_in(trunk, NO_CI).states == ()


def test_a_changed_property_makes_a_working_copy_modified(served, trunk):
    served.svn(trunk, "propset", "note", "x", "app.py")
    assert provenance_in(trunk, NO_CI).unclean == ("modified",)


def test_a_commit_leaves_mixed_revisions_until_an_update(served):
    branch = f"{served.url}/branches/mixed"
    served.svn(served.root, "copy", "-m", "branch", f"{served.url}/trunk", branch)
    tree = served.working_copy("mixed", "branches/mixed")
    served.commit(tree, "x = 3\n")
    assert provenance_in(tree, NO_CI).unclean == ("mixed",)
    served.svn(tree, "update")
    assert provenance_in(tree, NO_CI).unclean == ()


def test_a_switched_part_and_a_part_left_out_are_said(served):
    served.svn(served.root, "mkdir", "-m", "more", f"{served.url}/branches/parts", f"{served.url}/branches/parts/a",
               f"{served.url}/branches/parts/b", f"{served.url}/branches/other-a")  # fmt: skip
    tree = served.working_copy("parts", "branches/parts")
    served.svn(tree, "switch", "--ignore-ancestry", f"{served.url}/branches/other-a", "a")
    assert provenance_in(tree, NO_CI).unclean == ("switched",)
    served.svn(served.root, "checkout", "--depth", "empty", f"{served.url}/branches/parts", "sparse")
    assert provenance_in(served.root / "sparse", NO_CI).unclean == ("sparse",)


def test_a_tag_by_cheap_copy_is_a_path_of_its_own(served):
    served.svn(served.root, "copy", "-m", "tag", f"{served.url}/trunk", f"{served.url}/tags/v1")
    found = provenance_in(served.working_copy("tag", "tags/v1"), NO_CI)
    assert (found.branch, found.unclean) == ("^/tags/v1", ())
    assert int(found.revision) > 3, "the copy is the path's last change"


def test_of_a_working_copy_within_a_git_tree_the_inner_one_counts(served, tmp_path):
    outer = git_repository(tmp_path / "outer")
    served.svn(outer, "checkout", f"{served.url}/trunk", "inner")
    assert provenance_in(outer / "inner", NO_CI).vcs == "svn"
    assert provenance_in(outer, NO_CI).vcs == "git"


@pytest.mark.parametrize(
    ("version", "states"),
    [("4123", ()), ("4123:4168", ("mixed",)), ("4123M", ("modified",)), ("4:5MSP",
     ("mixed", "modified", "sparse", "switched")), ("exported", ("modified",)), (None, ("modified",))],
)  # fmt: skip
def test_what_svnversion_says_becomes_states(version, states):
    assert svn_states(version, "<status/>") == states


def test_a_status_that_is_not_answered_counts_as_modified():
    assert svn_states("12", None) == ("modified",)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ada:secret@host:8443/a.git", "https://host:8443/a.git"),
        ("https://gitlab-ci-token:t0ken@host/a.git?private_token=x#y", "https://host/a.git"),
        ("git@host:team/app.git", "host:team/app.git"),
        ("svn+ssh://ada@host/repo", "svn+ssh://host/repo"),
        ("/srv/git/app.git", "/srv/git/app.git"),
        ("file:///srv/app", "file:///srv/app"),
        ("https://[broken", ""),
        ("", ""),
    ],
)
def test_a_url_is_kept_without_credentials(url, shown):
    assert without_credentials(url) == shown


def test_who_is_logged_in_counts_where_no_ci_system_runs(tree, monkeypatch):
    monkeypatch.setattr(revision, "_user", lambda: "ada")
    assert replace(provenance_in(tree, NO_CI), states=()).who == "ada"
