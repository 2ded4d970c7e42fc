"""Opens, migrates and shares connections to the embedded store's file, and says in words why one failed."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from platformops.clock import SystemClock
from platformops.errors import StoreUnavailable
from platformops.store.room import disk_of
from platformops.store.rows import migrations_after
from platformops.store.witness import Witness

APPLICATION_ID = 0x504C4F50
"""Tells a store from any other SQLite file."""
MIGRATIONS = (
    """CREATE TABLE entries (
        key TEXT PRIMARY KEY, value TEXT, version INTEGER NOT NULL, checksum INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE TABLE commits (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL)",
    "INSERT INTO commits VALUES (1, 0)",
)
FULL_BYTES = 64 * 1024
"""What SQLite wants at once at most: its shared index and a few pages."""
BUSY_TIMEOUT_S = 30.0  # longer than any write of ours: only a stopped process holds the lock that long

_TROUBLES = {  # by prefix of SQLite's error name, the longer prefix first
    "SQLITE_BUSY": ("another process holds it locked", "find what holds it (`fuser FILE`), then try again"),
    "SQLITE_LOCKED": ("another process holds it locked", "find what holds it (`fuser FILE`), then try again"),
    "SQLITE_FULL": ("the disk is full", "free space on its disk; nothing was half written"),
    "SQLITE_READONLY": ("it is read-only", "make the file and its folder writable for this user"),
    "SQLITE_NOTADB": ("the file is corrupt, or no store", "restore it from a backup, or name another file"),
    "SQLITE_CORRUPT": ("the file is corrupt", "check the disk and restore the store from a backup"),
    "SQLITE_PERM": ("this user may not open it", "make the file and its folder writable for this user"),
    "SQLITE_AUTH": ("this user may not open it", "make the file and its folder writable for this user"),
    "SQLITE_IOERR": ("reading or writing the disk failed", "check the disk; nothing was acknowledged"),
}


@dataclass(frozen=True, slots=True)
class StoreFile:
    path: Path
    busy_timeout_s: float

    @property
    def place(self) -> str:
        return f"store {self.path}"

    @property
    def witness(self) -> Witness:
        return Witness(self.path)

    def connect(self) -> sqlite3.Connection:
        """A connection at the newest schema whose commits are on the disk when they return."""
        if (known := self.witness.commits()) and not (self.path.exists() and self.path.stat().st_size):
            raise self._lost(known)
        connection = sqlite3.connect(
            self.path, timeout=self.busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            self._migrate(connection)
            self._use_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cell_size_check = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def check(self, connection: sqlite3.Connection) -> None:
        """Raises StoreUnavailable when a page is damaged, which would hide rows from us without an error, or commits
        that were acknowledged are missing.

        Measured: 0.7 ms a megabyte. Damage within a row is found by the row's own checksum.
        """
        known = self.witness.commits()  # before the store is asked: another process may write in between
        (number,) = connection.execute("SELECT number FROM commits").fetchone()
        if number < known:
            raise self._lost(known - number)
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            what, remedy = _TROUBLES["SQLITE_CORRUPT"]
            raise StoreUnavailable(f"{self.place}: {what} ({found})", remedy=remedy)

    def _lost(self, commits: int) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self.place}: {commits} acknowledged write(s) are missing: its files were damaged, deleted or replaced",
            remedy=f"restore the store from a backup; then, or to go on with what is left, remove {self.witness.path}",
        )

    def unavailable(self, exc: sqlite3.Error) -> StoreUnavailable:
        name = getattr(exc, "sqlite_errorname", "")
        what, remedy = next((said for start, said in _TROUBLES.items() if name.startswith(start)), (str(exc), None))
        if name.startswith("SQLITE_CANTOPEN"):
            what, remedy = self._why_not_opened()
        if full := self._full_disk(asked=name == "SQLITE_FULL"):
            what, remedy = f"the disk is full; {full}", _TROUBLES["SQLITE_FULL"][1]
        return StoreUnavailable(f"{self.place}: {what} ({exc})", remedy=remedy)

    def _why_not_opened(self) -> tuple[str, str]:
        folder = self.path.parent
        try:
            if not folder.is_dir():
                return f"the folder {folder} does not exist", f"create it: mkdir -p {folder}"
            if self.path.is_dir():
                return "it is a folder", "name a file in it"
            if os.statvfs(folder).f_flag & os.ST_RDONLY:
                return "it is read-only, as its whole disk is", f"mount {disk_of(folder).mount} writable"
            self.path.open("rb").close()
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE):
                return "too many files are open", "raise the limit: ulimit -n"
        return "it cannot be opened", "make the file and its folder readable and writable for this user"

    def _full_disk(self, *, asked: bool) -> str:
        """The disk by name when it is full: SQLite says so of some files only, and calls the rest an I/O error."""
        with suppress(OSError):  # a disk that cannot even be asked: the failure itself is said
            disk = disk_of(self.path)
            if asked or disk.free_bytes < FULL_BYTES or disk.free_inodes == 0:
                return str(disk)
        return ""

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")  # one instant: another process may be creating what is looked at
        left = self._migrations_left(connection)
        connection.execute("COMMIT")
        if not left:
            return
        connection.execute("BEGIN IMMEDIATE")
        for index in self._migrations_left(connection):  # asked again, now that nobody else migrates
            connection.execute(MIGRATIONS[index])
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")

    def _migrations_left(self, connection: sqlite3.Connection) -> range:
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        if owner != APPLICATION_ID and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise StoreUnavailable(f"{self.place} is a database of another program", remedy="name another file")
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        return migrations_after(found, len(MIGRATIONS), place=self.place)

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Retries by itself: SQLite does not wait for the lock that this one change of mode takes."""
        clock = SystemClock()
        deadline_s = clock.monotonic() + self.busy_timeout_s
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as exc:
                if not exc.sqlite_errorname.startswith("SQLITE_BUSY") or clock.monotonic() > deadline_s:
                    raise
                clock.sleep(0.01)
                continue
            if mode != "wal":
                raise StoreUnavailable(
                    f"{self.place}: its file system keeps no write-ahead log (mode {mode})",
                    remedy="put the store on a local disk, or use a postgresql:// store",
                )
            return


class Lane:
    """One connection and the lock of the threads that share it; after an error, and around a fork, it is reopened."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._guard_fork()

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Raises StoreUnavailable for whatever SQLite says, having dropped the connection."""
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"{self._file.place} was closed by this program")
            try:
                if self._connection is None:
                    self._connection = self._file.connect()
                yield self._connection
            except sqlite3.Error as exc:
                self._drop()  # after an I/O error nothing that this connection remembers is trusted
                raise self._file.unavailable(exc) from exc

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # the error that led here is the one to be told
                connection.close()

    def _guard_fork(self) -> None:
        """SQLite's locks belong to a process: no connection may be open while one becomes two."""
        this = weakref.ref(self)

        def before() -> None:
            if lane := this():
                lane._lock.acquire()
                lane._drop()

        def after() -> None:
            if lane := this():
                lane._lock.release()

        os.register_at_fork(before=before, after_in_parent=after, after_in_child=after)
