"""What goes back to a client: one shape for answers, one for refusals, and no word about the inside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from platformops.gateway.call import Answer

JSON_TYPE = b"application/json"
RETRY_SOON = {b"retry-after": b"1"}


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
    beside = tuple(refused.beside.items())
    before, after = _around_id(refused.code, refused.message, refused.field, beside)
    body = before + request_id.encode("ascii") + after
    return Reply(refused.status, body, headers=refused.headers, code=refused.code)


@lru_cache(maxsize=256)
def _around_id(code: str, message: str, field: str | None, beside: tuple[tuple[str, str], ...]) -> tuple[bytes, bytes]:
    """What stands before and after the request id, which is one of ours and needs no escape: under a flood the same
    refusal is made thousands of times a second."""
    error = {"code": code, "message": message, "request_id": "", **({"field": field} if field is not None else {})}
    before, mark, after = json.dumps({"error": error, **dict(beside)}).partition('"request_id": "')
    return (before + mark).encode("ascii"), after.encode("ascii")


def headers_of(reply: Reply, request_id: str, *, is_last: bool) -> list[tuple[bytes, bytes]]:
    """All headers of a reply; the last one of a connection says so."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode("ascii")),
        (b"x-request-id", request_id.encode("ascii")),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *reply.headers.items(),
    ]
    return [*headers, (b"connection", b"close")] if is_last else headers


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
        headers=RETRY_SOON if answer.status in (429, 503) else None,
    )
