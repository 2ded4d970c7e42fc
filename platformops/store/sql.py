"""The store for many machines: two tables of a Postgres database, reached through SQLAlchemy."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    Connection,
    Engine,
    Executable,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    create_engine,
    insert,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from platformops.errors import StoreConflict, StoreUnavailable, UserError
from platformops.store.records import Entry, JsonObject, Put
from platformops.store.rows import (
    AFTER_ALL,
    Row,
    Write,
    checked_key,
    entry_of,
    migrations_after,
    rows_of,
    versions_of,
    writes_of,
)

ENTRIES = Table(
    "platformops_entries",
    MetaData(),
    Column("key", String(collation="C"), primary_key=True),  # the order of keys is that of every other store
    Column("value", Text),
    Column("version", BigInteger, nullable=False),
    Column("checksum", BigInteger, nullable=False),
)
MIGRATIONS = (
    """CREATE TABLE platformops_entries (
        key VARCHAR COLLATE "C" PRIMARY KEY, value TEXT, version BIGINT NOT NULL, checksum BIGINT NOT NULL)""",
)
MIGRATION_LOCK = 0x504C4F50
ATTEMPTS = 50  # of a transaction that lost a race inside the server; each takes a few milliseconds

_RACES = ("40001", "40P01", "23505")  # serialisation failure, deadlock, a key that another has just created
_WAITS = {  # a silent network or a stuck lock is an error within half a minute, never a hang
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "options": "-c statement_timeout=30s -c lock_timeout=30s -c synchronous_commit=on",
}
_FIELDS = ("value", "version", "checksum")
_NEW: dict[str, BindParameter[object]] = {name: bindparam(f"new_{name}") for name in _FIELDS}
_INSERT = insert(ENTRIES).values(key=bindparam("of_key"), **_NEW)
_UPDATE = update(ENTRIES).where(ENTRIES.c.key == bindparam("of_key")).values(**_NEW)


class SqlStore:
    """Opens the database and, on first use, creates the tables; reconnects by itself. Raises StoreUnavailable."""

    def __init__(self, url: str) -> None:
        self._engine, self._place = _engine_at(url)
        # Reads are one statement each, which needs no transaction around it and so two round trips less.
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        _forget_connections_in_children(self._engine)
        self._closed = False
        try:
            self._migrate()
        except BaseException:
            self.close()  # nobody gets this object, so nobody else could
            raise

    def get(self, key: str) -> Entry | None:
        query = select(ENTRIES).where(ENTRIES.c.key == checked_key(key))
        return next(iter(self._entries(query.limit(1))), None)

    def scan(self, prefix: str, *, limit: int | None = None, descending: bool = False) -> Sequence[Entry]:
        order = ENTRIES.c.key.desc() if descending else ENTRIES.c.key.asc()
        within = (ENTRIES.c.key >= prefix, ENTRIES.c.key < prefix + AFTER_ALL, ENTRIES.c.value.is_not(None))
        return self._entries(select(ENTRIES).where(*within).order_by(order).limit(limit))

    def put(self, key: str, value: JsonObject, *, expect: int | None) -> int:
        return self.commit([Put(key, value, expect)])[0]

    def commit(self, puts: Sequence[Put]) -> tuple[int, ...]:
        """As the protocol says; a commit that keeps losing races inside the server is a StoreConflict too."""
        writes = writes_of(puts)
        for _ in range(ATTEMPTS):
            try:
                with self._opened(self._engine).begin() as connection:
                    rows = self._write(connection, writes)
                return versions_of(rows)
            except DBAPIError as exc:
                if _state(exc) not in _RACES:
                    raise self._unavailable(exc) from exc
        raise StoreConflict(f"{writes[0].key} is written by others all the time", remedy="try again a little later")

    def close(self) -> None:
        self._closed = True
        self._engine.dispose()

    def _entries(self, query: Executable) -> Sequence[Entry]:
        try:
            with self._opened(self._reading).connect() as connection:
                found = connection.execute(query).all()
        except DBAPIError as exc:
            raise self._unavailable(exc) from exc
        return tuple(entry for row in found if (entry := entry_of(Row(*row), place=self._place)))

    def _write(self, connection: Connection, writes: Sequence[Write]) -> list[Row]:
        """Rows that exist are locked before their versions are compared; keys that do not are guarded by their index.

        So unrelated writes never fail each other, as they would at the serialisable level, which locks whole pages.
        """
        keys = sorted(write.key for write in writes)
        locked = select(ENTRIES).where(ENTRIES.c.key.in_(keys)).order_by(ENTRIES.c.key).with_for_update()
        there = {row.key: row for row in (Row(*found) for found in connection.execute(locked).all())}
        for row in there.values():
            entry_of(row, place=self._place)  # a damaged version must not be counted on from
        rows = rows_of(writes, there)
        for row in sorted(rows, key=lambda row: row.key):
            fields = {f"new_{name}": getattr(row, name) for name in _FIELDS}
            connection.execute(_UPDATE if row.key in there else _INSERT, {"of_key": row.key, **fields})
        return rows

    def _migrate(self) -> None:
        try:
            with self._engine.begin() as connection:
                if migrations_after(_schema(connection), len(MIGRATIONS), place=self._place):
                    self._migrate_alone(connection)
        except DBAPIError as exc:
            raise self._unavailable(exc) from exc

    def _migrate_alone(self, connection: Connection) -> None:
        """Asks the version table itself what is left: `to_regclass` would answer from before the wait for the lock."""
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        connection.execute(text("CREATE TABLE IF NOT EXISTS platformops_schema (version INTEGER NOT NULL)"))
        for index in migrations_after(_recorded(connection), len(MIGRATIONS), place=self._place):
            connection.execute(text(MIGRATIONS[index]))
        connection.execute(text("DELETE FROM platformops_schema"))
        connection.execute(text("INSERT INTO platformops_schema VALUES (:known)"), {"known": len(MIGRATIONS)})

    def _opened(self, engine: Engine) -> Engine:
        if self._closed:
            raise StoreUnavailable(f"{self._place} was closed by this program")
        return engine

    def _unavailable(self, exc: DBAPIError) -> StoreUnavailable:
        said = str(exc.orig).strip().partition("\n")[0]
        if exc.connection_invalidated or not _state(exc):
            return StoreUnavailable(
                f"{self._place}: the connection failed ({said})",
                remedy="start the database or correct the URL, then read again: a write may be there or not",
            )
        return StoreUnavailable(f"{self._place}: {said}", remedy="see the log of the database server")


def _engine_at(url: str) -> tuple[Engine, str]:
    """The engine and the place as it may be shown: with `***` for a password."""
    try:
        parsed = make_url(url)
        waits = {name: value for name, value in _WAITS.items() if name not in parsed.query}
        engine = create_engine(parsed, isolation_level="READ COMMITTED", pool_pre_ping=True, connect_args=waits)
    except ImportError as exc:
        raise UserError("a Postgres store needs psycopg", remedy="pip install 'platformops[postgres]'") from exc
    except (SQLAlchemyError, ValueError):
        # Not chained: the message of the cause may hold the password.
        raise UserError(
            "the URL of the store cannot be read", remedy="write postgresql://user@host:5432/name"
        ) from None
    return engine, f"store {_shown(parsed)}"


def _shown(url: URL) -> str:
    return url.set(drivername="postgresql", query={}).render_as_string()


def _forget_connections_in_children(engine: Engine) -> None:
    """A forked child opens connections of its own; those of the parent stay the parent's, and open."""
    this = weakref.ref(engine)

    def forget() -> None:
        if found := this():
            found.dispose(close=False)

    os.register_at_fork(after_in_child=forget)


def _schema(connection: Connection) -> int:
    if connection.execute(text("SELECT to_regclass('platformops_schema')")).scalar() is None:
        return 0
    return _recorded(connection)


def _recorded(connection: Connection) -> int:
    return int(connection.execute(text("SELECT max(version) FROM platformops_schema")).scalar() or 0)


def _state(exc: DBAPIError) -> str:
    return str(getattr(exc.orig, "sqlstate", None) or "")
