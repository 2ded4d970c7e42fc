from pathlib import Path

import pytest

from platformops.pipeline.records import Failure
from platformops.pipeline.shortage import Shortage
from platformops.pipeline.wire import decode, encode, failure_body, failure_of
from platformops.store.room import Disk

MB = 1_000_000


def disk(free_bytes, free_inodes=None):
    return Disk(Path("/"), free_bytes, 1000 * MB, free_inodes)


@pytest.mark.parametrize(
    ("written", "gained", "over"),
    [(0, MB - 1, False), (0, MB, True), (80 * MB, 9 * MB, False), (80 * MB, 10 * MB, True), (80 * MB, -MB, False)],
)
def test_another_attempt_is_worth_it_once_a_share_of_what_was_written_is_free_beyond_what_was_not_enough(
    written, gained, over
):
    assert Shortage("/", 5 * MB, None, written).is_over(disk(5 * MB + gained)) is over


@pytest.mark.parametrize(("inodes", "over"), [(3, False), (15, False), (16, True)])
def test_a_disk_without_inodes_needs_inodes_whatever_its_bytes(inodes, over):
    assert Shortage("/", 5 * MB, 3, 0).is_over(disk(900 * MB, inodes)) is over


def test_a_shortage_crosses_from_the_worker_as_it_is():
    failure = Failure("DiskFull", "full", shortage=Shortage("/data", 1, 2, 3))
    assert failure_of(decode(encode("raised", failure_body(failure))).body) == failure
