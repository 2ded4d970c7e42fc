"""One line of JSON a request, whatever the client wrote in it."""

import json

from platformops.gateway.access_log import AccessLog
from tests.gateway.door import Door

HOSTILE = '/x\u0085y%0d%0a\x1b[31m${jndi:ldap://a}"quote'


def test_a_hostile_path_makes_one_escaped_record_without_key_or_body(tmp_path):
    log = AccessLog(tmp_path / "gateway.jsonl")
    door = Door(observers=(log,))
    door.ask(content=b"secret pixels")
    door.ask(path=HOSTILE.replace("\x1b", "%1b"), headers={"user-agent": "\x1b[31m"}, who=None)
    log.close()
    text = (tmp_path / "gateway.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert [r["status"] for r in records] == [200, 401]
    assert records[0]["items"] == 1
    assert records[0]["key_id"]
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
