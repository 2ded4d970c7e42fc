"""From a request body to the items in it: raw bytes, several files, or JSON with base64."""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Sequence

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from platformops.gateway.replies import Refused

MAX_BOUNDARY_BYTES = 70
"""RFC 2046, 5.1.1."""
MAX_JSON_BRACKETS = 64
"""Base64 holds neither brackets nor commas: counting them bounds what parsing may build, before it builds it."""
MAX_JSON_DIGITS = 19


def media_type(headers: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, dict[bytes, bytes]]:
    """The one Content-Type in lower case and its parameters; raises Refused (415) for what is not understood."""
    if any(name == b"content-encoding" and value.strip().lower() != b"identity" for name, value in headers):
        raise Refused(415, "content_encoding", "send the body without Content-Encoding")
    values = [value for name, value in headers if name == b"content-type"]
    if len(values) != 1:
        raise Refused(415, "media_type", "send exactly one Content-Type header")
    kind, parameters = parse_options_header(values[0])
    if kind not in READERS and not kind.startswith(b"image/"):
        raise Refused(
            415, "media_type", "send image/*, application/octet-stream, multipart/form-data or application/json"
        )
    if parameters.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise Refused(415, "charset", "only UTF-8 is understood")
    return kind, parameters


def items_of(body: bytes, kind: bytes, parameters: dict[bytes, bytes], *, max_items: int) -> list[bytes]:
    """The items in request order, each at least one byte long; raises Refused (400, 413 or 422)."""
    items = READERS.get(kind, _raw)(body, parameters, max_items)
    if not items:
        raise Refused(422, "no_items", "the request holds no image")
    if len(items) > max_items:
        raise _too_many(max_items)
    for index, item in enumerate(items):
        if not item:
            raise Refused(422, "empty_item", "the image is empty", field=f"images[{index}]")
    return items


def _raw(body: bytes, parameters: dict[bytes, bytes], max_items: int) -> list[bytes]:
    return [body]


def _multipart(body: bytes, parameters: dict[bytes, bytes], max_items: int) -> list[bytes]:
    boundary = parameters.get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise Refused(400, "bad_multipart", "the boundary must have 1 to 70 characters")
    parts: list[bytearray] = []
    is_complete = False

    def begin() -> None:
        if len(parts) >= max_items:
            raise _too_many(max_items)
        parts.append(bytearray())

    def more(chunk: bytes, start: int, stop: int) -> None:
        parts[-1] += memoryview(chunk)[start:stop]

    def end() -> None:
        nonlocal is_complete
        is_complete = True

    parser = MultipartParser(boundary, {"on_part_begin": begin, "on_part_data": more, "on_end": end})
    try:
        parser.write(body)
    except FormParserError as exc:
        raise Refused(400, "bad_multipart", "the multipart body cannot be parsed") from exc
    if not is_complete:
        raise Refused(400, "bad_multipart", "the multipart body ends early")
    return [bytes(part) for part in parts]


def _json(body: bytes, parameters: dict[bytes, bytes], max_items: int) -> list[bytes]:
    """`{"image": base64}` or `{"images": [base64, ...]}`."""
    if body.count(b",") >= max_items + MAX_JSON_BRACKETS:
        raise _too_many(max_items)
    if body.count(b"[") + body.count(b"{") > MAX_JSON_BRACKETS:
        raise Refused(400, "json_too_deep", "the JSON is nested too deeply")
    document = _strict_json(body)
    if not isinstance(document, dict) or len(document) != 1 or not document.keys() <= {"image", "images"}:
        raise Refused(422, "bad_shape", 'send {"image": base64} or {"images": [base64, ...]} and no other key')
    if "image" in document:
        return [_base64(document["image"], "image")]
    images = document["images"]
    if not isinstance(images, list):
        raise Refused(422, "bad_shape", "must be a list of base64 strings", field="images")
    if len(images) > max_items:
        raise _too_many(max_items)
    return [_base64(text, f"images[{index}]") for index, text in enumerate(images)]


def _base64(text: object, where: str) -> bytes:
    if not isinstance(text, str):
        raise Refused(422, "bad_shape", "must be a base64 string", field=where)
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as exc:
        raise Refused(422, "bad_base64", "is not valid base64", field=where) from exc


def _strict_json(body: bytes) -> object:
    """The document; refuses NaN, Infinity, repeated keys, long integers, and text that is not UTF-8."""
    try:
        return json.loads(
            body.decode("utf-8"), parse_constant=_not_a_number, parse_int=_short_int, object_pairs_hook=_unique
        )
    except UnicodeDecodeError as exc:
        raise Refused(400, "bad_json", "the body is not UTF-8") from exc
    except RecursionError as exc:
        raise Refused(400, "json_too_deep", "the JSON is nested too deeply") from exc
    except ValueError as exc:
        raise Refused(400, "bad_json", "the body is not valid JSON") from exc


def _not_a_number(constant: str) -> object:
    raise Refused(400, "bad_json", "NaN and Infinity are not JSON")


def _short_int(digits: str) -> int:
    if len(digits) > MAX_JSON_DIGITS:
        raise Refused(400, "bad_json", "a number has too many digits")
    return int(digits)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise Refused(400, "bad_json", "a key appears twice")
    return document


def _too_many(max_items: int) -> Refused:
    return Refused(413, "too_many_items", f"at most {max_items} images a request")


READERS: dict[bytes, Callable[[bytes, dict[bytes, bytes], int], list[bytes]]] = {
    b"application/octet-stream": _raw,
    b"multipart/form-data": _multipart,
    b"application/json": _json,
}
UNDERSTOOD = ", ".join(kind.decode("ascii") for kind in READERS)
