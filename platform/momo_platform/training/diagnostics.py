"""What a run costs: rates, memory, and how much of the device's peak it uses."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from momo_platform.training.hardware import accelerator
from momo_platform.training.parallel import world_size


def peak_flops(device: torch.device) -> float | None:
    """The device's peak in bf16, None where it is not known (every CPU)."""
    if device.type != "cuda":
        return None
    found = accelerator(torch.cuda.get_device_name(device))
    return found.flops if found else None


def pci_address(device: torch.device) -> str:
    """Where a GPU hangs, as the system names it (`0000:3b:00.0`); empty where it is not known."""
    if device.type != "cuda":
        return ""
    found = torch.cuda.get_device_properties(device)
    names = ("pci_domain_id", "pci_bus_id", "pci_device_id")
    if not all(hasattr(found, name) for name in names):
        return ""
    domain, bus, slot = (getattr(found, name) for name in names)
    return f"{domain:04x}:{bus:02x}:{slot:02x}.0"


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory so far: of the device's allocator, on a CPU of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":  # `ru_maxrss` would include the process that this one was forked of
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        if "VmHWM:" in status:  # not in every sandbox
            return int(status.split("VmHWM:")[1].split()[0]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


class Window:
    """Counts of one rank since the last record."""

    def __init__(self, step: int, modalities: tuple[str, ...]) -> None:
        self._start, self._first = time.perf_counter(), step
        self.seconds = 0.0  # set by `record`
        self.waited = self.blocked = 0.0
        self._samples = dict.fromkeys(modalities, 0)
        self._costs = {"tokens": 0.0, "flops": 0.0}

    def add(self, task: nn.Module, sizes: Mapping[str, int], batches: Mapping[str, Any]) -> None:
        """One step's batches of this rank (on the CPU: nothing here waits for a device)."""
        for modality, batch in batches.items():
            self._samples[modality] += sizes[modality]
            for name in self._costs:
                if (cost := getattr(task, name, None)) is not None:
                    self._costs[name] += cost(modality, batch)

    def leave_out(self, seconds: float) -> None:
        """Time that was not spent on training."""
        self._start += seconds

    def seconds_per_step(self, step: int) -> float:
        """Mean over the steps up to and including `step`, which was recorded."""
        return self.seconds / (step + 1 - self._first)

    def record(self, device: torch.device) -> dict[str, float]:
        """Rates over all ranks, all of which must ask for them; memory and waits are this one's."""
        seconds = self.seconds = time.perf_counter() - self._start
        record = {f"samples_per_second/{n}": c / seconds for n, c in self._samples.items()}
        tokens, flops = self._costs_of_all(device)
        if tokens:
            record["tokens_per_second"] = tokens / seconds
        if flops:
            record["model_flops_per_second"] = flops / seconds
            if peak := peak_flops(device):
                record["mfu"] = flops / seconds / (world_size() * peak)
        record["peak_memory_bytes"] = float(peak_memory_bytes(device))
        record["seconds_waiting_for_data"] = self.waited
        record["seconds_blocked_by_checkpoints"] = self.blocked
        return record

    def _costs_of_all(self, device: torch.device) -> tuple[float, float]:
        """Tokens and flops over all ranks, which may have batches of unlike sizes."""
        costs = self._costs["tokens"], self._costs["flops"]
        if world_size() == 1:
            return costs
        total = torch.tensor(costs, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(total)
        tokens, flops = total.tolist()
        return tokens, flops
