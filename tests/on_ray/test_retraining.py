"""Work of drift loops as processes: one a system, like a person's own, and ended with the controller."""

import fcntl
import os
import subprocess
import sys

from platformops.clock import SystemClock
from platformops.delivery.retraining import Recipe
from platformops.home import home_at
from platformops.on_ray.retraining import ProcessPorts, environment_of

HOLDER = """
import fcntl, os, sys, time
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(str(os.getpid())); file.flush()
print("held", flush=True)
time.sleep(600)
"""


def test_the_environment_is_that_of_the_command_and_not_of_the_actor(tmp_path):
    own = {"PATH": "/bin", "RAY_JOB_ID": "1", "CUDA_VISIBLE_DEVICES": "", "RAY_ADDRESS": "actor"}
    recipe = Recipe("img", "/img.yaml", variables={"RAY_ADDRESS": "head:1", "PYTHONPATH": "/mine"})
    found = environment_of(own, recipe, home_at(tmp_path))
    assert (found["PATH"], found["RAY_ADDRESS"], found["PLATFORMOPS_HOME"]) == ("/bin", "head:1", str(tmp_path))
    assert found["PYTHONPATH"].split(os.pathsep)[0] == "/mine"
    assert not {"RAY_JOB_ID", "CUDA_VISIBLE_DEVICES"} & set(found)


def test_work_that_an_earlier_controller_began_ends_with_this_one(tmp_path):
    home = home_at(tmp_path)
    home.retraining.mkdir()
    command = [sys.executable, "-c", HOLDER, str(home.retraining / "img.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout.readline() == b"held\n"
            ProcessPorts(home, SystemClock()).stop()
            assert process.wait(timeout=30) != 0
        finally:
            process.kill()


def test_a_lock_that_nobody_holds_ends_nobody(tmp_path):
    home = home_at(tmp_path)
    home.retraining.mkdir()
    (home.retraining / "img.lock").write_text(str(os.getpid()))
    ProcessPorts(home, SystemClock()).stop()
    with (home.retraining / "img.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
