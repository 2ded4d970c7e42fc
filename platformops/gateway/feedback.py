"""`POST /<system>/feedback`: the truth about a request that was answered, as far as it was kept."""

from __future__ import annotations

import asyncio
import json
import re

from platformops.errors import StoreError
from platformops.gateway.replies import RETRY_SOON, Refused, Reply
from platformops.gateway.request import Asked, read_body
from platformops.gateway.samples import Feedback, Samples

MOST_BYTES = 4096
REQUEST_ID = "[A-Za-z0-9_-]{1,64}"
MOST_LABEL_CHARS = 200
ONE_LINE = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]+"


async def take(asked: Asked, system: str, samples: Samples) -> Reply:
    """The reply to one label; raises Refused for a body that is none, an unknown request or a contradiction."""
    body = await read_body(asked, MOST_BYTES, lambda num_bytes: None)
    request_id, label = _read(body)
    try:
        outcome = await asyncio.to_thread(samples.truth, system, request_id, label)
    except StoreError:
        raise Refused(503, "unavailable", "labels cannot be kept now; send it again", headers=RETRY_SOON) from None
    if outcome is Feedback.UNKNOWN:
        raise Refused(404, "unknown_request", "no such request was kept: only some are, and not for ever")
    if outcome is Feedback.CONTRADICTED:
        raise Refused(409, "contradictory_label", "this request was labelled otherwise before; the first label counts")
    return Reply(200, json.dumps({"request_id": request_id, "status": outcome.value}).encode("ascii"))


def _read(body: bytes) -> tuple[str, str]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or set(document) != {"request_id", "label"}:
        raise Refused(422, "bad_feedback", 'send {"request_id": "...", "label": "..."}')
    request_id, label = document["request_id"], document["label"]
    if not isinstance(request_id, str) or not re.fullmatch(REQUEST_ID, request_id):
        raise Refused(422, "bad_feedback", "must be the request_id of a prediction", field="request_id")
    if not isinstance(label, str) or len(label) > MOST_LABEL_CHARS or not re.fullmatch(ONE_LINE, label):
        message = f"must be one line of at most {MOST_LABEL_CHARS} characters"
        raise Refused(422, "bad_feedback", message, field="label")
    if re.search("[\ud800-\udfff]", label):
        raise Refused(422, "bad_feedback", "has half a character, which cannot be kept", field="label")
    return request_id, label
