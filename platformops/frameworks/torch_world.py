"""What processes that fit one model together agree on, and the precision that a device is fast in."""

from __future__ import annotations

import torch
from torch import distributed, nn

from platformops.frameworks.records import World


def agreed_highest(value: float, world: World, device: torch.device) -> float:
    """The highest of the values of all ranks, on every rank."""
    if world.size == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
    return float(shared.item())


def agreed_sums(values: tuple[float, ...], world: World, device: torch.device) -> tuple[float, ...]:
    """The sums over all ranks, on every rank."""
    if world.size == 1:
        return values
    shared = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(shared, op=distributed.ReduceOp.SUM)
    return tuple(shared.tolist())


def broadcast_buffers(model: nn.Module, world: World) -> None:
    """Running statistics of rank 0 to all: each rank's own saw only its share of the last batch."""
    if world.size > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, src=0)


def precision_of(wanted: str, device: torch.device) -> torch.autocast:
    """The context that a forward pass runs in: bfloat16 where asked for, or where `auto` finds it native."""
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bfloat16()
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted == "bfloat16" or (wanted == "auto" and native))


def _cpu_has_bfloat16() -> bool:
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
