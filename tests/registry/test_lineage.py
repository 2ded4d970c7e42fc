"""Where a version came from, told as a tree."""

from dataclasses import replace

import pytest

from platformops.registry.lineage import lineage_of
from platformops.registry.records import Lineage, ModelVersion, Provenance

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


def test_what_is_known_of_the_code_is_said_in_the_tree():
    tree = Provenance(
        "git", "c0ffee", "main", "https://host/x.git", ci="gitlab", build_url="https://ci/7", who="ada",
        lock_file="uv.lock", lock_digest="9" * 64,
    )  # fmt: skip
    told = lineage_of(replace(VERSION, lineage=replace(VERSION.lineage, provenance=tree)))
    assert "├── code c0ffee on main\n│   ├── from https://host/x.git" in told
    assert "│   ├── built by gitlab https://ci/7 for ada" in told
    assert f"│   └── uv.lock {'9' * 12}\n" in told


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (Provenance("git", "abc", states=("detached", "shallow")), "abc"),
        (Provenance("git", "abc", "main", states=("modified",)), "abc on main with uncommitted changes"),
        (Provenance("svn", "12", "^/trunk", states=("mixed", "switched")),
         "r12 of ^/trunk of mixed revisions and with switched parts"),
    ],
)  # fmt: skip
def test_a_tree_that_its_revision_does_not_give_again_is_said_to_be_so(tree, said):
    assert tree.said == said
