"""Which trees may be released into which environment."""

import pytest

from platformops.delivery.origin import refused_origin
from platformops.registry.records import Provenance
from platformops.spec.types import EnvironmentSpec

CLEAN = Provenance("git", "abc", "main", states=("detached", "shallow"))
DIRTY = Provenance("git", "abc", "main", states=("modified",))
MIXED = Provenance("svn", "12", "^/trunk", states=("mixed", "switched"))


@pytest.mark.parametrize(
    ("environment", "wanted", "tree", "is_refused"),
    [
        ("production", EnvironmentSpec(), CLEAN, False),
        ("production", EnvironmentSpec(), DIRTY, True),
        ("production", EnvironmentSpec(), MIXED, True),
        ("production", EnvironmentSpec(tree="any"), DIRTY, False),
        ("production", None, DIRTY, False),
        ("production", EnvironmentSpec(), Provenance(), False),
        ("test", EnvironmentSpec(), DIRTY, False),
        ("test", EnvironmentSpec(tree="clean"), DIRTY, True),
    ],
)
def test_a_tree_that_its_revision_does_not_give_again_reaches_no_production(environment, wanted, tree, is_refused):
    assert (refused_origin(environment, wanted, tree) is not None) is is_refused


def test_a_refusal_says_what_the_tree_is_and_how_to_mend_or_allow_it():
    reason, remedy = refused_origin("production", EnvironmentSpec(), MIXED)
    assert "r12 of ^/trunk of mixed revisions and with switched parts" in reason
    assert remedy == "svn update; svn switch the parts back; or allow it: environments.production.tree: any"
