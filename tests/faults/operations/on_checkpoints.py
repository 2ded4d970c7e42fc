"""Writing a training checkpoint, the next one and one of the same epoch again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from platformops.on_ray.checkpoints import newest_verified, write_checkpoint
from tests.faults.operations.record import Operation, Say


def checkpoints(folder: Path) -> None:
    for epoch in (1, 2):
        checkpoint(folder, epoch)


def checkpoint(folder: Path, epoch: int, text: str = "") -> None:
    def write(place: Path) -> None:
        (place / "training.json").write_text(f"{epoch} {text}")
        (place / "training.safetensors").write_bytes(bytes([epoch]) * 3000)

    write_checkpoint(folder / "checkpoints", epoch, write)


def third_checkpoint(folder: Path, say: Say) -> None:
    checkpoint(folder, 3)
    say("3")


def second_again(folder: Path, say: Say) -> None:
    checkpoint(folder, 2, "again")
    say("2")


def check_checkpoints(folder: Path, said: Sequence[str], epoch: int, act: Callable[[Path, Say], None]) -> None:
    found, damaged = newest_verified(folder / "checkpoints")
    assert found is not None
    there, _, text = (found / "training.json").read_text().partition(" ")
    assert not damaged, damaged
    assert int(there) in (2, epoch)
    assert not said or (int(there) == epoch and (text == "again" or epoch == 3)), f"acknowledged, found {there} {text}"
    act(folder, lambda _: None)
    left = [path.name for path in (folder / "checkpoints").iterdir() if not path.name.startswith("epoch-")]
    assert not left, f"left aside: {left}"
    newest, damaged = newest_verified(folder / "checkpoints")
    assert newest is not None
    assert (newest / "training.json").read_text().startswith(f"{epoch} ")
    assert not damaged


ON_CHECKPOINTS = (
    Operation("checkpoint", checkpoints, third_checkpoint, lambda f, s: check_checkpoints(f, s, 3, third_checkpoint)),
    Operation("checkpoint again", checkpoints, second_again, lambda f, s: check_checkpoints(f, s, 2, second_again)),
)
