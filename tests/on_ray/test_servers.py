"""The processes of a cluster are found by their mark, and those that lost it by the server that started them."""

import os
import subprocess
import sys

import pytest

from platformops.on_ray.servers import MARK, processes_of

PARENT = "import subprocess, time; print(subprocess.Popen(['sleep', '600'], env={}).pid, flush=True); time.sleep(600)"


@pytest.mark.real
def test_a_child_without_the_mark_belongs_to_the_marked_process_that_started_it(tmp_path):
    mark = str(tmp_path)
    environment = {**os.environ, MARK: mark}
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        found = []
        try:
            child = int(parent.stdout.readline())
            found = processes_of(mark)
            assert {p.pid for p in found} == {parent.pid, child}
            assert processes_of(f"{mark}-other") == []
        finally:
            parent.kill()
            for process in found:
                process.kill()
