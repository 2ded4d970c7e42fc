"""`platformops hooks send`: what a CI system or a post-commit hook calls to start a run elsewhere."""

from __future__ import annotations

import json
import secrets
from typing import Annotated

import typer

from platformops.cli.options import AsJson
from platformops.errors import ClusterError, GateRefused, UserError

Url = Annotated[str, typer.Argument(help="http://host:port/hooks/SYSTEM.", show_default=False)]
Revision = Annotated[str, typer.Option(help="For the record, and for the status that is reported back.")]
Who = Annotated[str, typer.Option("--as", metavar="NAME", help="On whose behalf, for the record.")]
Delivery = Annotated[
    str, typer.Option(metavar="ID", help="What is sent again under one ID starts one run.", show_default=False)
]
TIMEOUT_S = 10.0
REPLAYED = 409


def hooks_send(
    url: Url, revision: Revision = "", as_: Who = "", delivery: Delivery = "", json_: AsJson = False
) -> None:
    """Send a signed delivery that starts a run; the secret is that of PLATFORMOPS_HOOK_SECRET or keys/hooks.key.

    One that came before is answered with the run that it led to, so a sender that got no answer sends it again.
    """
    import httpx

    from platformops.cli import settings
    from platformops.cli.hook_secret import hook_secret
    from platformops.cli.output import next_step, print_json, say
    from platformops.clock import SystemClock
    from platformops.security.webhooks import signed_headers

    body = json.dumps({"revision": revision, "who": as_}).encode()
    secret = hook_secret(settings.home(), is_made=False)
    delivery = delivery or f"msg_{secrets.token_hex(16)}"
    headers = signed_headers(secret, delivery, SystemClock().now(), body)
    try:
        reply = httpx.post(url, content=body, headers=headers, timeout=TIMEOUT_S)
        document = reply.json()
    except httpx.InvalidURL as error:
        raise UserError(f"{url}: is not an address: {error}") from None
    except httpx.UnsupportedProtocol:
        raise UserError(f"{url}: must start with http:// or https://") from None
    except (httpx.HTTPError, ValueError) as error:
        remedy = f"see whether `platformops hooks serve` runs there, and send it again with --delivery {delivery}"
        raise ClusterError(f"{url}: {error}", remedy=remedy) from None
    if not reply.is_success and not (reply.status_code == REPLAYED and "run" in document):
        raise GateRefused(f"{url}: {reply.status_code}: {_said(document)}", remedy="platformops hooks log, over there")
    if json_:
        print_json(document)
        return
    say(f"{document.get('run') or document.get('project')}: {document.get('outcome')}")
    next_step("platformops logs -f")


def _said(document: object) -> str:
    error = document.get("error") if isinstance(document, dict) else None
    return str(error.get("message")) if isinstance(error, dict) else "no reason given"
