"""One line of JSON a request, whatever the client wrote in it."""

import json

import pytest

from platformops.gateway.access_log import AccessLog
from tests.gateway.door import Door, exchange_raw, served, statuses

HOSTILE = '/x\u0085y%0d%0a\x1b[31m${jndi:ldap://a}"quote'


def test_a_hostile_path_makes_one_escaped_record_without_key_or_body(tmp_path):
    log = AccessLog(tmp_path / "gateway.jsonl")
    door = Door(observers=(log,))
    door.ask(content=b"secret pixels")
    door.ask(path=HOSTILE.replace("\x1b", "%1b"), headers={"user-agent": "\x1b[31m"}, who=None)
    log.close()
    text = (tmp_path / "gateway.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert [r["http.response.status_code"] for r in records] == [200, 401]
    assert records[0]["platformops.items"] == 1
    assert records[0]["platformops.key_id"]
    assert text.isascii()
    assert "\x1b" not in text
    for secret in (door.tokens["predict"], "secret pixels"):
        assert secret not in text


def test_the_log_stays_within_twice_its_bound(tmp_path):
    log = AccessLog(tmp_path / "gateway.jsonl", max_bytes=2_000)
    door = Door(observers=(log,))
    for _ in range(30):
        door.ask()
        log.flush()
    log.close()
    sizes = [p.stat().st_size for p in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 3_000


def test_a_disk_that_is_full_costs_lines_and_not_answers(tmp_path):
    log = AccessLog(tmp_path / "gateway.jsonl")
    door = Door(observers=(log,))
    log._file.close()
    log._file = open("/dev/full", "a")  # noqa: SIM115  the log closes it
    assert door.ask().status_code == 200
    log.flush()
    assert door.ask().status_code == 200
    log.close()
    assert len((tmp_path / "gateway.jsonl").read_text().splitlines()) == 1


@pytest.mark.real
def test_what_a_client_writes_over_a_socket_is_one_escaped_record_or_no_request_at_all(tmp_path):
    log = AccessLog(tmp_path / "gateway.jsonl")
    door = Door(observers=(log,))
    paths = [
        b'/"x{${jndi:ldap://a}}',
        b"/%0d%0aGET%20/x",
        b"/a\x1b[31m",
        b"/a\x7f",
        b"/\xe2\x80\xae",
        b"/" + b"y" * 4000,
    ]
    headers = b"X-Request-Id: %b\r\nX-Forwarded-For: 6.6.6.6\r\nUser-Agent: ${jndi:x}\r\n" % (b"z" * 10_000)
    with served(door) as port:
        answers = [
            statuses(exchange_raw(port, b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%b\r\n" % (path, headers)))
            for path in paths
        ]
    log.close()
    text = (tmp_path / "gateway.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert answers == [[401], [401], [400], [400], [400], [401]]
    assert [r["http.response.status_code"] for r in records] == [401, 401, 401]
    assert {r["client.ip"] for r in records} == {"127.0.0.1"}
    assert max(len(line) for line in text.splitlines()) < 1000
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "zzz" not in text
