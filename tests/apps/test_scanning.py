"""What the scanner flags, and what it leaves alone."""

import pytest

from platformops.apps.scanning import flagged


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("photos/jane.doe@example.org.jpg", "e-mail address"),
        ("AKIA" + "A1B2C3D4E5F6G7H8", "cloud access key"),
        ("-----BEGIN RSA PRIVATE KEY-----", "private key"),
        ("ghp_" + "a" * 36, "source host token"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeKKF2Q", "web token"),
    ],
)
def test_texts_that_look_like_secrets_are_counted_by_kind(text, kind):
    assert flagged([text, "cat", text]) == {kind: 2}


@pytest.mark.parametrize("text", ["cat", "train-00001.parquet:17", "7", "a@b"])
def test_ordinary_names_are_not_flagged(text):
    assert not flagged([text])
