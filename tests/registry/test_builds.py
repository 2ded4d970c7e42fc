"""What the variables of each CI system add to what version control says."""

import pytest

from platformops.registry.builds import in_build
from platformops.registry.records import Provenance

TREE = Provenance("git", "c0ffee")
GITHUB = {
    "GITHUB_ACTIONS": "true", "GITHUB_SHA": "abc", "GITHUB_REF_NAME": "main", "GITHUB_ACTOR": "ada",
    "GITHUB_SERVER_URL": "https://git", "GITHUB_REPOSITORY": "a/b", "GITHUB_RUN_ID": "7",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"GITLAB_CI": "true", "CI_COMMIT_SHA": "abc", "CI_COMMIT_REF_NAME": "main", "GITLAB_USER_LOGIN": "ada",
          "CI_PIPELINE_URL": "https://u:p@git/p/7"}, ("gitlab", "main", "https://git/p/7", "ada")),
        ({"JENKINS_URL": "http://j", "GIT_COMMIT": "abc", "BRANCH_NAME": "main", "BUILD_URL": "http://j/7"},
         ("jenkins", "main", "http://j/7", "")),
        ({"TRAVIS": "true", "TRAVIS_COMMIT": "abc", "TRAVIS_BRANCH": "main", "TRAVIS_BUILD_WEB_URL": "http://t/7"},
         ("travis", "main", "http://t/7", "")),
        (GITHUB, ("github", "main", "https://git/a/b/actions/runs/7", "ada")),
        ({}, ("", "", "", "eve")),
    ],
    ids=["gitlab", "jenkins", "travis", "github", "nowhere"],
)  # fmt: skip
def test_a_ci_system_tells_its_name_branch_build_and_who(environment, told):
    tree = in_build(TREE, environment, user="eve")
    assert (tree.ci, tree.branch, tree.build_url, tree.who) == told
    assert tree.revision == "c0ffee", "what version control says stands"


def test_the_revision_of_the_ci_system_stands_in_where_there_is_no_version_control():
    assert in_build(Provenance(), GITHUB).revision == "abc"
    assert in_build(Provenance(), {"JENKINS_URL": "j", "SVN_REVISION": "12"}).revision == "12"


def test_the_own_branch_stands_and_an_empty_variable_counts_as_none():
    assert in_build(Provenance("git", "a", "mine"), GITHUB).branch == "mine"
    assert in_build(TREE, {**GITHUB, "GITHUB_HEAD_REF": ""}).branch == "main"
    assert in_build(TREE, {**GITHUB, "GITHUB_HEAD_REF": "topic"}).branch == "topic"
