"""What a line of a log says of a node, and that the counts of them stay bounded."""

import pytest

from platformops.health.log_templates import (
    MOST_EVENTS,
    MOST_TEMPLATES,
    WINDOW_S,
    Fault,
    Line,
    Recent,
    Templates,
    fault_of,
    line_of,
)

HEAD = "[2026-11-28 09:09:03,960 {} 11247 11247] (raylet) "


def test_lines_that_differ_in_numbers_and_ids_are_one_template():
    first = line_of(HEAD.format("E") + "store.cc:366: Disconnecting client 7f3a9c due to code 2: End of file")
    second = line_of(HEAD.format("E") + "store.cc:366: Disconnecting client 99b210 due to code 104: End of file")
    assert first == second
    assert first is not None
    assert first.is_error
    assert first.template == "store.cc:*: Disconnecting client * due to code *: End of file"


def test_lines_that_differ_in_words_are_two_templates():
    one, other = (line_of(HEAD.format("E") + text) for text in ("worker died", "worker started"))
    assert one != other


@pytest.mark.parametrize(("letter", "is_error"), [("I", False), ("W", False), ("E", True), ("C", True), ("F", True)])
def test_severity_is_read_from_the_head(letter, is_error):
    line = line_of(HEAD.format(letter) + "something")
    assert line is not None
    assert line.is_error is is_error


@pytest.mark.parametrize("text", ["", "[state-dump] \tready - 1 total", "Traceback (most recent call last):", "\0" * 9])
def test_what_has_no_head_is_no_line(text):
    assert line_of(text) is None


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("mce: [Hardware Error]: CPU 2: Machine Check: 0 Bank 5: bea0000000000108", Fault.HARDWARE),
        ("pcieport 0000:00:1c.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer", Fault.HARDWARE),
        ("pcieport 0000:00:1c.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer", None),
        ("EDAC MC0: 1 UE memory read error on CPU_SrcID#0_Channel#1_DIMM#0", Fault.HARDWARE),
        ("EDAC MC0: 1 CE memory read error on CPU_SrcID#0_Channel#1_DIMM#0", None),
        ("blk_update_request: I/O error, dev sda, sector 12345", Fault.DISK),
        ("EXT4-fs error (device sda1): ext4_find_entry:1455: inode #2: comm ls", Fault.DISK),
        ("EXT4-fs (sda1): Remounting filesystem read-only", Fault.DISK),
        ("Out of memory: Killed process 4242 (python) total-vm:1kB", Fault.KILLED),
        ("Memory cgroup out of memory: Killed process 4242 (python)", Fault.KILLED),
        ("NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.", Fault.GPU),
        ("NVRM: Xid (PCI:0000:3b:00): 63, pid=1, Row Remapper", Fault.GPU_EARLY),
        ("NVRM: Xid (PCI:0000:3b:00): 31, pid=1, name=python, MMU Fault", None),
        ("CPU: 1 UID: 0 PID: 29809 Comm: python Not tainted", None),
    ],
)
def test_a_message_of_the_kernel_is_a_fault_only_where_the_machine_is_to_blame(message, fault):
    assert fault_of(message) is fault


def test_an_error_is_new_once_and_templates_are_bounded():
    seen = Templates()
    assert seen.add(Line(True, "a"))
    assert not seen.add(Line(True, "a"))
    assert not seen.add(Line(False, "b")), "no error"
    for number in range(2 * MOST_TEMPLATES):
        seen.add(Line(True, f"kind {number}"))
    assert len(seen) == MOST_TEMPLATES
    assert seen.errors == 2 * MOST_TEMPLATES + 2


def test_events_count_for_an_hour_and_are_bounded():
    recent = Recent()
    for at_s in range(2 * MOST_EVENTS):
        recent.add(at_s / MOST_EVENTS)
    assert recent.count(2.0) == MOST_EVENTS
    assert recent.count(2.0 + WINDOW_S) == 0
