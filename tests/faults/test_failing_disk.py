"""A disk that is slow, that cannot be written any more, or that this user may not write: said at once, nothing lost."""

import os
import shutil
import subprocess

import pytest

from platformops.pipeline.records import RunState
from tests.faults import small_disk, system_calls
from tests.faults.pipelines import SPEC, Pipeline, last_json
from tests.faults.processes import wait_until
from tests.faults.system_calls import Fault

pytestmark = pytest.mark.real
needs_disk = pytest.mark.skipif(bool(small_disk.why_not()), reason=small_disk.why_not())
needs_strace = pytest.mark.skipif(bool(system_calls.why_not()), reason=system_calls.why_not())


def answer(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@needs_disk
def test_a_run_on_a_read_only_disk_ends_at_once_with_words_and_loses_nothing(tmp_path):
    with small_disk.small_disk(tmp_path / "disk", "size=4m") as disk:
        pipeline = Pipeline(tmp_path / "project", disk.root / "home")
        first = pipeline.run()
        disk.remount("ro")
        code, out, err = answer(pipeline.start(pipeline.command("run", "demo.yaml", "--json")))
        assert code == 3, err
        assert "it is read-only" in err
        assert f"fix: mount {disk.root} writable" in err
        assert "Traceback" not in out + err
        assert last_json(out)["error"]["exit_code"] == 3
        disk.remount("rw")
        again = pipeline.run()
        assert [step.cached for step in again.steps] == [True, True]
        assert [s.manifest_digest for s in again.steps] == [s.manifest_digest for s in first.steps]


WITHOUT_POWERS = ["setpriv", *(f"--{kind}=-dac_override,-dac_read_search" for kind in ("bounding-set", "inh-caps"))]
"""Before a command of root's, who may otherwise write whatever the modes of files say."""


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
@pytest.mark.parametrize("part", ["", "artifacts", "logs", "scratch"])
def test_a_folder_that_may_not_be_written_is_named_with_a_fix_and_what_is_there_stays(tmp_path, part):
    pipeline = Pipeline(tmp_path)
    first = pipeline.run()
    place = pipeline.home.root / part
    place.chmod(0o500)
    (pipeline.root / "demo.yaml").write_text(SPEC.replace("2000", "3000").replace("retries: 3", "retries: 0"))
    code, out, err = answer(pipeline.start([*WITHOUT_POWERS, *pipeline.command("run", "demo.yaml", "--json")]))
    assert code in (1, 3), (out, err)
    assert str(place) in out
    assert "fix: " in out + err
    assert "Traceback" not in out + err
    place.chmod(0o700)
    assert pipeline.run().steps[0].manifest_digest == first.steps[0].manifest_digest


@needs_strace
def test_slow_syncs_make_a_run_slow_and_nobody_takes_it_for_dead(tmp_path):
    pipeline = Pipeline(tmp_path)
    slow = Fault("fsync,fdatasync", "1+", "delay_enter=300000")
    first = pipeline.start(
        system_calls.under(slow, pipeline.command("run", "demo.yaml", "--json"), log=tmp_path / "log")
    )
    wait_until(lambda: bool(pipeline.began()), timeout_s=60)
    second = pipeline.run()
    code, out, err = answer(first)
    assert code == 0, err
    assert system_calls.was_injected(tmp_path / "log")
    assert pipeline.began().count("write") == 1, "the other one waited for it"
    assert second.state is RunState.SUCCEEDED
    steps = {step.name: step.fingerprint for step in second.steps}
    assert {step["name"] for step in last_json(out)["steps"]} == set(steps)
    with pipeline.store() as store:
        tokens = [store.get(f"step/{fingerprint}").value["token"] for fingerprint in steps.values()]
    assert tokens == [1, 1], "no lease was taken over"


@needs_strace
@pytest.mark.parametrize("call", ["fdatasync", "fsync", "rename", "pwrite64"])
def test_a_disk_that_fails_once_in_a_run_is_said_and_the_next_run_finishes_it(tmp_path, call):
    pipeline = Pipeline(tmp_path)
    broken = Fault(call, "2+", "error=EIO")
    command = system_calls.under(broken, pipeline.command("run", "demo.yaml", "--json"), log=tmp_path / "log")
    code, out, err = answer(pipeline.start(command))
    assert system_calls.was_injected(tmp_path / "log")
    if code:
        assert code in (1, 3), (out, err)
        assert "disk" in out + err
        assert "fix: " in out + err
        assert "Traceback" not in out + err
    again = pipeline.run()
    assert again.state is RunState.SUCCEEDED
    assert pipeline.run().steps[1].cached
    assert [name for name in pipeline.left_aside() if name.startswith(".quarantine")] == []
