"""The file that holds the caller's own key: readable by its owner alone, or not read at all."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from platformops.errors import PlatformError
from platformops.spec.plain_file import plain_file

MOST_BYTES = 4096


def write_key_file(path: Path, token: str) -> None:
    """`path` holds `token`, mode 0600 in a folder of mode 0700, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def read_key_file(path: Path) -> str | None:
    """The token, or None when there is no file; refuses one that others could have read or put there."""
    try:
        with plain_file(path, follow_link=False) as file:
            _refuse_shared(path, os.fstat(file.fileno()).st_mode)
            return file.read(MOST_BYTES).decode("ascii").strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PlatformError(f"the key file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PlatformError(f"the key file {path} does not hold a key", remedy=f"remove it: rm {path}") from None


def _refuse_shared(path: Path, mode: int) -> None:
    if mode & 0o077:
        raise PlatformError(
            f"the key file {path} has mode {stat.S_IMODE(mode):04o}: others on this machine may have read the key",
            remedy=f"make a new key, or trust them: chmod 600 {path}",
        )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
