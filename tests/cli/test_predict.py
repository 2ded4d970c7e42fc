"""`predict`: against the real gateway on a real socket, and against everything that is not one."""

import contextlib
import socket
import threading

import pytest

from platformops.cli import predict
from platformops.cli.endpoint import GATEWAY
from platformops.clock import SystemClock
from platformops.keeper.doors import Doors, offer
from platformops.on_ray.cluster import free_port
from platformops.security.key_file import write_key_file
from platformops.store.open import open_store
from tests.gateway.door import Door, served

pytestmark = pytest.mark.real


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "work" / "five.png"
    path.write_bytes(b"\x89PNG five")
    return str(path)


@pytest.fixture
def live(home):
    """The gateway with a system `digits`, known to this home, and a key for it."""
    door = Door()
    with served(door) as port:
        home.mkdir()
        store = open_store(f"sqlite:///{home / 'store.db'}")
        store.put(GATEWAY, {"endpoint": f"http://127.0.0.1:{port}"}, expect=None)
        store.close()
        write_key_file(home / "keys" / "digits.key", door.tokens["predict"])
        yield door


@contextlib.contextmanager
def answering(content):
    """A server on loopback that sends `content` to whoever connects, or nothing at all for None; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connections = []

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    connections.append(connection)
                    if content is not None:
                        connection.recv(65536)
                        connection.sendall(content)
                        connection.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=10)
        for connection in connections:
            connection.close()


def test_images_are_answered_with_label_and_probabilities(live, platformops, image):
    answer = platformops("predict", "digits", image, image, "--json")
    assert answer.code == 0
    first, second = answer.json["predictions"]
    assert (first["label"], first["model_version"]) == ("3", "digits:v1")
    assert first["file"] == second["file"] == image
    assert first["request_id"] != second["request_id"]
    out = platformops("predict", "digits", image).out
    assert "3 90.0%, 8 10.0%" in out


def test_a_refused_key_exits_2_and_is_not_shown(live, platformops, home, image):
    write_key_file(home / "keys" / "digits.key", "po_wrong")
    answer = platformops("predict", "digits", image)
    assert answer.code == 2
    assert "refuses this key" in answer.err
    assert "po_wrong" not in answer.out + answer.err


def test_a_key_that_others_could_read_is_not_sent(live, platformops, home, image):
    (home / "keys" / "digits.key").chmod(0o644)
    answer = platformops("predict", "digits", image)
    assert answer.code == 1
    assert "chmod 600" in answer.err
    assert not live.replicas.calls


def test_an_unknown_system_exits_2(live, platformops, home, image):
    write_key_file(home / "keys" / "faces.key", live.tokens["operate"])
    answer = platformops("predict", "faces", image)
    assert answer.code == 2
    assert "status 404" in answer.err


def test_an_image_that_cannot_be_decoded_exits_2_and_is_named(live, platformops, tmp_path):
    bad = tmp_path / "work" / "bad.png"
    bad.write_bytes(b"bad")
    answer = platformops("predict", "digits", str(bad))
    assert answer.code == 2
    assert "bad.png: the image cannot be decoded" in answer.err


@pytest.mark.parametrize("file", ["missing.png", ".", "/dev/zero", "a\nb"])
def test_what_is_no_file_is_refused_before_anything_is_sent(live, platformops, file):
    answer = platformops("predict", "digits", file)
    assert answer.code == 2
    assert not live.replicas.calls


@pytest.mark.parametrize("system", ["../x", "A", "-", "a b", "x" * 64])
def test_a_name_that_is_none_exits_2(platformops, image, system):
    assert platformops("predict", "--", system, image).code == 2


def test_without_a_gateway_the_exit_is_3_and_says_what_starts_one(platformops, image):
    answer = platformops("predict", "digits", image)
    assert answer.code == 3
    assert "platformops up" in answer.err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("nobody", "nobody answers there"),
        (None, "not a PlatformOps gateway"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not a PlatformOps gateway"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi", "not a PlatformOps gateway"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\nContent-Length: 0\r\n\r\n",
            "not a PlatformOps gateway",
        ),
        (b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", "not a PlatformOps gateway"),
        (b"", "not a PlatformOps gateway"),
    ],
)
def test_a_server_that_is_down_or_not_ours_exits_3(platformops, home, image, content, says):
    write_key_file(home / "keys" / "digits.key", "po_secret")
    with contextlib.ExitStack() as stack:
        port = free_port() if content == "nobody" else stack.enter_context(answering(content))
        answer = platformops("predict", "digits", image, "--endpoint", f"http://127.0.0.1:{port}")
    assert answer.code == 3
    assert says in answer.err
    assert f"127.0.0.1:{port}" in answer.err
    assert "po_secret" not in answer.err


def test_a_gateway_that_died_is_waited_for_and_not_taken_for_a_stranger(live, platformops, home, image, monkeypatch):
    store = open_store(f"sqlite:///{home / 'store.db'}")
    monkeypatch.setattr(predict, "BACK_S", 0.5)
    with Doors(home, SystemClock()), socket.create_server(("127.0.0.1", 0)) as bound:
        while not offer(home, bound):
            pass
        host, port = bound.getsockname()
        store.put(GATEWAY, {"endpoint": f"http://{host}:{port}"}, expect=None)
        answer = platformops("predict", "digits", image)
    store.close()
    assert answer.code == 3
    assert "the gateway died and is not back yet" in answer.err


def test_tls_to_a_plain_port_exits_3(live, platformops, image, home):
    store = open_store(f"sqlite:///{home / 'store.db'}")
    plain = store.get(GATEWAY).value["endpoint"]
    store.close()
    answer = platformops("predict", "digits", image, "--endpoint", plain.replace("http://", "https://"))
    assert answer.code == 3


@pytest.mark.parametrize("endpoint", ["localhost:8000", "file:///etc/passwd", "ftp://x", "http://"])
def test_an_endpoint_that_is_no_http_url_is_refused(platformops, home, image, endpoint):
    write_key_file(home / "keys" / "digits.key", "po_secret")
    answer = platformops("predict", "digits", image, "--endpoint", endpoint)
    assert answer.code in (2, 3)
    assert "Traceback" not in answer.err
