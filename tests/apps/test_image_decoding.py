"""Images of every honest kind decode to upright RGB or grey; every dangerous one is refused with its code."""

import contextlib
import io
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from platformops.apps.image.decoding import decode
from platformops.apps.image.headers import read_header
from platformops.errors import BadInput

HEIGHT, WIDTH = 24, 40


def picture() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT))


def encoded(pixels: np.ndarray, kind: str, mode: str | None = None, **options) -> bytes:
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *extra: bytes, rows: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def code_of(content: bytes, **options) -> str:
    with pytest.raises(BadInput) as refused:
        decode(content, **options)
    return refused.value.code


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_lossless_pixels_come_out_as_they_went_in(kind, options):
    assert (decode(encoded(picture(), kind, **options)) == picture()).all()


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_jpeg_comes_out_as_rgb(mode):
    decoded = decode(encoded(picture(), "JPEG", mode, quality=95, subsampling=0))
    assert decoded.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(decoded.astype(int) - picture()).mean() < 4


def test_a_progressive_jpeg_is_read():
    assert decode(encoded(picture(), "JPEG", progressive=True)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "L"), ("PNG", "L"), ("PNG", "1")])
def test_grey_stays_one_channel(kind, mode):
    assert decode(encoded(picture(), kind, mode)).shape == (HEIGHT, WIDTH, 1)


def test_a_palette_becomes_colour():
    decoded = decode(encoded(picture(), "PNG", "P"))
    expected = np.asarray(Image.fromarray(picture()).convert("P").convert("RGB"))
    assert (decoded == expected).all()


def test_sixteen_bits_keep_their_upper_half():
    deep = picture()[:, :, 0].astype(np.uint16) * 256 + 99
    assert (decode(encoded(deep, "PNG"))[:, :, 0] == picture()[:, :, 0]).all()


def test_what_is_transparent_is_white():
    pixels = np.dstack([picture(), np.zeros((HEIGHT, WIDTH), np.uint8)])
    pixels[0, 0, 3] = 255
    decoded = decode(encoded(pixels, "PNG"))
    assert (decoded[0, 0] == picture()[0, 0]).all()
    assert (decoded[1:] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_orientation_is_applied(orientation, kind, options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(picture(), kind, exif=exif.tobytes(), **options)
    with Image.open(io.BytesIO(content)) as image:
        from PIL import ImageOps

        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert (decode(content) == expected).all()


def test_a_jpeg_that_lies_on_its_side_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(picture(), "JPEG", exif=exif)).shape == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize("damage", [b"", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_a_damaged_orientation_is_ignored(damage):
    content = png(1, 1, chunk(b"eXIf", damage), rows=b"\0abc")
    assert decode(content).shape == (1, 1, 3)


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    others = [Image.fromarray(np.roll(picture(), n, axis=0)) for n in range(1, 60)]
    content = encoded(picture(), kind, save_all=True, append_images=others, **options)
    assert (decode(content) == picture()).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
def test_a_cut_file_is_refused(kind, share):
    content = encoded(np.tile(picture(), (4, 4, 1)), kind)
    assert code_of(content[: int(len(content) * share)]) in ("truncated", "corrupt")


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"%PDF-1.7\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"GIF89a" + b"\0" * 40,
        b"BM" + b"\0" * 60,
        b"II*\0" + b"\0" * 60,
        b"hello",
        b"RIFF\x10\0\0\0WAVEfmt " + b"\0" * 20,
    ],
)
def test_other_formats_are_refused_by_their_first_bytes(content):
    assert code_of(content) == "unsupported_format"


def test_no_bytes_are_refused():
    assert code_of(b"") == "empty"


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 5), (5, 0)])
def test_an_image_without_pixels_is_refused(width, height):
    assert code_of(png(width, height)) == "empty_image"


def test_a_small_file_of_169_million_pixels_is_refused_by_its_header():
    assert code_of(png(13_000, 13_000, rows=b"\0" * 1000)) == "too_many_pixels"


@pytest.mark.parametrize("sides", [(20_000, 20_000), (40_000, 10_000)])
def test_a_jpeg_that_claims_400_million_pixels_is_refused_by_its_header(sides):
    content = bytearray(encoded(picture(), "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", *sides)
    assert code_of(bytes(content)) == "too_many_pixels"


def test_the_cap_on_pixels_can_be_set():
    content = encoded(picture(), "JPEG")
    assert code_of(content, max_pixels=HEIGHT * WIDTH - 1) == "too_many_pixels"
    assert decode(content, max_pixels=HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)


def test_a_header_that_claims_more_rows_than_there_are_is_refused():
    assert code_of(png(2000, 2000, rows=b"\0" * 100)) == "truncated"


def test_a_webp_canvas_that_its_frame_does_not_fill_is_refused():
    content = bytearray(encoded(picture(), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"))
    assert content[12:16] == b"VP8X"
    content[24:27] = (4000).to_bytes(3, "little")
    assert code_of(bytes(content)) in ("truncated", "corrupt")


def test_a_bomb_in_text_chunks_is_never_inflated():
    bomb = zlib.compress(b"\0" * 50_000_000, 9)
    few = [chunk(b"zTXt", b"k\0\0" + bomb)]
    assert decode(png(1, 1, *few, rows=b"\0abc")).shape == (1, 1, 3)
    many = [chunk(b"iTXt", b"k\0\x01\0\0\0" + bomb)] * 100
    assert code_of(png(1, 1, *many, rows=b"\0abc")) == "metadata"


def test_more_chunks_than_any_image_has_are_refused():
    assert code_of(png(1, 1, *[chunk(b"tEXt", b"")] * 30_000, rows=b"\0abc")) == "truncated"


def test_a_jpeg_of_a_thousand_scans_is_refused():
    assert code_of(encoded(picture(), "JPEG", progressive=True) + b"\xff\xda" * 1000) == "corrupt"


def test_the_name_of_a_file_plays_no_part():
    # What counts are the first bytes: a PNG that was saved as .jpg is read as a PNG.
    assert decode(encoded(picture(), "PNG")).shape == (HEIGHT, WIDTH, 3)


def test_random_damage_never_escapes_as_another_error_and_never_tells_of_a_library():
    dice = np.random.default_rng(1)
    messages = set()
    for kind in ("JPEG", "PNG", "WEBP"):
        content = encoded(picture(), kind)
        for _ in range(150):
            damaged = bytearray(content)
            for at in dice.integers(0, len(damaged), 4):
                damaged[at] = dice.integers(0, 256)
            try:
                assert decode(bytes(damaged)).dtype == np.uint8
            except BadInput as refused:
                messages.add(refused.message)
    assert messages
    assert not [m for m in messages if re.search(r"\b0x|[/\\:]|\.(c|cpp|py)\b", m)], "a client reads this"


def jpegs() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        encoded(picture(), "JPEG", mode, **options)
        for mode in ("RGB", "L", "CMYK")
        for options in ({}, {"progressive": True}, {"comment": b"x" * 300}, {"exif": exif})
    ]


@pytest.mark.parametrize("content", jpegs(), ids=range(12))
def test_the_header_of_a_jpeg_is_what_the_decoder_says(content):
    header = read_header(content)
    height, width, colour, _ = simplejpeg.decode_jpeg_header(content)
    assert (header.height, header.width, header.colour == "Gray") == (height, width, colour == "Gray")
    assert header.orientation == (6 if b"Exif" in content else 1)


def test_a_damaged_header_never_hides_from_us_a_size_that_the_decoder_sees():
    dice = np.random.default_rng(1)
    plain, seen = jpegs()[0], 0
    for _ in range(3000):
        content = bytearray(plain)
        for at in dice.integers(2, 200, dice.integers(1, 4)):
            content[at] = dice.integers(0, 256)
        ours = theirs = None
        with contextlib.suppress(BadInput):
            ours = read_header(bytes(content))[1:3]
        with contextlib.suppress(ValueError):
            theirs = simplejpeg.decode_jpeg_header(bytes(content))[:2]
        seen += ours is not None
        assert ours == theirs or theirs is None
    assert seen > 300
