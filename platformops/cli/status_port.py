"""Tells GitLab, GitHub or any webhook of a run's state; where that fails, the run goes on and the failure is said."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from platformops.clock import Clock
    from platformops.delivery.ci.status import Receiver, Status

TIMEOUT_S = 10.0
KIND, URL, TOKEN = "PLATFORMOPS_STATUS", "PLATFORMOPS_STATUS_URL", "PLATFORMOPS_STATUS_TOKEN"


def receiver_in(environment: Mapping[str, str] = os.environ) -> Receiver | None:
    """Who is told, by PLATFORMOPS_STATUS (gitlab, github, webhook), its _URL and _TOKEN; None when nobody is.

    Raises UserError where they are there and wrong.
    """
    from platformops.delivery.ci.status import receiver

    if not environment.get(KIND):
        return None
    return receiver(environment[KIND], environment.get(URL, ""), environment.get(TOKEN, ""))


def tell(to: Receiver | None, status: Status, clock: Clock) -> bool:
    """Whether it was told; a receiver that does not take it must not end a run."""
    import httpx

    from platformops.delivery.ci.status import status_request

    if to is None or not status.revision:
        return False
    request = status_request(to, status, delivery_id=f"status_{secrets.token_hex(8)}", now=clock.now())
    try:
        reply = httpx.request(
            request.method, request.url, headers=dict(request.headers), content=request.body, timeout=TIMEOUT_S
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        said = type(error).__name__
    else:
        if reply.is_success:
            return True
        said = f"status {reply.status_code}"
    print(f"status of {status.system}: {to.kind} did not take it ({said})", file=sys.stderr, flush=True)
    return False
