import os
import socket
import sys

import fsspec
import pytest

from platformops.errors import DataRefused, UserError
from platformops.pipeline import files
from platformops.pipeline.memory import DigestMemory
from platformops.pipeline.sources import digest_source


def digest(shop, uri, **changes):
    memory = DigestMemory(shop.store, shop.clock)
    return digest_source(uri, **({"root": shop.root, "data_root": shop.root / "data", "memory": memory} | changes))


@pytest.fixture
def folder(shop):
    shop.write("images/cat/1.png", "cat one")
    shop.write("images/cat/2.png", "cat two")
    shop.write("images/dog/1.png", "dog one")
    return shop.root / "images"


def settle(shop):
    """Long after every file was written."""
    shop.clock.sleep(10**9)


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read."""
    names = []
    real = files.read_digest

    def counted(found):
        names.append(found.name)
        return real(found)

    monkeypatch.setattr(files, "read_digest", counted)
    return names


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "cat/1.png").write_text("cat ONE"),
        lambda f: (f / "cat/1.png").rename(f / "cat/9.png"),
        lambda f: (f / "cat/1.png").rename(f / "dog/9.png"),
        lambda f: (f / "cat/1.png").unlink(),
        lambda f: (f / "cat/3.png").write_text(""),
    ],
)
def test_bytes_and_names_of_a_folder_decide_its_digest(shop, folder, change):
    before = digest(shop, "images")
    assert digest(shop, "images") == before
    change(folder)
    assert digest(shop, "images") != before


def test_swapped_contents_are_not_mistaken_for_the_same_folder(shop, folder):
    before = digest(shop, "images")
    (folder / "cat/1.png").write_text("cat two")
    (folder / "cat/2.png").write_text("cat one")
    assert digest(shop, "images") != before


def test_times_owners_and_modes_do_not_count(shop, folder):
    before = digest(shop, "images")
    os.utime(folder / "cat/1.png", (1, 1))
    (folder / "cat/1.png").chmod(0o600)
    assert digest(shop, "images") == before


def test_a_file_has_the_digest_of_its_name_and_bytes_wherever_it_lies(shop):
    shop.write("a/rows.csv", "1,2\n")
    shop.write("b/rows.csv", "1,2\n")
    assert digest(shop, "a/rows.csv") == digest(shop, "b/rows.csv") == digest(shop, str(shop.root / "a/rows.csv"))


def test_a_pattern_takes_what_matches_and_names_it_below_its_fixed_part(shop, folder):
    shop.write("images/notes.txt", "x")
    before = digest(shop, "images/*/*.png")
    shop.write("images/notes.txt", "y")
    assert digest(shop, "images/*/*.png") == before
    (folder / "cat/1.png").rename(folder / "dog/3.png")
    assert digest(shop, "images/*/*.png") != before


def test_a_pattern_without_a_match_says_so(shop, folder):
    with pytest.raises(UserError, match="no file matches"):
        digest(shop, "images/*.parquet")


def test_data_uris_start_at_the_data_folder_and_stay_in_it(shop):
    shop.write("data/a.csv", "1\n")
    shop.write("a.csv", "1\n")
    assert digest(shop, "data://a.csv") == digest(shop, "a.csv")
    with pytest.raises(UserError, match="leads out"):
        digest(shop, "data://../a.csv")
    with pytest.raises(UserError) as refused:
        digest(shop, "data://a.csv", data_root=None)
    assert "PLATFORMOPS_DATA" in refused.value.remedy


@pytest.mark.parametrize(
    ("uri", "what", "remedy"),
    [
        ("imagse", "no such file", "'images'"),
        ("sklern://digits", "unknown kind", "sklearn://"),
        ("sklearn://digit", "ships no such data", "sklearn://digits"),
        ("torchvision://CIFAR", "no checksum", "torchvision://CIFAR"),
    ],
)
def test_a_misspelt_source_is_answered_with_the_nearest(shop, folder, uri, what, remedy):
    with pytest.raises(UserError, match=what) as refused:
        digest(shop, uri)
    assert remedy in refused.value.remedy


def test_unchanged_files_are_not_read_again(shop, folder, reads):
    settle(shop)
    before = digest(shop, "images")
    assert len(reads) == 3
    assert digest(shop, "images") == before
    assert len(reads) == 3


def test_of_a_folder_only_what_changed_is_read_again(shop, folder, reads):
    settle(shop)
    before = digest(shop, "images")
    reads.clear()
    (folder / "dog/1.png").write_text("dog ONE")
    assert digest(shop, "images") != before
    assert reads == ["dog/1.png"]


def test_a_rewrite_of_the_same_size_with_its_old_time_put_back_is_seen(shop, folder):
    path = folder / "dog/1.png"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    settle(shop)
    before = digest(shop, "images")
    path.write_text("dog ONE")
    os.utime(path, ns=times)
    assert digest(shop, "images") != before


def test_fresh_files_are_not_remembered_because_they_may_change_within_their_time_stamp(shop, folder, reads):
    newest = max(path.stat().st_mtime for path in folder.rglob("*.png"))
    shop.clock.sleep(newest + 0.5 - shop.clock.now())
    digest(shop, "images")
    digest(shop, "images")
    assert len(reads) == 6


def test_every_file_that_cannot_be_taken_is_reported_with_its_reason(shop, folder):
    (folder / "loop").symlink_to(folder)
    (folder / "broken.png").symlink_to(folder / "nowhere")
    (folder / "self.png").symlink_to(folder / "self.png")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb"):
        pass
    with pytest.raises(DataRefused) as refused:
        digest(shop, "images")
    lines = refused.value.message.splitlines()
    reasons = dict(line.removeprefix("images: ").split(": ", 1) for line in lines)
    assert "a loop" in reasons["loop"]
    assert "broken link" in reasons["broken.png"]
    assert "cannot be read" in reasons["self.png"]
    assert "pipe, socket or device" in reasons["pipe"]
    assert "pipe, socket or device" in reasons["socket"]
    assert "not UTF-8" in reasons["caf\\\\udce9.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_reported(shop, folder):
    (folder / "cat/1.png").chmod(0)
    with pytest.raises(DataRefused, match=r"cat/1\.png: may not be read"):
        digest(shop, "images")


def test_a_file_that_vanishes_between_listing_and_reading_is_reported(shop, folder, monkeypatch):
    real = files.read_digest

    def vanishing(found):
        if found.name == "cat/2.png":
            found.path.unlink()
        return real(found)

    monkeypatch.setattr(files, "read_digest", vanishing)
    with pytest.raises(DataRefused, match=r"cat/2\.png: is not there"):
        digest(shop, "images")


def test_a_file_that_changes_while_the_source_is_read_is_reported(shop, folder, monkeypatch):
    real = files.read_digest

    def changing(found):
        if found.name == "cat/2.png":
            found.path.write_text("something longer")
        return real(found)

    monkeypatch.setattr(files, "read_digest", changing)
    with pytest.raises(DataRefused, match=r"cat/2\.png: changed while"):
        digest(shop, "images")


def test_a_file_that_becomes_a_pipe_does_not_hang_the_plan(shop, folder, monkeypatch):
    real = files.read_digest

    def swapped(found):
        if found.name == "cat/2.png":
            found.path.unlink()
            os.mkfifo(found.path)
        return real(found)

    monkeypatch.setattr(files, "read_digest", swapped)
    with pytest.raises(DataRefused, match=r"cat/2\.png: changed while"):
        digest(shop, "images")


def test_many_problems_are_counted_and_not_all_printed(shop):
    for number in range(30):
        path = shop.root / "many" / f"{number:02}"
        path.parent.mkdir(exist_ok=True)
        path.symlink_to("nowhere")
    with pytest.raises(DataRefused, match="and 20 more files"):
        digest(shop, "many")


def test_an_empty_folder_is_refused(shop):
    (shop.root / "empty").mkdir()
    with pytest.raises(DataRefused, match="holds no file"):
        digest(shop, "empty")


def test_a_link_to_a_folder_is_followed(shop, folder):
    (shop.root / "linked").symlink_to(folder)
    assert digest(shop, "linked") == digest(shop, "images")


def test_data_of_libraries_is_digested_without_importing_them(shop):
    import subprocess

    program = (
        "import sys; from pathlib import Path\n"
        "from platformops.clock import SystemClock\n"
        "from platformops.pipeline.memory import DigestMemory\n"
        "from platformops.pipeline.sources import digest_source\n"
        "from platformops.store.memory import MemoryStore\n"
        "memory = DigestMemory(MemoryStore(), SystemClock())\n"
        "for uri in ('sklearn://digits', 'torchvision://CIFAR10', 'torchvision://CIFAR10?split=train'):\n"
        "    print(digest_source(uri, root=Path('.'), data_root=None, memory=memory))\n"
        "assert not {'sklearn', 'torch', 'torchvision', 'ray', 'fsspec', 'numpy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    digits, cifar, query = done.stdout.split()
    assert len({digits, cifar}) == 2
    assert cifar == query, "the part of a data set that is read stands in the params, not in the bytes"


def test_objects_of_a_bucket_are_told_apart_by_name_size_and_tag(shop, monkeypatch):
    listing = {
        "bucket/set/a.parquet": {"size": 3, "ETag": '"1"'},
        "bucket/set/b.parquet": {"size": 4, "ETag": '"2"'},
    }

    class Bucket:
        def find(self, path, detail):
            assert detail
            return {name: item for name, item in listing.items() if name.startswith(path)}

    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda uri: (Bucket(), uri.removeprefix("s3://")))
    before = digest(shop, "s3://bucket/set")
    assert digest(shop, "s3://bucket/set") == before
    listing["bucket/set/b.parquet"] = {"size": 4, "ETag": '"3"'}
    assert digest(shop, "s3://bucket/set") != before
    listing["bucket/set/b.parquet"] = {"size": 4}
    with pytest.raises(DataRefused, match="no entity tags"):
        digest(shop, "s3://bucket/set")
    listing.clear()
    with pytest.raises(DataRefused, match="holds no object"):
        digest(shop, "s3://bucket/set")
