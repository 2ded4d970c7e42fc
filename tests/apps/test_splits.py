"""A row's split follows from its content: equal pixels never cross, and shares are kept."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from platformops.apps.splits import SPLITS, content_digest, split_of
from platformops.spec.types import SplitSpec


def test_equal_pixels_have_equal_digests_whatever_their_memory_order():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert content_digest(pixels) == content_digest(np.asfortranarray(pixels))


def test_the_same_bytes_in_another_shape_are_other_content():
    pixels = np.arange(24, dtype=np.uint8)
    assert content_digest(pixels.reshape(2, 4, 3)) != content_digest(pixels.reshape(4, 2, 3))


def test_one_changed_pixel_is_other_content():
    pixels = np.zeros((2, 2, 1), dtype=np.uint8)
    other = pixels.copy()
    other[0, 0, 0] = 1
    assert content_digest(pixels) != content_digest(other)


def test_shares_are_kept_over_many_rows():
    digests = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(20_000)]
    found = [split_of(digest, SplitSpec(train=0.7, validation=0.2, test=0.1)) for digest in digests]
    shares = [found.count(split) / len(found) for split in SPLITS]
    assert np.allclose(shares, [0.7, 0.2, 0.1], atol=0.015)


@given(st.binary(min_size=32, max_size=32), st.sampled_from([0.05, 0.1, 0.3]))
def test_a_split_of_share_zero_stays_empty(digest, validation):
    split = SplitSpec(train=1 - validation, validation=validation, test=0.0)
    assert split_of(digest.hex(), split) != "test"


def test_the_last_digest_of_all_falls_into_the_last_split_with_a_share():
    assert split_of("f" * 64, SplitSpec(train=0.9, validation=0.1, test=0.0)) == "validation"
    assert split_of("f" * 64, SplitSpec()) == "test"
