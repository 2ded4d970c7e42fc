"""A real Postgres on a Unix socket in a temporary folder, for the time of the tests."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

BINARIES = ("initdb", "pg_ctl", "postgres")


def why_not() -> str | None:
    """The reason why no server can be started here, None when one can."""
    missing = [name for name in BINARIES if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            return "Postgres refuses to run as root, and setpriv is not installed"
        try:
            pwd.getpwnam("nobody")
        except KeyError:
            return "Postgres refuses to run as root, and there is no user nobody"
    return None


class PostgresServer:
    """Started with durability as in production; `database()` gives the URL of a fresh one."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket path has at most 107 bytes
        self._as_user = []
        if os.getuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        self.data = self.folder / "data"
        self._run("initdb", "-D", str(self.data), "-U", "platformops", "--auth=trust", "--encoding=UTF8", "--no-sync")
        self.start()

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c max_connections=60"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-l", log, "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql://platformops@/{database}?host={self.folder}"

    def database(self) -> str:
        import psycopg

        name = f"t{secrets.token_hex(6)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def _run(self, *command: str) -> None:
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        done = subprocess.run(
            [*self._as_user, *command],
            cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
