"""What every place for artifacts must do: a local folder and a bucket pass the same suite."""

import os
import secrets
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from platformops.errors import ArtifactCorrupt, PlatformError
from platformops.store.artifacts import Artifacts

PUBLISHER = Path(__file__).with_name("artifact_publisher.py")
CONTENT = {
    "model.json": b'{"width": 16}',
    "weights/part-0.bin": bytes(range(256)) * 50,
    "weights/part-1.bin": b"\0" * 50,
    "empty": b"",
    "sous-dossier/é 漢字.txt": b"text",
}


class LocalPlace:
    """A folder, and how to reach what is published in it behind the back of Artifacts."""

    def __init__(self, folder):
        self.url, self.cache, self.folder = str(folder / "artifacts"), folder / "cache", folder / "artifacts"

    def objects(self, fingerprint):
        """Name -> path of each stored file, the manifest among them."""
        found = (path for path in (self.folder / fingerprint).rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder / fingerprint)): path for path in found}

    def read(self, path):
        return path.read_bytes()

    def write(self, path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)

    def remove(self, path):
        path.unlink()

    def quarantined(self):
        return [path.read_text() for path in (self.folder / ".quarantine").glob("*/reason.json")]

    def environment(self):
        return {}


class BucketPlace:
    """A prefix of a bucket of the S3 server on loopback."""

    def __init__(self, folder, endpoint):
        import s3fs

        self._endpoint = endpoint
        bucket = f"b{secrets.token_hex(6)}"
        self.url, self.cache, self.prefix = f"s3://{bucket}/some/prefix", folder / "cache", f"{bucket}/some/prefix"
        self._fs = s3fs.S3FileSystem(
            key="k", secret="s", endpoint_url=endpoint, use_listings_cache=False, skip_instance_cache=True,
            client_kwargs={"region_name": "eu-west-1"},
        )  # fmt: skip
        self._fs.mkdir(bucket)

    def objects(self, fingerprint):
        folder = f"{self.prefix}/{fingerprint}"
        return {key.removeprefix(f"{folder}/"): key for key in self._fs.find(folder)}

    def read(self, key):
        return self._fs.cat_file(key)

    def write(self, key, content):
        self._fs.pipe_file(key, content)

    def remove(self, key):
        self._fs.rm_file(key)

    def quarantined(self):
        found = self._fs.find(f"{self.prefix}/.quarantine")
        return [self._fs.cat_file(key).decode() for key in found if key.endswith("reason.json")]

    def environment(self):
        return {
            "AWS_ENDPOINT_URL": self._endpoint, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }  # fmt: skip


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.real)])
def place(request, tmp_path, monkeypatch):
    if request.param == "local":
        return LocalPlace(tmp_path)
    found = BucketPlace(tmp_path, request.getfixturevalue("s3_endpoint"))
    for name, value in found.environment().items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def artifacts(place):
    return Artifacts(place.url, cache=place.cache)


def publish(artifacts, fingerprint="f1", content=CONTENT):
    staging = artifacts.staging(fingerprint)
    for name, data in content.items():
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).write_bytes(data)
    return artifacts.publish(fingerprint, staging)


def content_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def open_fresh(place, fingerprint, digest):
    """As a machine that has never seen the artifact would open it."""
    return Artifacts(place.url, cache=place.cache.with_name(f"cache-{secrets.token_hex(4)}")).open(fingerprint, digest)


def test_what_is_published_is_opened_byte_for_byte(artifacts, place):
    digest = publish(artifacts)
    assert content_of(artifacts.open("f1", digest)) == CONTENT
    assert content_of(open_fresh(place, "f1", digest)) == CONTENT


def test_an_artifact_without_files_can_be_published_and_opened(artifacts, place):
    digest = publish(artifacts, content={})
    assert content_of(open_fresh(place, "f1", digest)) == {}


def test_nothing_exists_before_it_is_published(artifacts):
    assert not artifacts.exists("f1")
    staging = artifacts.staging("f1")
    (staging / "file").write_bytes(b"half")
    assert not artifacts.exists("f1")
    artifacts.publish("f1", staging)
    assert artifacts.exists("f1")
    assert not artifacts.exists("f")


def test_equal_files_have_an_equal_digest_and_others_another(artifacts):
    assert publish(artifacts, "f1") == publish(artifacts, "f1")
    assert publish(artifacts, "f2", {"a": b"1"}) != publish(artifacts, "f3", {"a": b"1"}), "it covers the fingerprint"


def test_a_second_publisher_gets_the_digest_of_the_first_and_changes_nothing(artifacts, place):
    first = publish(artifacts, content={"a": b"first"})
    assert publish(artifacts, content={"a": b"second"}) == first
    assert content_of(open_fresh(place, "f1", first)) == {"a": b"first"}


def test_publishers_at_the_same_time_leave_one_sound_artifact_each_can_open(place):
    publishers = [Artifacts(place.url, cache=place.cache.with_name(f"cache{i}")) for i in range(4)]
    start = threading.Barrier(4)

    def race(i):
        start.wait()
        return publish(publishers[i], content={**CONTENT, "who": str(i).encode()})

    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(race, range(4)))
    for digest in digests:
        assert content_of(open_fresh(place, "f1", digest)).keys() == {*CONTENT, "who"}
    again = publish(publishers[0], content={"late": b""})
    assert again in digests


def test_staging_is_fresh_each_time(artifacts):
    first = artifacts.staging("f1")
    (first / "left").write_bytes(b"")
    second = artifacts.staging("f1")
    assert first != second
    assert list(second.iterdir()) == []


def test_a_discarded_staging_leaves_nothing(artifacts):
    staging = artifacts.staging("f1")
    (staging / "file").write_bytes(b"x")
    artifacts.discard(staging)
    assert not staging.parent.exists()
    with pytest.raises(PlatformError, match="not made by staging"):
        artifacts.publish("f1", staging)


def test_a_directory_that_staging_did_not_give_is_refused(artifacts, tmp_path):
    artifacts.staging("f1")
    with pytest.raises(PlatformError, match="not made by staging"):
        artifacts.publish("f1", tmp_path)


def test_an_artifact_that_was_never_published_cannot_be_opened(artifacts):
    with pytest.raises(ArtifactCorrupt, match=r"f1: manifest.json is missing"):
        artifacts.open("f1", "0" * 64)


def test_an_artifact_with_another_manifest_digest_cannot_be_opened(artifacts):
    publish(artifacts)
    with pytest.raises(ArtifactCorrupt, match=r"manifest.json is"):
        artifacts.open("f1", "0" * 64)


def refusal(place, fingerprint, digest):
    """What opening says; empty when it found nothing wrong."""
    try:
        open_fresh(place, fingerprint, digest)
    except ArtifactCorrupt as exc:
        return exc.message
    return ""


def damages(content):
    """One flipped byte at every 4096th position and at both ends, cuts and an added byte."""
    for at in sorted({*range(0, len(content), 4096), len(content) - 1} - {-1}):
        yield f"byte {at}", content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    for length in sorted({0, len(content) // 2, len(content) - 1} - {-1, len(content)}):
        yield f"cut to {length}", content[:length]
    yield "one byte more", content + b"\0"


def test_every_damage_to_any_stored_file_is_found_and_the_file_named(artifacts, place):
    digest = publish(artifacts)
    tried = 0
    for name, at in place.objects("f1").items():
        sound = place.read(at)
        for damage, content in damages(sound):
            place.write(at, content)
            assert refusal(place, "f1", digest).startswith("artifact "), f"{name}: {damage} was not found"
            tried += 1
        place.remove(at)
        with pytest.raises(ArtifactCorrupt, match="missing"):
            open_fresh(place, "f1", digest)
        place.write(at, sound)
    assert tried > 20
    assert content_of(open_fresh(place, "f1", digest)) == CONTENT


def test_a_manifest_that_was_rewritten_to_fit_changed_files_is_found(artifacts, place):
    digest = publish(artifacts, content={"a": b"good"})
    other = publish(artifacts, "f2", {"a": b"evil"})
    evil = {name: place.read(at) for name, at in place.objects("f2").items()}
    for at in place.objects("f1").values():
        place.remove(at)
    sample = str(next(iter(place.objects("f2").values())))
    folder = sample[: sample.rindex("/f2/")]
    for name, content in evil.items():
        path = f"{folder}/f1/{name.replace(other, digest)}"
        place.write(Path(path) if isinstance(place, LocalPlace) else path, content.replace(b'"f2"', b'"f1"'))
    with pytest.raises(ArtifactCorrupt, match=r"manifest.json is not the one that was recorded"):
        open_fresh(place, "f1", digest)


def test_a_corrupt_copy_is_moved_aside_with_the_reason_and_replaced(place):
    digest = publish(Artifacts(place.url, cache=place.cache))
    at = next(at for name, at in place.objects("f1").items() if "manifest" not in name)
    place.write(at, b"damaged")
    elsewhere = Artifacts(place.url, cache=place.cache.with_name("elsewhere"))
    assert publish(elsewhere) == digest
    assert content_of(open_fresh(place, "f1", digest)) == CONTENT
    assert len(place.quarantined()) == 1
    assert "bytes, not" in place.quarantined()[0]


def test_a_quarantined_artifact_is_out_of_use_and_kept_with_the_reason(artifacts, place):
    digest = publish(artifacts)
    artifacts.quarantine("f1", "looks odd")
    assert not artifacts.exists("f1")
    assert '"reason": "looks odd"' in place.quarantined()[0]
    with pytest.raises(ArtifactCorrupt):
        open_fresh(place, "f1", digest)
    assert publish(artifacts) == digest, "and can be made again"
    artifacts.quarantine("never", "nothing there")


def test_a_damaged_local_copy_is_never_handed_out(artifacts, place):
    digest = publish(artifacts)
    opened = artifacts.open("f1", digest)
    (opened / "model.json").chmod(0o644)
    (opened / "model.json").write_bytes(b'{"width": 61}')
    if isinstance(place, LocalPlace):
        with pytest.raises(ArtifactCorrupt, match=r"model.json has other content"):
            artifacts.open("f1", digest)
    else:
        assert content_of(artifacts.open("f1", digest)) == CONTENT, "fetched again"


def test_an_added_file_is_never_handed_out(artifacts, place):
    digest = publish(artifacts)
    (artifacts.open("f1", digest) / "added").write_bytes(b"")
    if isinstance(place, LocalPlace):
        with pytest.raises(ArtifactCorrupt, match="added is not in the manifest"):
            artifacts.open("f1", digest)
    else:
        assert content_of(artifacts.open("f1", digest)) == CONTENT


def test_published_files_cannot_be_written_by_accident(artifacts):
    digest = publish(artifacts)
    assert all(path.stat().st_mode & 0o222 == 0 for path in artifacts.open("f1", digest).rglob("*") if path.is_file())


FINGERPRINTS = ["", ".", "..", "../x", "a/b", "/etc", ".staging", "a\\b", "%2e%2e", "a\0", "a\n", "‥", "x" * 129, "-rf"]


@pytest.mark.parametrize("fingerprint", FINGERPRINTS, ids=ascii)
def test_a_fingerprint_that_could_be_a_path_is_refused(artifacts, fingerprint):
    for use in (artifacts.staging, artifacts.exists, lambda f: artifacts.open(f, "0" * 64)):
        with pytest.raises(PlatformError, match="is no fingerprint"):
            use(fingerprint)


@pytest.mark.real
def test_kill_9_at_any_moment_of_publishing_leaves_nothing_half_visible(place, tmp_path):
    """A publisher is killed after 0, 1, 2... files of it were seen to be written or sent."""
    size, rounds = (40, 12) if isinstance(place, LocalPlace) else (40, 6)
    environment = {**os.environ, **place.environment()}
    killed = 0
    for n in range(rounds):
        command = [sys.executable, str(PUBLISHER), place.url, str(place.cache), f"k{n}", str(size)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        process.stdout.readline()  # all is written aside; publishing starts
        timer = threading.Timer(n * (0.004 if isinstance(place, LocalPlace) else 0.08), process.kill)
        timer.start()
        said = process.communicate()[0]
        timer.join()
        killed += process.returncode == -signal.SIGKILL
        survivor = Artifacts(place.url, cache=place.cache)
        digest = publish(survivor, f"k{n}", {"again": b""})
        assert not said or said.strip() == digest, "what was acknowledged is there"
        found = content_of(open_fresh(place, f"k{n}", digest))
        assert found.keys() in ({"again"}, {f"file-{i}" for i in range(size)}), "all of it or nothing"
    assert killed > 0
    assert not place.quarantined(), "what a kill leaves is never taken for an artifact"
    assert publish(survivor, "k0", {}) == publish(survivor, "k0", {})
    left = [path for path in tmp_path.rglob(".staging/*")]
    assert left == [], "the next writer swept what the killed ones left"
