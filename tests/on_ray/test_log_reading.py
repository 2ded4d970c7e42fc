"""The logs of a node as they grow, are rotated and overflow, and the kernel's where it may be read."""

import os
import subprocess
import sys

import pytest

from platformops.clock import ManualClock
from platformops.health import vitals
from platformops.health.log_templates import WINDOW_S, Fault
from platformops.on_ray import log_reading
from platformops.on_ray.log_reading import KERNEL, MOST_BYTES, KernelLog, ServerLog

HEAD = "[2026-11-28 09:09:03,960 {} 11247 11247] (raylet) "


@pytest.fixture
def server(tmp_path):
    """A process whose standard output is a file, and that file."""
    path = tmp_path / "raylet.out"
    with path.open("w") as file:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=file)
    yield process.pid, path
    process.communicate(b"\n")


def write(path, *lines, mode="a"):
    with path.open(mode) as file:
        file.write("".join(lines))


def test_errors_are_counted_from_when_it_was_opened_and_new_kinds_for_an_hour(server):
    pid, path = server
    write(path, HEAD.format("E") + "of before\n")
    clock = ManualClock()
    log = ServerLog(pid, clock)
    assert log.readings() == {vitals.LOG_ERRORS: 0.0, vitals.LOG_NEW_ERRORS: 0.0}
    write(path, HEAD.format("E") + "code 1\n", HEAD.format("E") + "code 2\n", HEAD.format("I") + "fine\n")
    assert log.readings() == {vitals.LOG_ERRORS: 2.0, vitals.LOG_NEW_ERRORS: 1.0}
    assert log.readings() == {vitals.LOG_ERRORS: 0.0, vitals.LOG_NEW_ERRORS: 1.0}
    clock.sleep(WINDOW_S + 1.0)
    assert log.readings()[vitals.LOG_NEW_ERRORS] == 0.0


def test_a_line_that_is_half_written_counts_once_it_is_whole(server):
    pid, path = server
    log = ServerLog(pid, ManualClock())
    write(path, HEAD.format("E") + "half")
    assert log.readings()[vitals.LOG_ERRORS] == 0.0
    write(path, " and half\n")
    assert log.readings()[vitals.LOG_ERRORS] == 1.0


def test_it_goes_on_in_a_rotated_log_and_reads_a_part_of_one_that_grows_too_fast(server):
    pid, path = server
    log = ServerLog(pid, ManualClock())
    line = HEAD.format("E") + "again\n"
    write(path, line * 3)
    assert log.readings()[vitals.LOG_ERRORS] == 3.0
    write(path, line, mode="w")
    assert log.readings()[vitals.LOG_ERRORS] == 1.0
    write(path, line * (3 * MOST_BYTES // len(line)))
    assert 0.0 < log.readings()[vitals.LOG_ERRORS] <= MOST_BYTES / len(line)


def test_a_server_that_writes_to_no_file_has_no_reading(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        assert set(ServerLog(process.pid, ManualClock()).readings().values()) == {None}
    finally:
        process.communicate(b"\n")


def test_a_kernel_log_that_is_closed_to_us_has_no_reading(tmp_path):
    log = KernelLog(ManualClock(), tmp_path / "none")
    assert set(log.readings().values()) == {None}
    log.close()


def test_the_kernels_records_count_by_their_own_time_and_those_of_programs_do_not(tmp_path):
    pipe = tmp_path / "kmsg"
    os.mkfifo(pipe)
    clock = ManualClock()
    clock.sleep(2.0 * WINDOW_S)
    log = KernelLog(clock, pipe)
    now_us = round(clock.monotonic() * 1e6)
    writer = os.open(pipe, os.O_WRONLY)
    try:
        for record in (f"3,1,{now_us},-;blk_update_request: I/O error, dev sda\n SUBSYSTEM=block\n",):
            os.write(writer, record.encode())
        assert log.readings()[vitals.KERNEL_DISK] == 1.0
        os.write(writer, f"11,2,{now_us},-;I/O error, says a program\n".encode())
        assert log.readings()[vitals.KERNEL_DISK] == 1.0
        os.write(writer, b"3,3,5,-;blk_update_request: I/O error, dev sda\n")
        log.readings()
        clock.sleep(WINDOW_S + 1.0)
        assert log.readings()[vitals.KERNEL_DISK] == 0.0
    finally:
        os.close(writer)
        log.close()


@pytest.mark.skipif(not os.access(KERNEL, os.R_OK), reason="this kernel's log is closed to us")
def test_records_of_the_real_kernel_are_understood(monkeypatch):
    monkeypatch.setattr(log_reading, "fault_of", lambda message: Fault.DISK if message else None)
    log = KernelLog(ManualClock(0.0))  # before all of them, so that none is too old
    assert log.readings()[vitals.KERNEL_DISK] >= 1.0
    log.close()
