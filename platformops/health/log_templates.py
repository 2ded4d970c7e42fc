"""What the lines of a log say of a node: severity and template of each, in bounded counts, and which are a fault of it.

A template is a line without what varies in it, so that one fault that writes a thousand lines is one template. Masking
what holds a digit is the first step of every miner of templates (Drain: He et al., ICWS 2017) and finds nearly all of
them in the logs of systems; a tree of what is left pays for searching, which nobody does here.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from zlib import crc32

WINDOW_S = 3600.0
MOST_TEMPLATES, MOST_EVENTS = 1024, 1000
LONGEST_CHARS = 500
"""Of a line that are looked at: whoever names a task may write a long one, and masking costs the square of a word."""
_RAY = re.compile(r"^\[[\d\-: ,.]+ ([A-Z]) \d+ \d+\] (?:\(\S+\) )?(.*)", re.DOTALL)
_VARIES = re.compile(r"0x[0-9a-fA-F]+|[^\s\[\](){}=,:;\"']*\d[^\s\[\](){}=,:;\"']*")


class Fault(Enum):
    """Of a machine, as its kernel tells it."""

    HARDWARE = "hardware"
    DISK = "disk"
    KILLED = "killed"
    """A process, for want of memory: the fault of whoever took it."""
    GPU = "gpu"
    GPU_EARLY = "gpu_early"
    """A GPU that corrected itself, which those that will fail do more often."""


_KERNEL: tuple[tuple[Fault, re.Pattern[str]], ...] = (
    (
        Fault.HARDWARE,
        re.compile(r"\[Hardware Error\]|Machine check events logged|EDAC .*\bUE\b|PCIe Bus Error: .*\(Fatal\)"),
    ),
    (
        Fault.DISK,
        re.compile(
            r"I/O error|critical (?:medium|target) error|EXT4-fs error|XFS .*[Cc]orruption"
            r"|Remounting filesystem read-only|nvme\S* .*(?:timeout, reset|controller is down)"
        ),
    ),
    (Fault.KILLED, re.compile(r"[Oo]ut of memory: Killed process")),
)
_XID = re.compile(r"NVRM: Xid \([^)]*\): (\d+)")
_XIDS: Mapping[int, Fault] = {
    **dict.fromkeys((48, 64, 74, 79, 95), Fault.GPU),
    **dict.fromkeys((63, 92, 94), Fault.GPU_EARLY),
}
"""By NVIDIA's catalogue: uncorrected memory, a failed remapping, NVLink, off the bus, uncontained; and rows remapped,
many single-bit errors, contained. All others may be a program's own fault, and say nothing of the machine."""


@dataclass(frozen=True, slots=True)
class Line:
    is_error: bool
    template: str
    """Empty for what is no error."""


def line_of(text: str) -> Line | None:
    """Of a server's log; None for what has no head of its own, such as the rest of a message of several lines."""
    found = _RAY.match(text)
    if found is None:
        return None
    is_error = found[1] in "EFC"
    return Line(is_error, _VARIES.sub("*", found[2][:LONGEST_CHARS]).strip() if is_error else "")


def fault_of(message: str) -> Fault | None:
    """What a message of the kernel says is broken; None for nothing."""
    if (xid := _XID.search(message)) is not None:
        return _XIDS.get(int(xid[1]))
    return next((fault for fault, pattern in _KERNEL if pattern.search(message)), None)


class Templates:
    """Which templates of errors were seen; the ones not seen for longest are forgotten beyond MOST_TEMPLATES."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, None] = OrderedDict()
        self.errors = 0
        """Lines so far."""

    def add(self, line: Line) -> bool:
        """Whether it is an error of a template that is new."""
        if not line.is_error:
            return False
        self.errors += 1
        key = crc32(line.template.encode())
        is_new = key not in self._seen
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > MOST_TEMPLATES:
            self._seen.popitem(last=False)
        return is_new

    def __len__(self) -> int:
        return len(self._seen)


class Recent:
    """Events of the last hour; beyond MOST_EVENTS the oldest do not count."""

    def __init__(self) -> None:
        self._at_s: deque[float] = deque(maxlen=MOST_EVENTS)

    def add(self, at_s: float) -> None:
        self._at_s.append(at_s)

    def count(self, now_s: float) -> int:
        while self._at_s and now_s - self._at_s[0] > WINDOW_S:
            self._at_s.popleft()
        return len(self._at_s)
