"""Who is let go when there are too many connections."""

from platformops.gateway.connections import Connections


def test_the_stranger_that_waits_longest_makes_room():
    book = Connections(most=3, most_per_client=3)
    assert [book.opened("x", c, now) for now, c in enumerate("abc")] == [None, None, None]
    book.busy("x", "a")
    assert book.opened("x", "d", 3) == "b"


def test_a_client_that_works_is_kept_while_half_open_connections_displace_one_another():
    book = Connections(most=100, most_per_client=3)
    book.opened("x", "good", 0)
    book.busy("x", "good")
    book.waits("x", "good", 1)
    for now, slow in enumerate(["s1", "s2", "s3", "s4"], start=2):
        victim = book.opened("x", slow, now)
        assert victim != "good"
        if victim is not None:
            book.closed("x", victim)


def test_when_all_are_busy_the_new_one_is_refused():
    book = Connections(most=1, most_per_client=1)
    book.opened("x", "a", 0)
    book.busy("x", "a")
    assert book.opened("x", "b", 1) == "b"


def test_the_greediest_address_gives_way_when_the_server_is_full():
    book = Connections(most=4, most_per_client=4)
    book.opened("modest", "m", 0)
    for now, c in enumerate("abc", start=1):
        book.opened("greedy", c, now)
    assert book.opened("newcomer", "n", 5) == "a"


def test_only_heads_that_are_owed_too_long_are_overdue():
    book = Connections(most=9, most_per_client=9)
    for now, c in enumerate("abc"):
        book.opened("x", c, now)
    book.busy("x", "a")
    book.waits("x", "a", 0)
    assert list(book.overdue(before=1)) == ["b"]
    book.begins("x", "a", 9)
    assert list(book.overdue(before=9)) == ["b", "c", "a"]


def test_nothing_is_kept_of_clients_that_left():
    book = Connections(most=9, most_per_client=9)
    for c in "ab":
        book.opened("x", c, 0)
        book.closed("x", c)
    assert (book.num_connections, book._clients) == (0, {})
