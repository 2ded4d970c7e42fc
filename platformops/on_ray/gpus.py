"""The GPUs of a node as the driver tells of them, behind a port that a recorded trace fills as well."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from platformops.health.vitals import GPU_COUNT, GPU_ECC, GPU_REMAPPED, GPU_TEMPERATURE, GPU_THROTTLED

DRIVER = Path("/proc/driver/nvidia")
HARDWARE_SLOWDOWN = 0x8 | 0x40 | 0x80
"""NVML's event reasons of hardware slowdown, thermal slowdown and power brake; not those of an idle or capped GPU."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment; None for what it does not tell."""

    temperature_c: float | None
    is_throttled: bool | None
    ecc_errors: int | None
    """Uncorrected, since the driver was loaded."""
    remapped_rows: int | None
    """For uncorrected errors, or waiting for a reset, in its whole life."""


class Gpus(Protocol):
    def read(self) -> Sequence[GpuReading]:
        """Every GPU that answers; one that has fallen off the bus is missing."""
        ...


def gpu_readings(gpus: Sequence[GpuReading]) -> Mapping[str, float | None]:
    """Of the whole node: the hottest, the share that is throttled, errors and rows in all."""
    return {
        GPU_COUNT: float(len(gpus)),
        GPU_TEMPERATURE: max((g.temperature_c for g in gpus if g.temperature_c is not None), default=None),
        GPU_THROTTLED: _mean([float(g.is_throttled) for g in gpus if g.is_throttled is not None]),
        GPU_ECC: _sum([g.ecc_errors for g in gpus if g.ecc_errors is not None]),
        GPU_REMAPPED: _sum([g.remapped_rows for g in gpus if g.remapped_rows is not None]),
    }


class Nvml:
    """Implements `Gpus` by the driver's own library (extra `gpu`)."""

    def __init__(self, library: Any) -> None:  # noqa: ANN401  the library is untyped, and absent on most machines
        self._library = library
        library.nvmlInit()

    def read(self) -> Sequence[GpuReading]:
        found = []
        for index in range(self._library.nvmlDeviceGetCount()):
            with suppress(self._library.NVMLError):
                found.append(self._one(self._library.nvmlDeviceGetHandleByIndex(index)))
        return found

    def _one(self, gpu: object) -> GpuReading:
        nvml = self._library
        reasons = self._told(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, gpu)
        rows = self._told(nvml.nvmlDeviceGetRemappedRows, gpu)
        return GpuReading(
            self._told(nvml.nvmlDeviceGetTemperature, gpu, nvml.NVML_TEMPERATURE_GPU),
            None if reasons is None else bool(reasons & HARDWARE_SLOWDOWN),
            self._told(
                nvml.nvmlDeviceGetTotalEccErrors,
                gpu,
                nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
                nvml.NVML_VOLATILE_ECC,
            ),
            None if rows is None else int(rows[1]) + int(rows[2]),
        )

    def _told(self, ask: Any, *arguments: object) -> Any:  # noqa: ANN401  as the library answers
        try:
            return ask(*arguments)
        except self._library.NVMLError:
            return None


def gpus_of_this_node(site: Sequence[str]) -> Gpus | None:
    """None without a driver, or without its library in `site`, the folders of packages."""
    if not DRIVER.exists():
        return None
    sys.path += [folder for folder in site if folder not in sys.path]
    try:
        import pynvml  # type: ignore[import-not-found]  # an extra

        return Nvml(pynvml)
    except Exception:  # a driver that is installed and broken is no reason to be without a probe
        return None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _sum(values: Sequence[float]) -> float | None:
    return float(sum(values)) if values else None
