"""Which deliveries are believed."""

import base64
import hmac
from hashlib import sha256

import pytest

from platformops.security.webhooks import TOLERANCE_S, Forged, Genuine, signed_headers, verified

SECRET, BODY, NOW = b"a secret of the two", b'{"revision": "abc"}', 1_700_000_000.0
HEADERS = signed_headers(SECRET, "msg_1", NOW, BODY)


def reason(headers, body=BODY, now=NOW, secret=SECRET):
    found = verified(headers, body, secret, now=now)
    return found.reason if isinstance(found, Forged) else ""


def test_the_signature_is_that_of_the_published_scheme():
    expected = base64.b64encode(hmac.new(SECRET, b"msg_1.1700000000." + BODY, sha256).digest()).decode()
    assert {
        "webhook-id": "msg_1", "webhook-timestamp": "1700000000", "webhook-signature": f"v1,{expected}",
    } == HEADERS  # fmt: skip


def test_a_signed_delivery_is_genuine_and_its_repetition_has_the_same_key():
    first = verified(HEADERS, BODY, SECRET, now=NOW)
    again = verified(signed_headers(SECRET, "msg_1", NOW + 9, BODY), BODY, SECRET, now=NOW + 9)
    assert isinstance(first, Genuine)
    assert first == again
    assert verified(signed_headers(SECRET, "msg_2", NOW, BODY), BODY, SECRET, now=NOW) != first


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_2"}, {"webhook-timestamp": "1700000001"}, {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": HEADERS["webhook-signature"].replace("v1,", "v0,")}, {"webhook-signature": "é"},
    ],
)  # fmt: skip
def test_a_delivery_of_which_anything_was_changed_is_forged(changed):
    assert reason({**HEADERS, **changed}) == "the signature does not match"


def test_another_body_and_another_secret_are_forged():
    assert reason(HEADERS, body=BODY + b" ") == "the signature does not match"
    assert reason(HEADERS, secret=b"another secret, as long") == "the signature does not match"


@pytest.mark.parametrize("off_s", [-TOLERANCE_S - 1, TOLERANCE_S + 1])
def test_an_old_delivery_and_one_from_the_future_are_refused(off_s):
    assert "more than 300" in reason(HEADERS, now=NOW + off_s)
    assert reason(HEADERS, now=NOW + off_s * 0.99) == ""


def test_one_of_several_signatures_is_enough_while_a_secret_is_changed():
    both = {**HEADERS, "webhook-signature": f"v1,AAAA {HEADERS['webhook-signature']}"}
    assert reason(both) == ""


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"webhook-id": ""}, "webhook-id is missing"), ({"webhook-id": "x" * 200}, "webhook-id is missing"),
        ({"webhook-timestamp": "soon"}, "not a time"), ({"webhook-timestamp": "٣"}, "not a time"),
        ({"webhook-timestamp": "9" * 13}, "not a time"),
    ],
)  # fmt: skip
def test_malformed_headers_are_refused_with_their_name(changed, said):
    assert said in reason({**HEADERS, **changed})


def test_a_delivery_without_a_signature_is_refused():
    assert "there is no signature" in reason({})


def test_githubs_signature_is_known_and_equal_bodies_are_the_same_delivery():
    good = {"x-hub-signature-256": "sha256=" + hmac.new(SECRET, BODY, sha256).hexdigest()}
    assert verified(good, BODY, SECRET, now=NOW) == verified(good, BODY, SECRET, now=NOW + 9e9)
    assert reason({"x-hub-signature-256": "sha256=00"}) == "the signature does not match"
