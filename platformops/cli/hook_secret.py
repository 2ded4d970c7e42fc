"""The secret that senders and the receiver of webhooks share."""

from __future__ import annotations

import os
import secrets

from platformops.errors import UserError
from platformops.home import Home
from platformops.security.key_file import read_key_file, write_key_file

VARIABLE = "PLATFORMOPS_HOOK_SECRET"
SHORTEST = 16


def hook_secret(where: Home, *, is_made: bool) -> bytes:
    """That of PLATFORMOPS_HOOK_SECRET, else of `keys/hooks.key`; made there when asked for. Raises UserError."""
    path = where.keys / "hooks.key"
    token = os.environ.get(VARIABLE) or read_key_file(path)
    if token is None and is_made:
        token = secrets.token_urlsafe(32)
        write_key_file(path, token)
    if token is None:
        raise UserError(f"there is no secret in {path}", remedy=f"set {VARIABLE} to that of the receiver")
    if len(token) < SHORTEST:
        raise UserError(f"{VARIABLE} has less than {SHORTEST} characters", remedy="make one: openssl rand -hex 32")
    return token.encode()
