"""Rows of every kind of source; a bad file is reported by itself, a bad source is refused as a whole."""

import io
import os
import pickle
import sys
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from platformops.apps.image import decode, parts, rows
from platformops.apps.image.packaged import encode_png
from platformops.errors import BadInput, DataRefused

PIXEL = encode_png(np.zeros((1, 1), np.uint8))


def everything(source, **options):
    return [row for part in parts(str(source), options) for row in rows(part)]


@pytest.fixture
def folders(tmp_path):
    root = tmp_path / "photos"
    for name, files in {"cat": ["a.png", "deep/b.png"], "dog": ["c.png"]}.items():
        for file in files:
            path = root / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PIXEL)
    return root


def write_table(path, **columns):
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_class_folders_name_the_classes(folders):
    (folders / "cat" / ".DS_Store").write_bytes(b"x")
    (folders / "README").write_bytes(b"not a class")
    found = everything(folders)
    assert [(row.id, row.label) for row in found] == [
        ("cat/a.png", "cat"),
        ("cat/deep/b.png", "cat"),
        ("dog/c.png", "dog"),
    ]
    assert all(decode(row.content).shape == (1, 1, 1) for row in found)


def test_links_that_lead_nowhere_or_in_circles_are_reported_by_file(folders):
    (folders / "cat" / "loop.png").symlink_to("loop.png")
    (folders / "cat" / "up").symlink_to(folders)
    (folders / "cat" / "gone.png").symlink_to("nowhere.png")
    (folders / "self").symlink_to(folders)
    problems = {row.id: row.problem for row in everything(folders) if row.problem}
    assert set(problems) == {"cat/loop.png", "cat/up", "cat/gone.png"}
    assert "symbolic links" in problems["cat/loop.png"]
    assert "directory" in problems["cat/up"] or "regular" in problems["cat/up"]
    assert "No such file" in problems["cat/gone.png"]


def test_a_named_pipe_is_reported_and_not_waited_for(folders):
    os.mkfifo(folders / "dog" / "pipe.png")
    assert [row.problem for row in everything(folders) if row.id == "dog/pipe.png"] == [
        "cannot be read: not a regular file"
    ]


def test_a_file_that_vanishes_between_listing_and_reading_is_reported(folders):
    listed = parts(str(folders), {})
    (folders / "dog" / "c.png").unlink()
    problems = [row.problem for part in listed for row in rows(part) if row.problem]
    assert problems == ["cannot be read: No such file or directory"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_reported(folders):
    (folders / "dog" / "c.png").chmod(0)
    assert "Permission denied" in next(row.problem for row in everything(folders) if row.problem)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_no_utf8_is_shown_escaped(folders):
    path = os.fsencode(folders / "dog") + b"/\xff\xfe.png"
    with open(path, "wb") as file:
        file.write(PIXEL)
    row = next(row for row in everything(folders) if "\\" in row.id)
    assert row.id == "dog/\\xff\\xfe.png"
    assert row.content == PIXEL
    assert row.id.encode("utf-8")


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_bytes(b"x")])
def test_a_source_without_class_folders_is_refused(tmp_path, make):
    make(tmp_path / "source")
    with pytest.raises(DataRefused, match="source"):
        parts(str(tmp_path / "source"), {})


def test_folders_without_files_are_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataRefused, match="holds no rows"):
        parts(str(tmp_path), {})


@pytest.mark.parametrize("written", ["{}/a.parquet", "{}", "{}/*.parquet", "file://{}/a.parquet"])
def test_a_table_is_a_file_a_folder_a_pattern_or_a_url(tmp_path, written):
    write_table(tmp_path / "a.parquet", image=[PIXEL] * 3, label=[1, 2, 1])
    found = everything(written.format(tmp_path))
    assert [(row.label, row.content) for row in found] == [("1", PIXEL), ("2", PIXEL), ("1", PIXEL)]
    assert len({row.id for row in found}) == 3


def test_a_row_group_is_a_part_and_reads_alone(tmp_path):
    write_table(tmp_path / "a.parquet", image=[PIXEL] * 5, label=list("abcde"), id=list("vwxyz"))
    found = parts(str(tmp_path / "a.parquet"), {})
    assert [(part.start, part.stop) for part in found] == [(0, 2), (2, 4), (4, 5)]
    assert [(row.id, row.label) for row in rows(found[1])] == [("x", "c"), ("y", "d")]


def test_a_label_name_is_preferred_to_its_number(tmp_path):
    write_table(tmp_path / "a.parquet", image=[PIXEL], label=[3], label_name=["horse"])
    assert everything(tmp_path / "a.parquet")[0].label == "horse"


def test_columns_can_be_named(tmp_path):
    write_table(tmp_path / "a.parquet", picture=[PIXEL], kind=["x"], label=[0])
    assert everything(tmp_path / "a.parquet", image="picture", label="kind")[0].label == "x"


def test_an_image_in_a_struct_is_read(tmp_path):
    write_table(tmp_path / "a.parquet", image=[{"bytes": PIXEL, "path": "p"}], label=["x"])
    assert everything(tmp_path / "a.parquet")[0].content == PIXEL


def test_missing_cells_are_reported_by_row(tmp_path):
    write_table(tmp_path / "a.parquet", image=[PIXEL, None], label=[None, "x"])
    assert [row.problem for row in everything(tmp_path / "a.parquet")] == ["has no label", "has no image bytes"]


def test_labels_that_are_no_finite_number_or_no_name_are_reported_by_row(tmp_path):
    write_table(tmp_path / "a.parquet", image=[PIXEL] * 4, label=[float("nan"), float("inf"), 1e300, 2.0])
    found = everything(tmp_path / "a.parquet")
    assert [bool(row.problem) for row in found] == [True, True, False, False]
    assert "not a number" in found[0].problem
    write_table(tmp_path / "b.parquet", image=[PIXEL] * 2, label=["x" * 201, "x" * 200])
    assert [bool(row.problem) for row in everything(tmp_path / "b.parquet")] == [True, False]


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return (open, (str(self.canary), "w"))


def trapped(kind, trap):
    buffer = io.BytesIO()
    match kind:
        case "npy":
            np.save(buffer, np.array([trap], dtype=object), allow_pickle=True)
        case "npz":
            np.savez(buffer, images=np.array([trap], dtype=object))
        case "tar":
            with tarfile.open(fileobj=buffer, mode="w") as archive:
                archive.addfile(tarfile.TarInfo("../../escaped"), io.BytesIO())
        case "zip":
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("../../escaped", pickle.dumps(trap))
        case _:
            buffer.write(pickle.dumps(trap))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["pkl", "pt", "joblib", "npy", "npz", "tar", "zip"])
def test_pickles_and_archives_are_neither_a_source_nor_an_image_and_are_never_opened(tmp_path, kind):
    root, canary = tmp_path / "source", tmp_path / "canary"
    (root / "cat").mkdir(parents=True)
    (root / "cat" / f"a.{kind}").write_bytes(trapped(kind, Trap(canary)))
    with pytest.raises(DataRefused):
        parts(str(root / "cat" / f"a.{kind}"), {})
    (row,) = everything(root)
    with pytest.raises(BadInput, match="not a JPEG, PNG or WebP"):
        decode(row.content)
    assert not canary.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"photo": [PIXEL], "label": [1]}, "no column 'image'"),
        ({"image": [PIXEL], "kind": [1]}, "no column 'label'"),
        ({"image": ["text"], "label": [1]}, "holds string, not encoded image bytes"),
        ({"image": [PIXEL], "label": [[1, 2]]}, "'label' holds list.*, not names or numbers of classes"),
        ({"image": [PIXEL], "label": [b"\x80\x04."]}, "'label' holds binary, not names or numbers of classes"),
        ({"image": [PIXEL], "label": [{"a": 1}]}, "'label' holds struct.*, not names or numbers of classes"),
    ],
)
def test_a_table_without_the_right_columns_is_refused(tmp_path, columns, message):
    with pytest.raises(DataRefused, match=message):
        parts(str(write_table(tmp_path / "a.parquet", **columns)), {})


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 1000])
def test_what_is_no_table_is_refused(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataRefused, match=r"a\.parquet"):
        parts(str(tmp_path / "a.parquet"), {})


def test_a_table_cut_in_half_is_refused(tmp_path):
    path = write_table(tmp_path / "a.parquet", image=[os.urandom(500)] * 50, label=[1] * 50)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataRefused, match=r"a\.parquet"):
        everything(path)


def test_a_table_without_rows_is_refused(tmp_path):
    path = write_table(tmp_path / "a.parquet", image=pa.array([], pa.binary()), label=pa.array([], pa.int64()))
    with pytest.raises(DataRefused, match="holds no rows"):
        everything(path)


def test_a_small_file_of_fifty_million_rows_is_refused_before_it_is_read(tmp_path):
    rows_claimed = 50_000_000
    image = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows_claimed, np.int8)), pa.array([PIXEL]))
    label = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows_claimed, np.int8)), pa.array(["a"]))
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"image": image, "label": label}), path, row_group_size=rows_claimed)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataRefused, match="claim 50000000 rows"):
        parts(str(path), {})


def test_a_few_bytes_that_unpack_to_far_more_are_refused(tmp_path):
    path = tmp_path / "bomb.parquet"
    table = pa.table({"image": [bytes(100_000_000)], "label": ["a"]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    with pytest.raises(DataRefused, match="claim 1 rows of at least 1000000"):
        parts(str(path), {})


def test_one_stored_image_repeated_beyond_the_budget_is_refused_while_reading(tmp_path):
    repeats = 3000
    image = pa.DictionaryArray.from_arrays(pa.array(np.zeros(repeats, np.int8)), pa.array([os.urandom(60_000)]))
    pq.write_table(pa.table({"image": image, "label": ["a"] * repeats}), tmp_path / "bomb.parquet")
    with pytest.raises(DataRefused, match="more than 100 times its bytes"):
        everything(tmp_path / "bomb.parquet")


def test_the_embedded_digits_are_8x8_grey_pngs():
    found = everything("sklearn://digits")
    assert len(found) == 1797
    assert len({row.id for row in found}) == 1797
    assert {row.label for row in found} == set("0123456789")
    pixels = decode(found[0].content)
    assert pixels.shape == (8, 8, 1)
    assert pixels.max() == 239  # 15 of 16 levels


def test_another_packaged_name_is_refused():
    with pytest.raises(DataRefused, match="sklearn://iris: not known"):
        parts("sklearn://iris", {})


def test_a_torchvision_set_that_is_not_here_says_how_to_get_it(tmp_path):
    with pytest.raises(DataRefused, match=r"download: true"):
        parts("torchvision://CIFAR10", {"root": str(tmp_path)})


def test_an_unknown_torchvision_name_is_refused(tmp_path):
    with pytest.raises(DataRefused, match="no data set 'CIFAR11'"):
        parts("torchvision://CIFAR11", {"root": str(tmp_path)})


def test_a_torchvision_set_on_disk_is_read_by_split(tmp_path):
    # The raw format of MNIST: a magic number, sizes, bytes.
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 3), ("t10k", 2)):
        pixels = np.arange(count * 784, dtype=np.uint32).astype(np.uint8)
        sizes = np.array([0x00000803, count, 28, 28], ">u4").tobytes()
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(sizes + pixels.tobytes())
        labels = np.arange(count, dtype=np.uint8)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(np.array([0x0801, count], ">u4").tobytes() + labels.tobytes())
    found = everything("torchvision://MNIST?split=test", root=str(tmp_path))
    assert [row.label for row in found] == ["0 - zero", "1 - one"]
    assert decode(found[1].content).shape == (28, 28, 1)
    assert len(everything("torchvision://MNIST", root=str(tmp_path))) == 3
