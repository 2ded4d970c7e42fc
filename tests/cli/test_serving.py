"""`up` says that a system is live once it is: a real gateway, whose system gets its first replica while `up` waits."""

import contextlib
from types import SimpleNamespace

import pytest

from platformops.cli.serving import READY_TIMEOUT_S, await_ready
from platformops.clock import ManualClock
from platformops.errors import ClusterError
from platformops.security.key_file import write_key_file
from tests.gateway.door import Door, served


class Starting(ManualClock):
    """While somebody waits, a replica comes up: in that many looks."""

    def __init__(self, door, *, looks):
        super().__init__()
        self.door, self.looks = door, looks

    def sleep(self, seconds):
        super().sleep(seconds)
        self.looks -= 1
        if self.looks == 0:
            self.door.replicas.deployed.add("digits-r1")


@pytest.fixture
def door():
    made = Door()
    made.replicas.deployed.clear()
    return made


@pytest.fixture
def key_file(door, tmp_path):
    path = tmp_path / "digits.key"
    write_key_file(path, door.tokens["predict"])
    return path


def test_a_system_is_waited_for_until_it_takes_calls(door, key_file):
    told = []
    session = SimpleNamespace(clock=Starting(door, looks=5), show=told.append)
    with served(door) as port:
        await_ready(session, f"http://127.0.0.1:{port}", "digits", key_file)
    assert [news.state for news in told] == ["running"] * 5 + ["done"]
    assert told[0].message == "waiting for the replicas"


@pytest.mark.parametrize("is_up", [True, False], ids=["no replica", "no gateway"])
def test_a_system_that_takes_no_calls_is_an_error_that_says_where_to_look(door, key_file, is_up):
    clock = ManualClock()
    session = SimpleNamespace(clock=clock, show=lambda _: clock.sleep(READY_TIMEOUT_S))
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(served(door))
        if not is_up:
            stack.close()
        with pytest.raises(ClusterError, match="digits has no replica that takes calls") as refused:
            await_ready(session, f"http://127.0.0.1:{port}", "digits", key_file)
    assert refused.value.remedy == "platformops logs digits"
