"""A release from a tree that production does not take is refused before anything runs, and on record."""

from tests.registry.repositories import git, git_repository

SPEC = """\
system: digits
app: image
data: {source: sklearn://digits}
gates: {accuracy: ">= 0.9"}
environments: {production: {}}
"""


def test_a_changed_tree_is_refused_before_anything_runs_and_why_tells_it(platformops, tmp_path):
    tree = git_repository(tmp_path / "tree")
    spec = tree / "digits.yaml"
    spec.write_text(SPEC)
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "spec")
    (tree / "app.py").write_text("x = 2\n")
    answer = platformops("release", str(spec), "--json")
    assert answer.code == 1
    assert "on main with uncommitted changes" in answer.json["error"]["what"]
    assert "environments.production.tree: any" in answer.json["error"]["fix"]
    told = platformops("why", "digits", "--json").json
    assert told["decision"] == "refused to release from this tree"
    assert told["reason"] == answer.json["error"]["what"]
