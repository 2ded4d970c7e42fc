"""Checkpoints are whole or not there, and a damaged one never wins over a good older one."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from platformops.on_ray.checkpoints import newest_verified, write_checkpoint


def write(folder, epoch, content=b"weights" * 1000):
    return write_checkpoint(folder, epoch, lambda place: (place / "model.bin").write_bytes(content))


def test_the_newest_checkpoint_is_found_and_only_two_are_kept(tmp_path):
    for epoch in range(1, 6):
        write(tmp_path, epoch, f"epoch {epoch}".encode())
    newest, damaged = newest_verified(tmp_path)
    assert (newest / "model.bin").read_bytes() == b"epoch 5"
    assert not damaged
    assert sorted(p.name for p in tmp_path.glob("epoch-*")) == ["epoch-000004", "epoch-000005"]


def test_a_checkpoint_within_an_epoch_is_newer_than_its_beginning_and_older_than_its_end(tmp_path):
    for epoch, step in ((2, 0), (2, 7), (2, 110), (3, 0)):
        written = write_checkpoint(tmp_path, epoch, lambda place: (place / "a").touch(), step=step)
        assert newest_verified(tmp_path) == (written, ())


def test_a_folder_without_checkpoints_has_none(tmp_path):
    assert newest_verified(tmp_path / "absent") == (None, ())


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "marker", "half marker"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(tmp_path, damage):
    write(tmp_path, 1)
    bad = write(tmp_path, 2)
    weights, marker = bad / "model.bin", bad / "checkpoint.json"
    match damage:
        case "flip":
            content = bytearray(weights.read_bytes())
            content[3000] ^= 1
            weights.write_bytes(content)
        case "truncate":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "delete":
            weights.unlink()
        case "marker":
            marker.unlink()
        case "half marker":
            marker.write_bytes(marker.read_bytes()[:20])
    newest, damaged = newest_verified(tmp_path)
    assert newest.name == "epoch-000001"
    assert len(damaged) == 1
    assert "epoch-000002" in damaged[0]


def test_a_checkpoint_written_again_replaces_the_old_one(tmp_path):
    write(tmp_path, 3, b"first")
    assert (write(tmp_path, 3, b"second") / "model.bin").read_bytes() == b"second"


@pytest.mark.real
def test_a_writer_killed_at_any_moment_leaves_a_verified_checkpoint_or_none(tmp_path):
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from platformops.on_ray.checkpoints import write_checkpoint
        for epoch in range(1, 100000):
            path = write_checkpoint(Path(sys.argv[1]), epoch, lambda place: [
                (place / f"{i}.bin").write_bytes(bytes([epoch % 256]) * 50000) for i in range(4)])
            print(epoch, flush=True)
    """)
    for kill in range(5):
        folder = tmp_path / str(kill)
        writer = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True)
        acknowledged = 0
        for _ in range(7 + 5 * kill):
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = int((writer.stdout.read().split() or [acknowledged])[-1])
        writer.wait()
        writer.stdout.close()
        newest, damaged = newest_verified(folder)
        assert not damaged
        assert int(newest.name.removeprefix("epoch-")) >= acknowledged
