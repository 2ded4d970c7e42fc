"""The keeper has the gateway's listening socket too: who comes while there is no gateway waits for the next one."""

import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from platformops.clock import ManualClock, SystemClock
from platformops.keeper import doors
from platformops.keeper.doors import Doors

pytestmark = [pytest.mark.real, pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")]
ROOT = Path(__file__).resolve().parents[2]
GATEWAY = """
import socket, sys
from pathlib import Path
from platformops.keeper import doors
bound = socket.create_server(("127.0.0.1", int(sys.argv[2])))
print(doors.offer(Path(sys.argv[1]), bound), flush=True)
sys.stdin.read()
"""


@contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield bound, bound.getsockname()


def connected(address):
    client = socket.create_connection(address, timeout=10)
    client.sendall(b"anybody there?")
    return client


def answered(bound):
    """What the next client in the queue said, after it was answered."""
    bound.settimeout(10)
    connection, _ = bound.accept()
    with connection:
        said = connection.recv(100)
        connection.sendall(b"yes")
    return said


def until(true):
    deadline = SystemClock().monotonic() + 10
    while not true():
        assert SystemClock().monotonic() < deadline
        SystemClock().sleep(0.01)


def test_clients_that_come_while_a_gateway_is_dead_are_answered_by_the_next_one(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = probe.getsockname()
    with Doors(tmp_path, SystemClock()):
        gateway = subprocess.Popen(
            [sys.executable, "-c", GATEWAY, str(tmp_path), str(address[1])],
            env={"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with gateway:
            assert gateway.stdout.readline() == "True\n"
            gateway.kill()
            gateway.wait()
            waiting = connected(address)
            with doors.take(tmp_path, address) as taken:
                assert answered(taken) == b"anybody there?"
            assert waiting.recv(10) == b"yes"
            waiting.close()


def test_a_socket_that_is_let_go_of_or_not_offered_any_more_is_closed(tmp_path):
    clock = ManualClock(100.0)
    with Doors(tmp_path, clock), listening() as (bound, address):
        until(lambda: doors.offer(tmp_path, bound))
        assert doors.is_held(tmp_path, address)
        doors.release(tmp_path, bound)
        assert not doors.is_held(tmp_path, address)
        assert doors.offer(tmp_path, bound)
        clock.sleep(doors.FORGET_S - 1.0)
        assert doors.offer(tmp_path, bound), "said again, it is kept"
        clock.sleep(doors.FORGET_S - 1.0)
        assert doors.is_held(tmp_path, address)
        bound.close()
        clock.sleep(2.0)
        until(lambda: not doors.is_held(tmp_path, address))
        with pytest.raises(ConnectionRefusedError):
            connected(address)


def test_without_a_keeper_nothing_is_held_and_nobody_waits_for_it(tmp_path):
    with listening() as (bound, address):
        assert doors.offer(tmp_path, bound) is False
        assert doors.take(tmp_path, address) is None
        doors.release(tmp_path, bound)


def test_a_keeper_of_another_home_has_nothing_of_this_one(tmp_path):
    with Doors(tmp_path / "other", SystemClock()), listening() as (bound, address):
        until(lambda: doors.offer(tmp_path / "other", bound))
        assert doors.take(tmp_path, address) is None


@pytest.mark.parametrize("said", [
    b"", b"\xff" * 600, b"[]", b"{}", b'{"verb": "take", "host": "127.0.0.1"}',
    b'{"verb": "take", "host": "127.0.0.1", "port": 1e999}',
    b'{"verb": "offer", "host": "127.0.0.1", "port": "x"}', b'{"verb": "open", "host": "127.0.0.1", "port": 1}',
])  # fmt: skip
def test_what_is_no_request_is_dropped_and_the_next_one_served(tmp_path, said):
    with Doors(tmp_path, SystemClock()), listening() as (bound, address):
        until(lambda: doors.offer(tmp_path, bound))
        with doors._talking(tmp_path) as connection:
            connection.send(said)
            connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):  # of what it did not read to the end
                assert connection.recv(10) in (b"", doors.NONE)
        assert doors.is_held(tmp_path, address)


def test_only_a_socket_that_listens_where_it_is_said_to_is_taken(tmp_path):
    with Doors(tmp_path, SystemClock()), listening() as (bound, address), socket.socket() as idle:
        until(lambda: doors.offer(tmp_path, bound))
        idle.bind(("127.0.0.1", 0))
        for number, where in ((idle.fileno(), idle.getsockname()), (bound.fileno(), ("127.0.0.1", 9))):
            with doors._talking(tmp_path) as connection:
                socket.send_fds(connection, [doors._request(doors.OFFER, where)], [number])
                assert connection.recv(1) == doors.NONE
            assert not doors.is_held(tmp_path, where)
        assert doors.is_held(tmp_path, address)


def test_a_second_keeper_of_a_home_does_not_take_the_first_ones_place(tmp_path):
    with Doors(tmp_path, SystemClock()), listening() as (bound, address):
        until(lambda: doors.offer(tmp_path, bound))
        with Doors(tmp_path, SystemClock()):
            assert doors.is_held(tmp_path, address)
        assert doors.is_held(tmp_path, address)
