"""What goes back to a client: one shape for answers, one for refusals, and no word about the inside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from platformops.gateway.call import Answer

JSON_TYPE = b"application/json"


class Refused(Exception):
    """A request that gets no prediction. `message` is one sentence of ours, never text of the request."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        headers: Mapping[bytes, bytes] | None = None,
        beside: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        """Where in the request, for example `images[3]`."""
        self.headers = dict(headers or {})
        self.beside = dict(beside or {})
        """What the answer says beside the error."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    content_type: bytes = JSON_TYPE
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    code: str = ""
    """Of the error; empty when there is none."""


def refusal(refused: Refused, request_id: str) -> Reply:
    error: dict[str, str] = {"code": refused.code, "message": refused.message, "request_id": request_id}
    if refused.field is not None:
        error["field"] = refused.field
    body = json.dumps({"error": error, **refused.beside}).encode("ascii")
    return Reply(refused.status, body, headers=refused.headers, code=refused.code)


def predictions(request_id: str, revision: str, answers: Sequence[Answer]) -> Reply:
    """The reply to a request of which every item was answered; raises Refused for the first that was not."""
    for index, answer in enumerate(answers):
        if not answer.is_ok:
            raise _refused_item(answer, index)
    body = b'{"request_id": %b, "model_version": %b, "revision": %b, "predictions": [%b]}' % (
        json.dumps(request_id).encode("ascii"),
        json.dumps(answers[0].model_version).encode("ascii"),
        json.dumps(revision).encode("ascii"),
        b", ".join(answer.json for answer in answers),
    )
    return Reply(200, body)


def _refused_item(answer: Answer, index: int) -> Refused:
    is_about_the_item = answer.status in (413, 422)
    return Refused(
        answer.status,
        answer.code,
        answer.message,
        field=f"images[{index}]" if is_about_the_item else None,
        headers={b"retry-after": b"1"} if answer.status in (429, 503) else None,
    )
