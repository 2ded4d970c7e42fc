"""Opens the store that a URL names."""

from __future__ import annotations

from pathlib import Path

from platformops.errors import UserError
from platformops.store.records import Store
from platformops.store.sqlite import SqliteStore

_POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg://")
_REMEDY = "write sqlite:///relative/path, sqlite:////absolute/path or postgresql://user@host/database"


def open_store(url: str) -> Store:
    """The store at `url`; raises UserError for a URL that names none, StoreUnavailable for a place that fails."""
    if url.startswith("sqlite:///"):
        return SqliteStore(_sqlite_path(url.removeprefix("sqlite:///")))
    if url.startswith(_POSTGRES):
        from platformops.store.sql import SqlStore  # SQLAlchemy takes a quarter of a second to import

        return SqlStore("postgresql+psycopg://" + url.partition("://")[2])
    raise UserError(f"no store is kept at {url.partition('://')[0]!r} URLs", remedy=_REMEDY)


def _sqlite_path(path: str) -> Path:
    if not path or path == ":memory:" or any(mark in path for mark in "?\0"):
        raise UserError(f"sqlite:///{path} names no file", remedy=_REMEDY)
    return Path(path)
