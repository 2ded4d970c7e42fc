"""What answers goes before what trains, thread by thread."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, threading
from platformops.on_ray.priority import give_way, go_first
was = os.nice({more})
ended = threading.Event()
threading.Thread(target=ended.wait).start()
{call}()
print(was, *(os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in os.listdir("/proc/self/task")))
ended.set()
"""


def niceness(call, *, more):
    """Before the call, and that of each thread after it, in a process of its own."""
    command = [sys.executable, "-c", PROGRAM.format(call=call, more=more)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    before, *after = map(int, said.split())
    assert len(after) == 2
    return before, set(after)


@pytest.mark.parametrize("more", [0, 15])
def test_work_that_can_wait_gives_way_with_all_its_threads_and_stays_as_nice_as_it_was(more):
    before, after = niceness("give_way", more=more)
    assert after == {max(before, 10)}


def test_what_answers_goes_first_with_all_its_threads_where_the_machine_lets_it():
    before, after = niceness("go_first", more=15)
    assert after == ({0} if os.geteuid() == 0 else {before})
