"""The memory of a training worker's thread: what a step frees is kept for the next one."""

import os
import subprocess
import sys

import pytest

from platformops.on_ray.training import WORKER_ENVIRONMENT

STEPS, STEP_BYTES = 20, 96 * 1024 * 1024
"""A batch and its gradients, more than one of the allocator's pieces for a thread holds."""
STEPS_OF_A_THREAD = f"""
import ctypes, resource, threading

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def faults():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt

def train():
    for step in range({STEPS}):
        at = libc.malloc({STEP_BYTES})
        ctypes.memset(at, 1, {STEP_BYTES})
        libc.free(at)
        if step == 0:
            first = faults()
    print(faults() - first)

thread = threading.Thread(target=train)
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="these are settings of glibc's allocator")
def test_a_rank_in_a_thread_does_not_fault_its_memory_in_again_at_each_step():
    def faults(settings):
        environment = {**os.environ, **settings}
        done = subprocess.run(
            [sys.executable, "-c", STEPS_OF_A_THREAD], env=environment, capture_output=True, check=True
        )
        return int(done.stdout)

    ours = {name: value for name, value in WORKER_ENVIRONMENT.items() if name.startswith("MALLOC")}
    of_a_thread = {name: value for name, value in ours.items() if name != "MALLOC_ARENA_MAX"}
    assert faults(ours) < 0.1 * faults(of_a_thread)
