"""Placements keep off nodes that take no new work, and never by a selector that nothing fulfils."""

from platformops.on_ray.avoiding import avoided, selector


def test_every_node_but_the_closed_ones_fulfils_the_selector_whatever_their_order():
    assert selector(["b", "a"]) == selector(("a", "b")) == {"ray.io/node-id": "!in(a,b)"}


def test_without_a_closed_node_there_is_no_selector():
    assert selector(()) == {}


def test_a_process_without_a_cluster_avoids_nobody():
    assert avoided() == ()
