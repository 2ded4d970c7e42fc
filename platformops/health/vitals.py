"""What the kernel's own files say of a machine, as plain numbers; imports nothing that a small process would feel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CPU_BUSY, CPU_STEAL, CPU_STALL = "cpu_busy_ratio", "cpu_steal_ratio", "cpu_stall_ratio"
CPU_THROTTLED, CPU_GRANTED = "cpu_throttled_ratio", "cpu_granted"
MEMORY_AVAILABLE, MEMORY_STALL, SWAP_USED = "memory_available_ratio", "memory_stall_ratio", "swap_used_ratio"
DISK_FREE, INODES_FREE, IO_STALL, FSYNC = "disk_free_ratio", "inodes_free_ratio", "io_stall_ratio", "fsync_s"
NETWORK_ERRORS, FILE_HANDLES, CLOCK_STEP = "network_errors", "file_handles_ratio", "clock_step_s"
BEAT_DELAY, RAYLET_ANSWER = "beat_delay_s", "raylet_answer_s"
GPU_COUNT, GPU_TEMPERATURE, GPU_THROTTLED = "gpu_count", "gpu_temperature_c", "gpu_throttled_ratio"
GPU_ECC, GPU_REMAPPED = "gpu_ecc_errors", "gpu_remapped_rows"
GPU_XIDS, GPU_EARLY_XIDS = "gpu_xids", "gpu_early_xids"
KERNEL_HARDWARE, KERNEL_DISK, KERNEL_KILLED = "kernel_hardware_errors", "kernel_disk_errors", "kernel_killed"
LOG_ERRORS, LOG_NEW_ERRORS = "log_errors", "log_new_errors"


@dataclass(frozen=True, slots=True)
class Counters:
    """What only grows; a reading is the difference of two."""

    cpu_busy: int = 0
    """In clock ticks over all processors, as `cpu_steal` and `cpu_total`."""
    cpu_steal: int = 0
    cpu_total: int = 0
    network_errors: int = 0
    quota_periods: int = 0
    """In which the node's processes ran under a quota; `quota_spent` of them before their end."""
    quota_spent: int = 0


@dataclass(frozen=True, slots=True)
class Texts:
    """The files as they were read at one moment; an empty text where the kernel has no such file."""

    stat: str = ""
    meminfo: str = ""
    net_dev: str = ""
    file_nr: str = ""
    pressure_cpu: str = ""
    pressure_memory: str = ""
    pressure_io: str = ""
    group_limit: str = ""
    """Of the control group that bounds the node's memory, as `group_used` and `group_stat`."""
    group_used: str = ""
    group_stat: str = ""
    quota: str = ""
    """Microseconds of processor and those of the period that they are for; of the group that bounds its processor."""
    quota_stat: str = ""


def counters(texts: Texts) -> Counters:
    busy, steal, total = _cpu(texts.stat)
    quota = dict(line.partition(" ")[::2] for line in texts.quota_stat.splitlines())
    periods, spent = (int(quota.get(name, "0")) for name in ("nr_periods", "nr_throttled"))
    return Counters(busy, steal, total, _network_errors(texts.net_dev), periods, spent)


def readings(texts: Texts, before: Counters) -> Mapping[str, float | None]:
    """Each reading by its name; None where the kernel does not say, which is not the same as 0."""
    now = counters(texts)
    passed = now.cpu_total - before.cpu_total
    memory = _kilobytes(texts.meminfo)
    cpu_some, _ = _pressure(texts.pressure_cpu)
    periods = now.quota_periods - before.quota_periods
    return {
        CPU_BUSY: (now.cpu_busy - before.cpu_busy) / passed if passed > 0 else None,
        CPU_STEAL: (now.cpu_steal - before.cpu_steal) / passed if passed > 0 else None,
        CPU_STALL: cpu_some,
        CPU_THROTTLED: (now.quota_spent - before.quota_spent) / periods if periods > 0 else None,
        CPU_GRANTED: _granted(texts.quota),
        MEMORY_AVAILABLE: _memory_available(texts, memory),
        SWAP_USED: _used(memory.get("SwapFree"), memory.get("SwapTotal")),
        MEMORY_STALL: _pressure(texts.pressure_memory)[1],
        IO_STALL: _pressure(texts.pressure_io)[1],
        NETWORK_ERRORS: float(max(0, now.network_errors - before.network_errors)) if texts.net_dev else None,
        FILE_HANDLES: _file_handles(texts.file_nr),
    }


@dataclass(frozen=True, slots=True)
class ProcessStat:
    name: str
    state: str
    """`R`, `S`, `T` for one that a signal holds still, `Z` for one that has ended."""
    started: int
    """In clock ticks since boot: with the id it names one process for good."""


def process_stat(text: str) -> ProcessStat | None:
    """Of the text of `/proc/<pid>/stat`; None for one that is cut off. Its name may hold spaces and brackets."""
    opened, closed = text.find("("), text.rfind(")")
    fields = text[closed + 2 :].split()
    if opened < 0 or closed < 0 or len(fields) < 20:
        return None
    return ProcessStat(text[opened + 1 : closed], fields[0], int(fields[19]))


def _cpu(stat: str) -> tuple[int, int, int]:
    first = stat.partition("\n")[0].split()
    if len(first) < 9 or first[0] != "cpu":
        return 0, 0, 0
    user, nice, system, idle, io_wait, irq, soft_irq, steal = (int(field) for field in first[1:9])
    busy = user + nice + system + irq + soft_irq
    return busy, steal, busy + steal + idle + io_wait


def _network_errors(net_dev: str) -> int:
    """Errors and drops of both directions over all interfaces but the loopback."""
    total = 0
    for line in net_dev.splitlines()[2:]:
        name, _, figures = line.partition(":")
        fields = figures.split()
        if name.strip() != "lo" and len(fields) >= 12:
            total += sum(int(fields[at]) for at in (2, 3, 10, 11))
    return total


def _pressure(text: str) -> tuple[float | None, float | None]:
    """Shares of the last 10 s in which some, and in which all, tasks stood still for want of it (kernel: psi.rst)."""
    shares: dict[str, float] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        fields = dict(part.split("=", 1) for part in rest.split() if "=" in part)
        if "avg10" in fields:
            shares[kind] = float(fields["avg10"]) / 100.0
    return shares.get("some"), shares.get("full")


def _kilobytes(meminfo: str) -> Mapping[str, float]:
    found = {}
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if fields and fields[0].isdigit():
            found[name] = float(fields[0])
    return found


def _memory_available(texts: Texts, memory: Mapping[str, float]) -> float | None:
    """Of the machine, or of the group in which the node lives where that leaves less."""
    of_machine = _share(memory.get("MemAvailable"), memory.get("MemTotal"))
    limit, used = texts.group_limit.strip(), texts.group_used.strip()
    if of_machine is None or not (limit.isdigit() and used.isdigit()):
        return of_machine
    if not 0 < int(limit) < 1024.0 * memory["MemTotal"]:
        return of_machine  # version 1 writes a number beyond any memory for no limit
    fields = dict(line.partition(" ")[::2] for line in texts.group_stat.splitlines())
    spare = fields.get("total_inactive_file") or fields.get("inactive_file") or "0"
    left = (int(limit) - int(used) + int(spare)) / int(limit)
    return min(of_machine, max(0.0, left))


def _granted(quota: str) -> float | None:
    """Processors; None where nothing bounds them."""
    fields = quota.split()
    if len(fields) != 2 or not (fields[0].isdigit() and fields[1].isdigit()):
        return None
    return float(fields[0]) / float(fields[1])


def _file_handles(text: str) -> float | None:
    fields = text.split()
    return _share(float(fields[0]), float(fields[2])) if len(fields) == 3 else None


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _used(free: float | None, total: float | None) -> float | None:
    """None on a machine without any."""
    share = _share(free, total)
    return None if share is None else 1.0 - share
