"""What the headers of a request say by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from platformops.gateway.replies import Refused

Headers = Sequence[tuple[bytes, bytes]]
MOST_LENGTH_DIGITS = 15


def header(headers: Headers, wanted: bytes) -> bytes | None:
    for name, value in headers:
        if name == wanted:
            return value
    return None


def has_body(headers: Headers) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0") for name, value in headers
    )


def check_length(headers: Headers, max_bytes: int) -> None:
    """Raises Refused (413) where Content-Length announces more than `max_bytes`."""
    length = header(headers, b"content-length")
    if length is None:
        return
    if not length.isdigit() or len(length) > MOST_LENGTH_DIGITS or int(length) > max_bytes:
        raise too_large(max_bytes)


def too_large(max_bytes: int) -> Refused:
    return Refused(413, "body_too_large", f"a body may have {max_bytes} bytes")
