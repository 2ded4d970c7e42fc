"""The logs of a node, read as they grow: its server's own and the kernel's, and what they say of it in numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from platformops.clock import Clock
from platformops.health import vitals
from platformops.health.log_templates import Fault, Recent, Templates, fault_of, line_of

MOST_BYTES = 64 << 10
"""Of a log that are read at once; of one that grows faster the rest is skipped, which does not make it any better."""
MOST_RECORDS = 4096
RECORD_BYTES = 8192
KERNEL = Path("/dev/kmsg")
_READINGS: Mapping[Fault, str] = {
    Fault.HARDWARE: vitals.KERNEL_HARDWARE,
    Fault.DISK: vitals.KERNEL_DISK,
    Fault.KILLED: vitals.KERNEL_KILLED,
    Fault.GPU: vitals.GPU_XIDS,
    Fault.GPU_EARLY: vitals.GPU_EARLY_XIDS,
}


class ServerLog:
    """The file that a server's standard output goes to, from its present end on."""

    def __init__(self, pid: int, clock: Clock) -> None:
        self._clock = clock
        self._path = _output_of(pid)
        self._offset = self._size()
        self._rest = b""
        self._templates, self._new, self._told = Templates(), Recent(), 0

    def readings(self) -> Mapping[str, float | None]:
        """Lines of errors since the last reading, and their templates that were new within the hour."""
        if self._path is None:
            return {vitals.LOG_ERRORS: None, vitals.LOG_NEW_ERRORS: None}
        now_s = self._clock.monotonic()
        for text in self._lines():
            line = line_of(text)
            if line is not None and self._templates.add(line):
                self._new.add(now_s)
        errors, self._told = self._templates.errors - self._told, self._templates.errors
        return {vitals.LOG_ERRORS: float(errors), vitals.LOG_NEW_ERRORS: float(self._new.count(now_s))}

    def _lines(self) -> Iterator[str]:
        size = self._size()
        if size < self._offset:  # it was rotated
            self._offset, self._rest = 0, b""
        if size - self._offset > MOST_BYTES:
            self._offset, self._rest = size - MOST_BYTES, b""
        with suppress(OSError):
            assert self._path is not None
            with self._path.open("rb") as file:
                file.seek(self._offset)
                found = file.read(size - self._offset)
            self._offset += len(found)
            *lines, self._rest = (self._rest + found).split(b"\n")
            self._rest = self._rest[-MOST_BYTES:]
            for line in lines:
                yield line.decode("utf-8", "replace")

    def _size(self) -> int:
        with suppress(OSError):
            return self._path.stat().st_size if self._path else 0
        return 0


class KernelLog:
    """The kernel's ring of messages, with those of the hour before; it may be closed to us, as in many containers."""

    def __init__(self, clock: Clock, device: Path = KERNEL) -> None:
        self._clock = clock
        self._recent = {fault: Recent() for fault in Fault}
        self._descriptor: int | None = None
        with suppress(OSError):
            self._descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def readings(self) -> Mapping[str, float | None]:
        """Messages of each kind within the hour."""
        if self._descriptor is None:
            return dict.fromkeys(_READINGS.values())
        for record in self._records(self._descriptor):
            self._take(record)
        now_s = self._clock.monotonic()
        return {_READINGS[fault]: float(recent.count(now_s)) for fault, recent in self._recent.items()}

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self, record: str) -> None:
        """`priority,sequence,microseconds,flags;message` (kernel: ABI/testing/dev-kmsg)."""
        head, _, message = record.partition(";")
        fields = head.split(",")
        fault = fault_of(message.partition("\n")[0])
        # What a program writes to the device has a facility other than the kernel's own, 0.
        if fault is not None and len(fields) >= 3 and fields[0].isdigit() and int(fields[0]) < 8:
            self._recent[fault].add(float(fields[2]) / 1e6)

    def _records(self, descriptor: int) -> Iterator[str]:
        for _ in range(MOST_RECORDS):
            try:
                record = os.read(descriptor, RECORD_BYTES)
            except BrokenPipeError:  # overwritten before it was read: the next one is there
                continue
            except OSError:
                return
            if not record:
                return
            yield record.decode("utf-8", "replace")


def _output_of(pid: int) -> Path | None:
    """None where it goes to no file."""
    with suppress(OSError):
        path = Path(f"/proc/{pid}/fd/1").readlink()
        return path if path.is_file() else None
    return None
