"""The command line as a whole: what it imports, usage errors, broken surroundings, and what is told of a failure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import platformops.cli.schema as schema_verb
from platformops.cli.main import VERBS

HEAVY = ("ray", "torch", "pandas", "numpy", "sqlalchemy", "scipy", "pyarrow", "sklearn", "httpx")


@pytest.mark.real
@pytest.mark.parametrize("arguments", [["--help"], ["why", "digits"], ["status"], ["models"], ["plan", "digits.yaml"]])
def test_quick_verbs_import_nothing_heavy(command, tmp_path, arguments):
    (tmp_path / "work" / "digits.yaml").write_text(
        'system: digits\napp: image\ndata: {source: sklearn://digits}\ngates: {accuracy: ">= 0.9"}\n'
    )
    code = f"""
import sys
from platformops.cli.main import main
main({arguments!r})
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["plann"], "Did you mean 'plan'"),
        (["statu"], "Did you mean 'status'"),
        (["frobnicate"], "No such command"),
        (["plan", "x.yaml", "--jsn"], "No such option: --jsn"),
        (["--hme", "x", "plan"], "No such option"),
        (["plan"], "Missing argument 'SPEC'"),
        (["why", "x", "--last", "0"], "Invalid value for '--last'"),
        (["init", "cats", "--ap", "image"], "No such option: --ap"),
    ],
)
def test_wrong_usage_exits_2_with_a_hint(platformops, arguments, expected):
    answer = platformops(*arguments)
    assert answer.code == 2
    assert expected in answer.err
    assert "Traceback" not in answer.err


def test_no_arguments_show_the_usage_and_exit_2(platformops):
    answer = platformops()
    assert answer.code == 2
    assert "Usage: platformops" in answer.out + answer.err


@pytest.mark.parametrize("path", ["missing.yaml", ".", "/dev/zero", "\x1b[31mred.yaml", "a\nb.yaml", "x" * 300, ""])
def test_a_spec_that_is_no_file_exits_2_and_is_named(platformops, path):
    answer = platformops("plan", path)
    assert answer.code == 2
    assert "error: " in answer.err
    assert "\x1b[31m" not in answer.err
    assert "Traceback" not in answer.err


def test_a_failure_is_told_as_json_too(platformops):
    answer = platformops("plan", "missing.yaml", "--json")
    assert answer.json["error"]["exit_code"] == answer.code == 2
    assert "missing.yaml: there is no such file" in answer.json["error"]["what"]
    assert answer.json["error"]["fix"]
    assert answer.err.startswith("error: missing.yaml")


@pytest.fixture
def failing(monkeypatch):
    """Lets `platformops schema` raise what a test wants."""

    def fail_with(error):
        def schema(json_: bool = False) -> None:
            """Fail."""
            raise error

        monkeypatch.setattr(schema_verb, "schema", schema)

    return fail_with


def test_a_defect_is_told_shortly_and_its_trace_is_kept(platformops, failing, home):
    failing(ZeroDivisionError("\x1b[2Jboom"))
    answer = platformops("schema")
    (trace,) = (home / "logs").glob("trace-*.txt")
    assert answer.code == 1
    assert "Traceback" not in answer.err
    assert str(trace) in answer.err
    assert "\x1b" not in answer.err
    assert "ZeroDivisionError" in trace.read_text()
    assert trace.stat().st_mode & 0o077 == 0


def test_a_defect_with_nowhere_to_write_still_shows_its_trace(platformops, failing, home):
    home.write_text("a file where the home should be")
    failing(ZeroDivisionError("boom"))
    answer = platformops("schema")
    assert answer.code == 1
    assert "ZeroDivisionError: boom" in answer.err


def test_a_verb_chooses_its_own_exit_code(platformops, failing):
    failing(typer.Exit(7))
    answer = platformops("schema")
    assert (answer.code, answer.err) == (7, "")


def test_an_interrupt_exits_130(platformops, failing):
    failing(KeyboardInterrupt())
    answer = platformops("schema")
    assert answer.code == 130
    assert answer.err.startswith("error: interrupted")


@pytest.mark.real
def test_a_reader_that_goes_away_ends_the_command_quietly(command, home):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "platformops", "schema"], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == b""


@pytest.mark.real
@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"TERM": "dumb"}, {"COLUMNS": "20"}]
)
def test_odd_terminals_get_plain_output(command, environment):
    for arguments in (["--help"], ["status"], ["plan", "\u202ex.yaml"]):
        answer = command(*arguments, env={**os.environ, **environment})
        assert answer.code in (0, 2)
        assert "Traceback" not in answer.err
        assert answer.out + answer.err


def test_a_user_without_a_home_is_told_what_to_set(platformops, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("PLATFORMOPS_HOME")
    answer = platformops("status")
    assert answer.code == 2
    assert "fix: set PLATFORMOPS_HOME" in answer.err


def test_a_home_that_cannot_be_made_exits_3(platformops, home):
    home.parent.joinpath("file").write_text("")
    answer = platformops("--home", str(home.parent / "file" / "home"), "status")
    assert answer.code == 3
    assert "fix: set PLATFORMOPS_HOME" in answer.err


def test_the_home_option_is_inherited_by_what_the_command_starts(platformops, tmp_path, monkeypatch):
    monkeypatch.setenv("PLATFORMOPS_HOME", "/nonexistent")
    assert platformops("--home", str(tmp_path / "other"), "status").code == 0
    assert os.environ["PLATFORMOPS_HOME"] == str(tmp_path / "other")


@pytest.mark.parametrize("name", [n for n in VERBS if n in ("status", "models", "schema")])
def test_json_is_one_object_on_the_last_line(platformops, name):
    answer = platformops(name, "--json")
    assert answer.code == 0
    assert isinstance(json.loads(answer.out.splitlines()[-1]), dict)


def test_an_unknown_store_exits_2(platformops, monkeypatch):
    monkeypatch.setenv("PLATFORMOPS_STORE", "mysql://x")
    assert platformops("status").code == 2


def test_status_answers_when_nothing_runs(platformops):
    assert platformops("status").code == 0
