"""Which names and which manifests an artifact may have."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platformops.errors import ArtifactCorrupt, PlatformError
from platformops.store.manifest import (
    FileEntry,
    Manifest,
    checked_fingerprint,
    checked_path,
    digest_of,
    manifest_of,
    parsed,
    publishable,
    verify,
)

GOOD = [
    "a",
    "a.b",
    "weights/part-0.npy",
    "a b",
    "été/漢字",
    "हिन्दी",
    "(1).txt",
    "..a",
    "a..",
    "...",
    "x" * 255,
    "_",
    "~a",
]
BAD = [
    "",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    "/a",
    "//a",
    "a//b",
    "a/",
    "./a",
    "a\\b",
    "..\\a",
    "C:\\a",
    "C:a",
    "a\0",
    "a\nb",
    "%2e%2e/a",
    "%252e",
    "a%2fb",
    "file:a",
    "a?b",
    "a*b",
    "a|b",
    'a"b',
    "a<b",
    "a`b",
    "\u2024\u2024/a",
    "\uff0e\uff0e/a",
    "a\uff0fb",
    "a\u2215b",
    "a\u2044b",
    "a\u29f8b",
    "a\u202eb",
    "a\u200bb",
    "\ufeffa",
    "a\u00a0b",
    "e\u0301",
    "\ufb01",
    "a\ud800",
    "a\x7f",
    "a\t",
    "x" * 256,
    "/".join(["abc"] * 400),
    "\U0010ffff",
]


@pytest.mark.parametrize("path", GOOD)
def test_a_plain_name_in_any_script_is_taken(path):
    assert checked_path(path) == path


@pytest.mark.parametrize("path", BAD, ids=[ascii(path)[:30] for path in BAD])
def test_a_name_that_could_be_read_as_another_path_is_refused(path):
    with pytest.raises(ArtifactCorrupt):
        checked_path(path)


@given(st.text(alphabet=st.characters(), max_size=40))
def test_a_name_that_is_taken_never_leaves_its_directory(path):
    try:
        checked_path(path)
    except ArtifactCorrupt:
        return
    assert os.path.normpath(f"/root/{path}") == f"/root/{path}"
    assert path.isprintable()


@given(st.text(max_size=30))
def test_a_fingerprint_that_is_taken_is_one_plain_file_name(text):
    try:
        checked_fingerprint(text)
    except PlatformError:
        return
    assert text.isascii()
    assert text[0].isalnum()
    assert "/" not in text


def entry(path="a", size=1, sha256="0" * 64):
    return FileEntry(path, size, sha256)


def test_a_manifest_reads_back_as_it_was_written():
    manifest = Manifest("f1", (entry("a"), entry("b/c", 0)))
    assert parsed(manifest.encoded(), fingerprint="f1") == manifest


TAMPERED = {
    "not json": b"{",
    "not an object": b"[]",
    "a number": b"1",
    "a space": Manifest("f1", (entry(),)).encoded().replace(b",", b", "),
    "a duplicate name": Manifest("f1", ()).encoded().replace(b'"format":1', b'"format":1,"format":1'),
    "an unknown name": Manifest("f1", ()).encoded().replace(b"}", b',"more":1}'),
    "another order": json.dumps({"format": 1, "fingerprint": "f1", "files": []}, separators=(",", ":")).encode(),
    "files out of order": Manifest("f1", (entry("b"), entry("a"))).encoded(),
    "a file twice": Manifest("f1", (entry("a"), entry("a"))).encoded(),
    "a path outside": Manifest("f1", (entry("../a"),)).encoded(),
    "a path that is a number": Manifest("f1", (entry(1),)).encoded(),
    "a negative size": Manifest("f1", (entry(size=-1),)).encoded(),
    "a size that is true": Manifest("f1", (entry(size=True),)).encoded(),
    "a size with a point": Manifest("f1", (entry(size=1.0),)).encoded(),
    "a short digest": Manifest("f1", (entry(sha256="0"),)).encoded(),
    "a digest in capitals": Manifest("f1", (entry(sha256="A" * 64),)).encoded(),
    "no digest": Manifest("f1", (entry(sha256=None),)).encoded(),
    "format zero": Manifest("f1", (), 0).encoded(),
    "a format that is true": Manifest("f1", (), True).encoded(),
    "another fingerprint": Manifest("f2", ()).encoded(),
    "bytes that are no text": b"\xff\xfe",
    "nested without end": b"[" * 100_000,
}


@pytest.mark.parametrize("content", TAMPERED.values(), ids=TAMPERED.keys())
def test_a_manifest_that_is_not_the_one_spelling_of_a_sound_one_is_refused(content):
    with pytest.raises(ArtifactCorrupt):
        parsed(content, fingerprint="f1")


def test_a_manifest_of_a_newer_program_is_not_called_corrupt():
    with pytest.raises(PlatformError, match="newer PlatformOps") as caught:
        parsed(b'{"files":[{"new":1}],"fingerprint":"f1","format":2}', fingerprint="f1")
    assert not isinstance(caught.value, ArtifactCorrupt)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_bytes(b"alpha")
    (root / "sub" / "b").write_bytes(b"beta")
    (root / "void").mkdir()
    return root


def test_a_manifest_lists_every_file_with_size_and_digest(folder):
    found = manifest_of(folder, "f1")
    assert found.files == (
        FileEntry("a", 5, digest_of(b"alpha")),
        FileEntry("sub/b", 4, digest_of(b"beta")),
    )
    verify(folder, found)


def plant_link(root):
    (root / "x").symlink_to("a")


def plant_folder_link(root):
    (root / "x").symlink_to("sub", target_is_directory=True)


def plant_outward_link(root):
    (root / "x").symlink_to("/etc/passwd")


def plant_dangling_link(root):
    (root / "x").symlink_to("nowhere")


def plant_pipe(root):
    os.mkfifo(root / "x")


def plant_odd_name(root):
    (root / "a\\b").write_bytes(b"")


def plant_undecodable_name(root):
    (root / os.fsdecode(b"x\xff")).write_bytes(b"")


PLANTED = [
    plant_link, plant_folder_link, plant_outward_link, plant_dangling_link, plant_pipe, plant_odd_name,
    plant_undecodable_name,
]  # fmt: skip


@pytest.mark.parametrize("plant", PLANTED)
def test_what_an_artifact_may_not_hold_is_refused_when_published_and_when_opened(folder, plant):
    sound = manifest_of(folder, "f1")
    plant(folder)
    with pytest.raises(PlatformError, match="the output for f1 cannot be kept"):
        publishable(folder, "f1")
    with pytest.raises(ArtifactCorrupt):
        verify(folder, sound)


def test_a_listed_file_replaced_by_a_link_to_equal_bytes_is_found(folder, tmp_path):
    sound = manifest_of(folder, "f1")
    (folder / "a").rename(tmp_path / "elsewhere")
    (folder / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactCorrupt, match="a is a link"):
        verify(folder, sound)


def test_a_listed_folder_replaced_by_a_link_to_equal_files_is_found(folder, tmp_path):
    sound = manifest_of(folder, "f1")
    (folder / "sub").rename(tmp_path / "elsewhere")
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactCorrupt, match=r"sub is (a link|not in the manifest)"):
        verify(folder, sound)
