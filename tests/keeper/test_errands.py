"""Work whose process was killed is found once, and work that ended or goes on never."""

import json
import os
import signal
import subprocess
import sys

import pytest

from platformops.keeper import errands
from platformops.keeper.errands import Errand, ErrandTaken, left_behind, on_errand, taken_up

ERRAND = Errand(("run", "/a.yaml"), "/tmp", {"PLATFORMOPS_DATA": "/data"})
HOLDER = """
import sys, time
from pathlib import Path
from platformops.keeper.errands import Errand, on_errand
with on_errand(Path(sys.argv[1]), Errand(("run", "/a.yaml"), "/tmp", {})):
    print("held", flush=True)
    time.sleep(600)
"""


def test_an_errand_under_way_is_nobody_elses_and_gone_when_it_ends(tmp_path):
    with on_errand(tmp_path, ERRAND) as path:
        assert left_behind(tmp_path) == ()
        with pytest.raises(ErrandTaken):
            taken_up(path, 1.0)
    assert list(tmp_path.iterdir()) == []


def test_an_errand_that_fails_is_gone_too(tmp_path):
    with pytest.raises(RuntimeError), on_errand(tmp_path, ERRAND):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
def test_an_errand_whose_process_was_killed_is_left_behind_and_taken_up_once(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert left_behind(tmp_path) == ()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    (left,) = left_behind(tmp_path)
    assert (left.verb, left.resumed) == ("run", 0)
    assert taken_up(tmp_path / left.id, 5.0).resumed == 1
    (again,) = left_behind(tmp_path)
    assert (again.resumed, again.resumed_at) == (1, 5.0)
    with on_errand(tmp_path, ERRAND, taken_up=left.id) as path:
        assert left_behind(tmp_path) == ()
        with pytest.raises(ErrandTaken), on_errand(tmp_path, ERRAND, taken_up=path.name):
            pass
    assert not path.exists()


def test_an_errand_that_ended_meanwhile_is_refused(tmp_path):
    with pytest.raises(ErrandTaken), on_errand(tmp_path, ERRAND, taken_up="gone.json"):
        pass


def test_a_file_that_is_no_errand_is_not_work(tmp_path):
    (tmp_path / "half.json").write_text('{"arguments": [')
    (tmp_path / "other.json").write_text("[]")
    assert left_behind(tmp_path) == ()


def test_no_secret_of_the_environment_is_kept_and_only_the_owner_reads_the_file(tmp_path):
    with on_errand(tmp_path / "errands", ERRAND) as path:
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert json.loads(path.read_text())["arguments"] == ["run", "/a.yaml"]
    assert not {"RAY_AUTH_TOKEN", "PLATFORMOPS_STORE"} & set(errands.KEPT_NAMES)


def test_what_is_left_can_be_forgotten(tmp_path):
    (tmp_path / "1-a.json").write_text(json.dumps({
        "arguments": ["up"], "folder": "/", "environment": {}, "resumed": 0, "resumed_at": 0.0}))  # fmt: skip
    assert errands.forget_left(tmp_path) == 1
    assert left_behind(tmp_path) == ()
