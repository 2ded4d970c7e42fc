"""What an image file says of itself before a single pixel is decoded: format, size, orientation."""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

import simplejpeg

from platformops.errors import BadInput

Format = Literal["jpeg", "png", "webp"]

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
"""Chunks that pixels depend on: the rest is never handed to a decoder, so that no comment can be inflated there."""
MAX_METADATA_BYTES = 4 * 1024 * 1024
"""Of PNG text, profiles and the like; an honest file stays below: the largest usual colour profile has 3 MB."""
MAX_CHUNKS = 20_000
MAX_JPEG_SCANS = 200
"""A progressive JPEG has about 10; each further one costs a pass over all pixels."""
FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Markers of baseline, extended and progressive frames: size and components are in the segment."""
SEGMENTS = frozenset({0xDB, 0xC4, 0xDD, 0xFE, *range(0xE0, 0xEE)})
"""Tables, comments and application data. Not Adobe's (0xEE), which says how four components are to be understood."""
COLOURS = {1: "Gray", 3: "YCbCr"}
"""Number of components -> colour; three may be RGB, which the decoder finds out and decodes alike."""
MIN_SCAN_BYTES = 10
"""Marker, length and parameters of a scan of one component: a small file cannot hold many."""
SCAN_MARKER = b"\xff\xda"


class Header(NamedTuple):
    """A tuple, since one is made for each image that is decoded."""

    format: Format
    height: int
    width: int
    colour: str
    """`Gray`, `YCbCr`, `RGB`, `CMYK`, `YCCK` for JPEG; empty for the rest."""
    orientation: int
    """EXIF 1 to 8; 1 is upright."""
    content: bytes
    """What to decode: a PNG without its metadata, else the file."""


def read_header(content: bytes) -> Header:
    """The header of a JPEG, PNG or WebP; raises BadInput for anything else, whatever its name says."""
    if not content:
        raise BadInput("empty", "the image has no bytes")
    if content.startswith(b"\xff\xd8\xff"):
        return _jpeg(content)
    if content.startswith(PNG_MAGIC):
        return _png(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _webp(content)
    raise BadInput("unsupported_format", "not a JPEG, PNG or WebP image", remedy="convert it to one of these formats")


def _jpeg(content: bytes) -> Header:
    if len(content) > MAX_JPEG_SCANS * MIN_SCAN_BYTES and content.count(SCAN_MARKER) > MAX_JPEG_SCANS:
        raise BadInput("corrupt", f"the JPEG has more than {MAX_JPEG_SCANS} scans")
    return _plain_jpeg(content) or _other_jpeg(content)


def _plain_jpeg(content: bytes) -> Header | None:
    """The header of a file of well-formed segments up to its frame, as nearly all are; None for any other.

    Twice as fast as starting a decoder for it. Whatever a decoder might see differently is left to the decoder.
    """
    at, orientation = 2, 1
    try:
        while content[at] == 0xFF:
            kind, length = content[at + 1], content[at + 2] << 8 | content[at + 3]
            if kind in FRAMES:
                height, width = content[at + 5] << 8 | content[at + 6], content[at + 7] << 8 | content[at + 8]
                colour = COLOURS.get(content[at + 9])
                return Header("jpeg", height, width, colour, orientation, content) if colour else None
            if kind not in SEGMENTS or length < 2:
                return None
            if kind == 0xE1 and content.startswith(b"Exif\0\0", at + 4):
                orientation = exif_orientation(content[at + 10 : at + 2 + length])
            at += 2 + length
    except IndexError:
        pass
    return None


def _other_jpeg(content: bytes) -> Header:
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        raise BadInput("corrupt", "the JPEG header cannot be read") from None
    exif = content.find(b"Exif\0\0", 0, 65_536)
    orientation = exif_orientation(content[exif + 6 : exif + 65_536]) if exif > 0 else 1
    return Header("jpeg", height, width, colour, orientation, content)


def _png(content: bytes) -> Header:
    kept, metadata_bytes, orientation, at, ended = [PNG_MAGIC], 0, 1, len(PNG_MAGIC), False
    for _ in range(MAX_CHUNKS):
        if ended or at + 12 > len(content):
            break
        length, kind = struct.unpack_from(">I4s", content, at)
        chunk = content[at : at + 12 + length]
        if len(chunk) < 12 + length:
            break
        if kind in PNG_KEPT:
            kept.append(chunk)
        else:
            metadata_bytes += length
            if kind == b"eXIf":
                orientation = exif_orientation(chunk[8:-4])
        ended = kind == b"IEND"
        at += 12 + length
    if metadata_bytes > MAX_METADATA_BYTES:
        raise BadInput("metadata", f"the PNG holds {metadata_bytes} bytes of text and profiles")
    if not ended or len(kept) < 2 or kept[1][4:8] != b"IHDR" or len(kept[1]) != 25:
        raise BadInput("truncated", "the PNG is cut off or damaged")
    width, height = struct.unpack_from(">II", kept[1], 8)
    return Header("png", height, width, "", orientation, b"".join(kept))


def _webp(content: bytes) -> Header:
    if len(content) < 30 or len(content) < struct.unpack_from("<I", content, 4)[0] + 8:
        raise BadInput("truncated", "the WebP is cut off")
    kind = content[12:16]
    orientation = 1
    if kind == b"VP8X":
        width = int.from_bytes(content[24:27], "little") + 1
        height = int.from_bytes(content[27:30], "little") + 1
        exif = content.rfind(b"EXIF")
        if content[20] & 0x08 and exif > 0:
            orientation = exif_orientation(content[exif + 8 :].removeprefix(b"Exif\0\0"))
    elif kind == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 26))
    else:
        raise BadInput("corrupt", "the WebP has no image")
    return Header("webp", height, width, "", orientation, content)


def exif_orientation(tiff: bytes) -> int:
    """The orientation tag of a TIFF block, 1 where there is none or the block is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for number in range(min(count, 200)):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * number)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
