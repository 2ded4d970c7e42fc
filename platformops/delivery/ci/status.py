"""How the state of a run is told to the system that asked for it: one request for each kind of receiver."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from platformops.errors import UserError
from platformops.security.webhooks import signed_headers
from platformops.spec.echo import did_you_mean, shown

KINDS = ("gitlab", "github", "webhook")
State = Literal["running", "success", "failed"]
_GITHUB = {"running": "pending", "success": "success", "failed": "failure"}
_MOST_DESCRIPTION = 140
"""GitHub refuses more."""


@dataclass(frozen=True, slots=True)
class Receiver:
    kind: str
    url: str
    """`https://gitlab/api/v4/projects/ID`, `https://api.github.com/repos/OWNER/NAME`, or any that takes webhooks."""
    token: str
    """Of the API; the shared secret of a webhook."""


@dataclass(frozen=True, slots=True)
class Status:
    system: str
    revision: str
    state: State
    description: str
    url: str = ""
    """Where a person sees more."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


def receiver(kind: str, url: str, token: str) -> Receiver:
    """Raises UserError for a kind that there is not, and for a URL that is not one."""
    if kind not in KINDS:
        raise UserError(f"status: there is no receiver {shown(kind)}{did_you_mean(kind, KINDS)}")
    if not url.startswith(("https://", "http://")):
        raise UserError("status: the receiver's URL must start with https:// or http://")
    return Receiver(kind, url.rstrip("/"), token)


def status_request(to: Receiver, status: Status, *, delivery_id: str, now: float) -> HttpRequest:
    """The request that tells `to` of `status`; telling it twice changes nothing at GitLab and GitHub."""
    description = status.description[:_MOST_DESCRIPTION]
    name = f"platformops/{status.system}"
    if to.kind == "gitlab":
        query = {"state": status.state, "name": name, "description": description, "target_url": status.url}
        given = urlencode({key: value for key, value in query.items() if value})
        return HttpRequest("POST", f"{to.url}/statuses/{status.revision}?{given}", {"PRIVATE-TOKEN": to.token})
    if to.kind == "github":
        body = {"state": _GITHUB[status.state], "context": name, "description": description}
        headers = {"Authorization": f"Bearer {to.token}", "Accept": "application/vnd.github+json"}
        return _json(f"{to.url}/statuses/{status.revision}", headers, {**body, "target_url": status.url or None})
    told = {"system": status.system, "revision": status.revision, "state": status.state, "description": description}
    request = _json(to.url, {}, {"type": "run.status", "data": told})
    signed = signed_headers(to.token.encode(), delivery_id, now, request.body)
    return HttpRequest(request.method, request.url, {**request.headers, **signed}, request.body)


def _json(url: str, headers: Mapping[str, str], document: Mapping[str, object]) -> HttpRequest:
    return HttpRequest("POST", url, {**headers, "Content-Type": "application/json"}, json.dumps(document).encode())
