"""What accelerators can do, from their makers' data sheets. No torch: plans import this file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Accelerator:
    """`name`: a part of what the driver calls it; dense bf16 FLOP/s; memory in bytes."""

    name: str
    flops: float
    memory: int


_GB = 10**9
# The first whose name is part of the device's name counts: the longer name first.
ACCELERATORS: tuple[Accelerator, ...] = (
    Accelerator("B200", 2.25e15, 180 * _GB),
    Accelerator("GH200", 9.89e14, 96 * _GB),
    Accelerator("H200", 9.89e14, 141 * _GB),
    Accelerator("H100 PCIe", 7.56e14, 80 * _GB),
    Accelerator("H100", 9.89e14, 80 * _GB),
    Accelerator("A100", 3.12e14, 80 * _GB),
    Accelerator("L40S", 3.62e14, 48 * _GB),
    Accelerator("L40", 1.81e14, 48 * _GB),
    Accelerator("L4", 1.21e14, 24 * _GB),
    Accelerator("A10", 1.25e14, 24 * _GB),
)


def accelerator(device_name: str) -> Accelerator | None:
    """The accelerator that a device's name names, None for an unknown one."""
    return next((one for one in ACCELERATORS if one.name in device_name), None)
