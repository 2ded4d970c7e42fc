"""Encoded bytes of one image -> upright uint8 pixels, with every dangerous shape refused before it is decoded."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from platformops.apps.contract import MAX_PIXELS, Batch
from platformops.apps.image.headers import Header, read_header
from platformops.errors import BadInput

TOLERATED = "extraneous bytes"
"""A JPEG warning that many cameras cause and that costs no pixel; any other warning means lost pixels."""
TURBO = {"Gray": "GRAY", "YCbCr": "RGB", "RGB": "RGB"}
"""Colours of JPEG files that the turbo decoder takes -> what it makes of them."""


def decode(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Batch:
    """Pixels of shape (height, width, 1 for grey or 3 for RGB), first frame, upright, transparency over white.

    Raises BadInput with code `empty`, `unsupported_format`, `truncated`, `corrupt`, `metadata`, `empty_image`,
    or `too_many_pixels` (more than `max_pixels`, by the header).
    """
    header = read_header(content)
    height, width = header.height, header.width
    if not 0 < height * width <= max_pixels:
        raise _unusable(height, width, max_pixels)
    pixels = _turbo_jpeg(header) if header.colour in TURBO else _opencv(header)
    if pixels.shape[:2] != (height, width):
        raise BadInput("corrupt", "the image is not of the size that its header says")
    return pixels if header.orientation == 1 else upright(pixels, header.orientation)


def _unusable(height: int, width: int, max_pixels: int) -> BadInput:
    if height * width == 0:
        return BadInput("empty_image", f"the image is {width}x{height} pixels")
    what = f"the image is {width}x{height}, more than {max_pixels} pixels"
    return BadInput("too_many_pixels", what, remedy="scale it down")


def upright(pixels: Batch, orientation: int) -> Batch:
    """Pixels turned so that EXIF `orientation` becomes 1."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    vertical, horizontal = _FLIPS[orientation]
    pixels = pixels[:: -1 if vertical else 1, :: -1 if horizontal else 1]
    return np.ascontiguousarray(pixels)


_FLIPS = {
    2: (False, True), 3: (True, True), 4: (True, False),
    5: (False, False), 6: (False, True), 7: (True, True), 8: (True, False),
}  # fmt: skip
"""Orientation -> whether rows and columns are reversed, after the transposition that 5 to 8 begin with."""


def _turbo_jpeg(header: Header, *, strict: bool = True) -> Batch:
    try:
        pixels: Batch = simplejpeg.decode_jpeg(header.content, TURBO[header.colour], strict=strict)
    except ValueError as exc:
        if strict and TOLERATED in str(exc):
            return _turbo_jpeg(header, strict=False)
        # What a library says of a damaged file goes to clients too, and may speak of its insides: it is not repeated.
        if "Premature end" in str(exc):
            raise BadInput("truncated", "the JPEG is cut off") from None
        raise BadInput("corrupt", "the JPEG is damaged") from None
    return pixels


def _opencv(header: Header) -> Batch:
    mode = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION if header.format == "jpeg" else cv2.IMREAD_UNCHANGED
    try:
        decoded = cv2.imdecode(np.frombuffer(header.content, dtype=np.uint8), mode)
    except cv2.error:
        raise BadInput("corrupt", f"the {header.format} image cannot be decoded") from None
    if decoded is None:
        raise BadInput("truncated", f"the {header.format} image is cut off or damaged")
    return _rgb(_eight_bit(decoded))


def _eight_bit(decoded: NDArray[np.generic]) -> Batch:
    if decoded.dtype == np.uint16:
        return (cast(NDArray[np.uint16], decoded) >> 8).astype(np.uint8)
    return cast(Batch, decoded)


def _rgb(decoded: Batch) -> Batch:
    if decoded.ndim == 2:
        return decoded[:, :, None]
    if decoded.shape[2] == 4:
        alpha = decoded[:, :, 3:].astype(np.uint16)
        over_white = (decoded[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255
        decoded = over_white.astype(np.uint8)
    return np.ascontiguousarray(decoded[:, :, ::-1])
