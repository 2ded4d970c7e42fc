"""Ray's token authentication, handled for the user: a token is made once, and whether a cluster wants one is asked."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from platformops.errors import ClusterError
from platformops.home import Home


def ensure_token(environment: Mapping[str, str], home: Home) -> Path | None:
    """Where the token is kept when the environment does not already say so; made once, readable by its owner only."""
    if environment.get("RAY_AUTH_TOKEN") or environment.get("RAY_AUTH_TOKEN_PATH"):
        return None
    path = _default_token_file(home)
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(path))
    return path


def _default_token_file(home: Home) -> Path:
    """Ray's own place, so that `ray status` by hand works too; below our home for a user without one."""
    user_home = os.environ.get("HOME")
    return Path(user_home) / ".ray" / "auth_token" if user_home else home.root / "ray_auth_token"


def token_environment() -> dict[str, str]:
    return {k: os.environ[k] for k in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(k)}


def wanted_authentication(address: str) -> str:
    """`token` or `disabled`: what the GCS at `address` says to a call without a token. Raises ClusterError."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive", _same, _same)
        try:
            call(b"", timeout=5.0)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                return "token"
            raise ClusterError(
                f"no Ray cluster answers at {address} ({error.code().name})",
                remedy="start it, correct RAY_ADDRESS, or unset RAY_ADDRESS to have one started here",
            ) from error
    return "disabled"


def _same(message: bytes) -> bytes:
    return message
