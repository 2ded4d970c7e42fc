"""The injectors of faults do what they say, so that a test which uses one proves something."""

import gc
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time

import pytest

from tests.faults import damage, memory_limit, small_disk, system_calls
from tests.faults.processes import below, is_gone, kill, stopped, wait_until
from tests.faults.system_calls import Fault
from tests.faults.tcp_proxy import TcpProxy, Weather

pytestmark = pytest.mark.real
SLEEPER = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"


def test_a_killed_process_is_gone_and_a_stopped_one_stands_still():
    with subprocess.Popen([sys.executable, "-c", SLEEPER]) as parent:
        wait_until(lambda: len(below(parent.pid)) == 1)
        (child,) = below(parent.pid)
        with stopped(child):
            wait_until(lambda: _state(child) == "T")
        wait_until(lambda: _state(child) != "T")
        assert kill(child)
        parent.wait(10)
    assert is_gone(child)
    assert not kill(child)


def _state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


WRITER = (
    "import os, sys\nfor n in range(5):\n    with open(sys.argv[1], 'ab', 0) as f: f.write(b'x'); os.fsync(f.fileno())"
)


@pytest.mark.skipif(bool(system_calls.why_not()), reason=system_calls.why_not())
@pytest.mark.parametrize(
    ("what", "written", "code"), [("signal=KILL", b"xxx", -signal.SIGKILL), ("error=EIO", b"xxx", 1)]
)
def test_the_third_sync_of_a_process_is_its_last_or_fails(tmp_path, what, written, code):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "file")]
    done = subprocess.run(
        system_calls.under(Fault("fsync", 3, what), command, log=tmp_path / "log"), stderr=subprocess.PIPE, check=False
    )
    assert (done.returncode, (tmp_path / "file").read_bytes()) == (code, written)
    assert system_calls.was_injected(tmp_path / "log") == (what != "signal=KILL")


@pytest.mark.skipif(bool(small_disk.why_not()), reason=small_disk.why_not())
def test_a_small_disk_runs_full_and_out_of_inodes_and_becomes_read_only(tmp_path):
    with small_disk.small_disk(tmp_path / "disk", "size=256k,nr_inodes=20") as disk:
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (disk.root / "file").write_bytes(b"x" * 5000)
        disk.free()
        (disk.root / "file").write_bytes(b"x" * 5000)
        disk.use_up_inodes()
        with pytest.raises(OSError, match="No space left"):
            (disk.root / "another").touch()
        disk.free()
        disk.remount("ro")
        with pytest.raises(OSError, match="Read-only"):
            (disk.root / "another").touch()
    assert list((tmp_path / "disk").iterdir()) == []


@pytest.mark.skipif(bool(memory_limit.why_not()), reason=memory_limit.why_not())
def test_a_process_over_its_memory_is_killed_and_its_neighbours_are_not():
    code = "import sys; sys.stdin.read(1); block = bytearray(200 << 20); print(len(block))"
    with memory_limit.memory_limit(64 << 20) as limit:
        victim, neighbour = (subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) for _ in range(2))
        limit.take(victim.pid)
        said, _ = victim.communicate(b"!", timeout=30)
        assert (victim.returncode, said) == (-signal.SIGKILL, b"")
        assert limit.kills() == 1
        assert neighbour.communicate(b"!", timeout=30)[0].strip() == str(200 << 20).encode()


@pytest.fixture
def echo():
    """The port of a server that says back what it hears."""

    class Echo(socketserver.BaseRequestHandler):
        def handle(self):
            while heard := self.request.recv(65536):
                self.request.sendall(heard)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            """A client whose connection breaks down is what is tested."""

    with Server(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def ask(connection, text=b"hello"):
    connection.sendall(text)
    heard = b""
    while len(heard) < len(text):
        more = connection.recv(65536)
        if not more:
            return heard
        heard += more
    return heard


def connected(port, timeout_s=30.0):
    return socket.create_connection(("127.0.0.1", port), timeout=timeout_s)


def test_a_proxy_passes_everything_on_in_fine_weather_and_the_end_too(echo):
    with TcpProxy(echo) as proxy, connected(proxy.port) as connection:
        assert ask(connection, b"x" * 100_000) == b"x" * 100_000
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
        assert proxy.num_connections == 1


def test_a_delay_is_met_both_ways_and_a_narrow_link_takes_its_time(echo):
    with TcpProxy(echo, weather=Weather(delay_s=0.05)) as proxy, connected(proxy.port) as connection:
        begin = time.monotonic()
        ask(connection)
        assert time.monotonic() - begin >= 0.1
        proxy.weather = Weather(bytes_per_s=100_000)
        begin = time.monotonic()
        ask(connection, b"x" * 10_000)
        assert time.monotonic() - begin >= 0.2


def test_a_half_open_connection_stays_silent_and_a_cut_one_is_reset(echo):
    with TcpProxy(echo) as proxy:
        with connected(proxy.port, timeout_s=0.2) as connection:
            assert ask(connection) == b"hello"
            proxy.weather = Weather(is_half_open=True)
            with pytest.raises(TimeoutError):
                ask(connection)
            proxy.weather = Weather(is_down=True)
            with pytest.raises(ConnectionError):
                ask(connection)
        with pytest.raises(ConnectionError), connected(proxy.port) as refused:  # while it connects, or right after
            ask(refused)


def test_losses_break_connections_down_in_the_same_places_for_the_same_seed(echo):
    def outcomes():
        found = []
        with TcpProxy(echo, weather=Weather(loss_ratio=0.3), seed=3) as proxy:
            for _ in range(12):
                try:
                    with connected(proxy.port) as connection:
                        found.append(ask(connection) == b"hello")
                except ConnectionError:
                    found.append(False)
        return found

    first = outcomes()
    assert {True, False} == set(first)
    assert outcomes() == first


def test_damage_of_each_kind_changes_the_file_and_can_be_undone(tmp_path):
    folder, path = tmp_path / "f", tmp_path / "f" / "file"
    folder.mkdir()
    path.write_bytes(bytes(range(200)) * 50)
    path.chmod(0o444)
    before = path.read_bytes()
    tried = []
    for name, harm in damage.kinds(path):
        with damage.undone(folder, tmp_path / "aside"):
            harm()
            assert not path.exists() or path.read_bytes() != before or len(damage.files_below(folder)) == 2
        tried.append(name)
        assert path.read_bytes() == before
        assert os.stat(path).st_mode & 0o777 == 0o444
    assert len(tried) == 10


def test_a_proxy_that_ends_while_clients_come_leaves_nothing_open(echo):
    connections = []
    for _ in range(40):
        with TcpProxy(echo, weather=Weather(loss_ratio=0.3)) as proxy:
            connections += [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(4)]
    for connection in connections:
        connection.close()
    gc.collect()  # whatever is open still says so, which is an error
