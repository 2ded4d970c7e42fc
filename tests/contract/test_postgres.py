"""What only the Postgres store can meet: a server that goes away, comes back, or belongs to somebody else."""

import pytest

from platformops.errors import StoreUnavailable, UserError
from platformops.store.open import open_store
from platformops.store.records import ABSENT

pytestmark = pytest.mark.real


@pytest.fixture
def url(postgres):
    return postgres.database()


@pytest.fixture
def store(url):
    opened = open_store(url)
    yield opened
    opened.close()


def execute(url, statement):
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def test_a_server_that_restarts_is_reconnected_to(postgres, store):
    store.put("k", {"n": 1}, expect=ABSENT)
    postgres.stop()
    try:
        for use in (lambda: store.get("k"), lambda: store.put("k", {}, expect=1)):
            with pytest.raises(StoreUnavailable, match="the connection failed") as caught:
                use()
        assert "start the database" in caught.value.remedy
    finally:
        postgres.start()
    assert store.get("k").value == {"n": 1}
    assert store.put("k", {"n": 2}, expect=1) == 2


def test_a_server_that_is_killed_keeps_what_was_acknowledged(postgres, store):
    versions = [store.put("k", {"n": n}, expect=n) for n in range(20)]
    postgres.stop("immediate")
    postgres.start()
    assert store.get("k").version == versions[-1]


def test_connections_that_the_server_closed_are_replaced(url, store):
    store.put("k", {"n": 1}, expect=ABSENT)
    execute(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database()")  # fmt: skip
    assert store.put("k", {"n": 2}, expect=1) == 2


def test_a_server_that_is_not_there_is_named_without_the_password():
    with pytest.raises(
        StoreUnavailable, match=r"store postgresql://me:\*\*\*@127.0.0.1:1/db: the connection failed"
    ) as caught:
        open_store("postgresql://me:hush@127.0.0.1:1/db")
    assert "hush" not in str(caught.value)


def test_a_url_that_cannot_be_read_is_refused_without_the_password():
    with pytest.raises(UserError) as caught:
        open_store("postgresql://me:hush@host:port/db")
    assert "hush" not in str(caught.value)


def test_a_missing_database_is_said(postgres):
    with pytest.raises(StoreUnavailable, match='database "nowhere" does not exist'):
        open_store(postgres.url("nowhere"))


def test_an_older_program_refuses_a_newer_store(url):
    open_store(url).close()
    execute(url, "UPDATE platformops_schema SET version = 99")
    with pytest.raises(StoreUnavailable, match="newer PlatformOps"):
        open_store(url)


def test_a_changed_value_is_found_by_its_checksum(url, store):
    store.put("k", {"n": 1}, expect=ABSENT)
    execute(url, "UPDATE platformops_entries SET value = '{}'")
    for use in (lambda: store.get("k"), lambda: store.put("k", {}, expect=None)):
        with pytest.raises(StoreUnavailable, match="k is damaged"):
            use()


def test_a_stuck_lock_ends_in_an_error(url):
    import psycopg

    store = open_store(f"{url}&options=-c%20lock_timeout%3D50ms")
    store.put("k", {}, expect=ABSENT)
    with psycopg.connect(url) as other:
        other.execute("SELECT * FROM platformops_entries FOR UPDATE")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            store.put("k", {}, expect=1)
    assert store.put("k", {}, expect=1) == 2
    store.close()


def test_a_role_that_may_only_use_the_tables_can_open_the_store(url):
    open_store(url).close()
    execute(url, "DO $$ BEGIN CREATE ROLE worker LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    execute(url, "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO worker")
    store = open_store(url.replace("platformops@", "worker@"))
    assert store.put("k", {}, expect=ABSENT) == 1
    store.close()
