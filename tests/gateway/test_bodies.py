"""Whatever the bytes of a body, they become items or a refusal with a code; and what is sent well comes out as sent."""

import base64
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from platformops.gateway.bodies import items_of, media_type
from platformops.gateway.replays import KEY
from platformops.gateway.replies import Refused

MAX_ITEMS = 8
ITEMS = st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=MAX_ITEMS)
FRAGMENTS = st.sampled_from(
    [b'{"image": "', b'{"images": ["', b'"QUJD"', b'"]}', b'"}', b"{", b"}", b"[", b"]", b",", b":", b"null", b"1e999",
     b"-0", b"\\ud800", b"\\u0000", b"\xff", b"\xef\xbb\xbf", b"\0", b"--edge", b"--edge--", b"\r\n", b"\r", b"\n",
     b"Content-Disposition: form-data; name=images", b": ", b"x" * 300, b" ", b"9" * 40]
)  # fmt: skip
KINDS = st.sampled_from([b"application/json", b"multipart/form-data", b"application/octet-stream", b"image/png"])


def outcome(call):
    """What a reader makes of its input; anything but Refused would be a 500."""
    refused = None
    try:
        return call()
    except Refused as error:
        refused = error
    assert refused.status in (400, 413, 415, 422)
    assert refused.code
    return None


@given(st.one_of(st.binary(max_size=300), st.lists(FRAGMENTS, max_size=25).map(b"".join)), KINDS)
@settings(max_examples=400, deadline=None)
def test_any_body_becomes_items_or_a_refusal(body, kind):
    items = outcome(lambda: items_of(body, kind, {b"boundary": b"edge"}, max_items=MAX_ITEMS))
    assert items is None or (0 < len(items) <= MAX_ITEMS and all(items))


@given(st.lists(st.sampled_from(
    [b"multipart/form-data", b"image/", b"application/json", b";", b"=", b'"', b"\\", b"charset", b"boundary", b"*",
     b"'", b"utf-8", b"%ff", b"\xff", b" ", b"*0", b","]
), max_size=12).map(b"".join))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_content_type_is_understood_or_refused(value):
    outcome(lambda: media_type([(b"content-type", value)]))


@given(ITEMS)
def test_images_as_json_come_out_as_they_went_in(items):
    body = json.dumps({"images": [base64.b64encode(item).decode() for item in items]}).encode()
    assert items_of(body, b"application/json", {}, max_items=MAX_ITEMS) == items


@given(ITEMS, st.from_regex(rb"[A-Za-z0-9'()+_,./:=?-]{1,70}", fullmatch=True))
def test_images_as_a_form_come_out_as_they_went_in_whatever_the_boundary(items, boundary):
    delimiter = b"--" + boundary
    if any(delimiter in item for item in items):
        return
    parts = [b'%b\r\nContent-Disposition: form-data; name="images"\r\n\r\n%b\r\n' % (delimiter, i) for i in items]
    body = b"".join(parts) + delimiter + b"--\r\n"
    assert items_of(body, b"multipart/form-data", {b"boundary": boundary}, max_items=MAX_ITEMS) == items


@given(st.binary(max_size=300))
def test_a_key_that_is_taken_can_be_written_to_any_log(value):
    if KEY.fullmatch(value):
        assert value.decode("ascii").isprintable()
