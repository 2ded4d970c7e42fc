"""What a preparation task leaves on disk and tells the driver, without any cluster."""

import cv2
import numpy as np
import pytest

from platformops.apps.contract import Operation, Part
from platformops.apps.load import load_app
from platformops.apps.splits import content_digest
from platformops.errors import DataRefused, StageFailed
from platformops.on_ray.read import BATCH_BYTES, Packed, Reader, Written, channel_sums, pack, unpack
from platformops.spec.types import SplitSpec

OPERATIONS = (Operation("channels", 3), Operation("resize", [4, 6]))


def image(seed: int, height: int = 8, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes()


@pytest.fixture
def source(tmp_path):
    """Twenty images in one folder of a class; returns the part that lists them, and their pixels."""
    pixels, files = [image(seed) for seed in range(20)], []
    for number, one in enumerate(pixels):
        path = tmp_path / f"{number:02d}.png"
        path.write_bytes(png(one))
        files.append((str(path), "cat" if number % 2 else "dog"))
    return Part(str(tmp_path), files=tuple(files)), pixels


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def read(part, folder, **changes):
    settings = {
        "app_ref": "image",
        "root": str(folder),
        "output": str(folder),
        "groups": [[part]],
        "first": 3,
        "operations": OPERATIONS,
        "split": SplitSpec(train=0.5, validation=0.25, test=0.25),
        "forced_split": None,
        "excluded": frozenset(),
        "max_pixels": 1000,
    }
    return Reader(**settings | changes).read(load_app("image", folder), 0)


def pixels_of(output, written) -> np.ndarray:
    return np.concatenate([np.load(output / name) for name in written.shards])


def test_each_row_is_in_the_shard_of_its_split_in_the_order_of_the_source(source, output):
    part, _ = source
    packed = read(part, output)
    ids = [row_id for written in packed.written for row_id in written.ids]
    assert sorted(ids) == [f"{n:02d}.png" for n in range(20)]
    for written in packed.written:
        assert written.ids == sorted(written.ids)
        shard = pixels_of(output, written)
        assert shard.shape == (len(written.ids), 4, 6, 3)
        assert written.shards == [f"{written.split}-00003.npy"]


def test_stored_pixels_are_what_the_app_makes_of_the_row(source, output):
    part, pixels = source
    (written,) = read(part, output, forced_split="test").written
    assert np.array_equal(pixels_of(output, written), load_app("image", output).transform(pixels, OPERATIONS))
    assert written.labels == ["dog", "cat"] * 10
    assert written.digests == [content_digest(one) for one in pixels]
    assert written.raw[0] == png(pixels[0])


def test_rows_that_are_in_the_test_split_already_are_dropped_and_counted(source, output):
    part, pixels = source
    excluded = frozenset(content_digest(one) for one in pixels[:5])
    packed = read(part, output, excluded=excluded)
    assert packed.dropped == 5
    assert sum(len(written.ids) for written in packed.written) == 15


def test_what_cannot_be_read_is_quarantined_with_its_reason_and_costs_no_other_row(source, output):
    part, _ = source
    good, (broken, label) = part.files[:3], part.files[3]
    with open(broken, "r+b") as file:
        file.truncate(40)
    packed = read(Part(part.uri, files=(*good, (broken, label))), output, forced_split="train")
    assert [entry["id"] for entry in packed.quarantine] == ["03.png"]
    assert packed.quarantine[0]["reason"].startswith("truncated")
    assert packed.written[0].ids == ["00.png", "01.png", "02.png"]


def test_sizes_that_differ_after_preparation_are_refused_with_both(source, output, tmp_path):
    part, _ = source
    (tmp_path / "99.png").write_bytes(png(image(99, 6, 6)))
    files = (*part.files[:2], (str(tmp_path / "99.png"), "cat"))
    with pytest.raises(DataRefused, match=r"different sizes.*\(6, 6, 3\).*\(8, 12, 3\)"):
        read(Part(part.uri, files=files), output, forced_split="train", operations=OPERATIONS[:1])


def test_an_output_that_the_node_does_not_see_is_refused_with_what_to_do(source, output):
    with pytest.raises(StageFailed) as refused:
        read(source[0], output, output=str(output / "elsewhere"))
    assert "PLATFORMOPS_HOME" in str(refused.value.remedy)


def test_statistics_are_those_of_all_pixels_however_they_were_batched(source, output):
    part, _ = source
    (written,) = read(part, output, forced_split="train").written
    flat = pixels_of(output, written).reshape(-1, 3) / 255.0
    assert written.pixels == len(flat)
    assert np.allclose(written.sums, [flat.sum(axis=0), (flat**2).sum(axis=0)], rtol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_sums_of_extreme_pixels_are_exact(channels):
    white = np.full((2, 5, 7, channels), 255, dtype=np.uint8)
    assert np.allclose(channel_sums(white), np.full((2, channels), 70.0))


def test_a_batch_larger_than_the_cache_is_written_like_a_small_one(output, tmp_path):
    side = int((BATCH_BYTES / 3) ** 0.5) + 8
    files = []
    for seed in range(3):
        path = tmp_path / f"large-{seed}.png"
        path.write_bytes(png(image(seed, side, side)))
        files.append((str(path), "cat"))
    part = Part(str(tmp_path), files=tuple(files))
    (written,) = read(part, output, forced_split="train", max_pixels=10**6).written
    assert pixels_of(output, written).shape == (3, 4, 6, 3)


def test_a_record_is_unpacked_as_it_was_packed():
    written = Written("test", ["test-00000.npy"], ["a", "ü"], ["x", "y"], ["d", "e"], "c", [], 0, [b"12", b"3"])
    packed = Packed([written, Written("train", sums=[[1.5], [2.5]], pixels=4)], [{"id": "b", "reason": "r"}], 2)
    packed.flagged["e-mail address"] = 1
    record = pack(packed)
    assert unpack(record["meta"][0], record["payload"][0]) == packed
