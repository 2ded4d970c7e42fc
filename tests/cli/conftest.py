import json
import subprocess
import sys
from dataclasses import dataclass

import pytest

from platformops.cli.main import main


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home, a working folder and an environment of this test's own."""
    for name in ("PLATFORMOPS_STORE", "PLATFORMOPS_ARTIFACTS", "PLATFORMOPS_DATA", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PLATFORMOPS_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.fixture
def platformops(home, capfd):
    """Runs one command line in this process."""

    def run(*arguments):
        capfd.readouterr()
        code = main(arguments)
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return run


@pytest.fixture
def command(home):
    """Runs one command line as a process of its own."""

    def run(*arguments, **options):
        done = subprocess.run(
            [sys.executable, "-m", "platformops", *arguments], capture_output=True, timeout=60, check=False, **options
        )
        decode = {"errors": "backslashreplace"}
        return Answer(done.returncode, done.stdout.decode(**decode), done.stderr.decode(**decode))

    return run
