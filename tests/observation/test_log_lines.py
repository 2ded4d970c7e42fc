"""Whatever writes a line, its fields are the Elastic Common Schema's or ours."""

import ast
import json
from pathlib import Path

import pytest

import platformops
from platformops.clock import ManualClock
from platformops.gateway.access_log import line as access_line
from platformops.gateway.exchange import Exchange
from platformops.keeper.loop import _log
from platformops.observation.log_lines import ECS, OWN, line
from platformops.observation.stack.shippers import index_template
from platformops.pipeline.logbook import Logbook

PACKAGE = Path(platformops.__file__).parent
LEVELS = {"info", "warning", "error"}


def is_known(name):
    return name in ECS or (name.startswith("platformops.") and name.removeprefix("platformops.").isidentifier())


def written_by_all(tmp_path):
    """A line of each writer, with every field that it may have."""
    exchange = Exchange(
        "ab12", 1.0, "POST", "/digits/predict", "127.0.0.1", is_replay=True, fault="OSError", code="busy"
    )
    with Logbook(tmp_path, system="digits", run_id="r", clock=ManualClock()) as book:
        book.write("step-done", "done", about={"stage": "train", "seconds": 1.5})
    _log(tmp_path / "keeper.jsonl", ManualClock(), "decided", act="kill", reason="why", seconds=1.0)
    texts = [access_line(exchange), book.path.read_text(), (tmp_path / "keeper.jsonl").read_text()]
    return [json.loads(text) for text in texts]


def test_every_field_of_every_writer_is_of_the_schema_or_ours(tmp_path):
    for record in written_by_all(tmp_path):
        assert [name for name in record if not is_known(name)] == []
        assert {"@timestamp", "log.level", "event.action", "message"} <= set(record)
        assert record["log.level"] in LEVELS


def test_durations_are_whole_nanoseconds_and_times_have_milliseconds_and_a_zone(tmp_path):
    record = json.loads(access_line(Exchange("a", 1.5, "GET", "/", "127.0.0.1", seconds=0.25)))
    assert record["event.duration"] == 250_000_000
    assert record["@timestamp"] == "1970-01-01T00:00:01.500+00:00"


def ecs_names_in(path):
    """String keys with a dot of dictionaries in a module that writes lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Dict):
            yield from (k.value for k in node.keys if isinstance(k, ast.Constant) and "." in str(k.value))
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and "." in str(node.slice.value):
            yield node.slice.value


@pytest.mark.parametrize("name", ["gateway/access_log.py", "pipeline/logbook.py", "observation/log_lines.py"])
def test_no_writer_names_a_field_that_the_list_does_not_have(name):
    assert {n for n in ecs_names_in(PACKAGE / name) if not is_known(n)} == set()


def test_nobody_writes_a_log_line_around_these_writers():
    writers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if '"log.level"' in path.read_text(encoding="utf-8") and path.name not in ("logs.py", "log_lines.py")
    }
    assert writers == {"pipeline/logbook.py"}


def test_the_index_template_has_every_field_with_its_type():
    properties = index_template()["template"]["mappings"]["properties"]
    assert {name: properties[name]["type"] for name in ECS} == ECS
    assert {name: kind["type"] for name, kind in properties["platformops"]["properties"].items()} == OWN


def test_a_line_holds_nothing_that_a_terminal_would_obey():
    assert line(0.0, "x", "\x1b[31m\n\u202e").isascii()
    assert "\x1b" not in line(0.0, "x", "\x1b[31m")
