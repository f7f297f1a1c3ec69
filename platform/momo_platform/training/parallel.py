"""How a task is spread over processes: DDP, or FSDP2 that shards weights, gradients and moments.

Checkpoints hold whole tensors either way, so a run may change between the two.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from momo_platform.training.config import Sharding

Key = TypeVar("Key", bound=Hashable)


def world_size() -> int:
    """Processes of the run; 1 without a process group."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def blocks_of(task: nn.Module) -> list[nn.Module]:
    """The repeated blocks that a task names by its optional `blocks()`."""
    named: Any = getattr(task, "blocks", None)
    return [] if named is None else list(named())


def parallelise(
    module: nn.Module, task: nn.Module, sharding: Sharding, bf16: bool = False
) -> nn.Module:
    """`module` (around `task`) ready for this run's processes; itself where there is only one.

    Under `fsdp2` every block and then the rest is sharded in place. Parameters without dimension
    can't be sharded: every rank keeps them, and `complete_gradients` averages their gradients.
    With `bf16` (a run under autocast) the blocks are gathered and computed in bf16, their inputs
    cast to it; gradients are reduced, and shards kept, in fp32. What lies outside the blocks is
    left to autocast: a batch's noise must not be rounded.
    """
    if world_size() == 1:
        return module
    if sharding == "ddp":
        # Gradients that live in the buckets: no copies, and half the memory. Zero them in place:
        # set to none, those of a micro-batch without reduction would lie beside the buckets.
        with warnings.catch_warnings():  # newer torch has another word for it, older not
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            return DistributedDataParallel(
                module, broadcast_buffers=False, gradient_as_bucket_view=True
            )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy()
    if bf16:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    mesh = init_device_mesh(next(module.parameters()).device.type, (world_size(),))
    scalars = {p for p in module.parameters() if p.ndim == 0}
    for block in blocks_of(task):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, ignored_params=scalars)
    return module


class _Touch(torch.autograd.Function):
    """A zero that depends on its inputs and gives them no gradient: DDP's hooks run anyway."""

    @staticmethod
    def forward(ctx: Any, *parameters: Tensor) -> Tensor:
        ctx.count = len(parameters)
        return parameters[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[None, ...]:
        return (None,) * ctx.count


def touch(parameters: Iterable[nn.Parameter]) -> Tensor:
    """A zero to add to the loss, so that DDP's reducer sees every trained parameter in this
    backward pass, used in it or not. Neither weights are read nor zeros added."""
    touched: Any = _Touch.apply(*(p for p in parameters if p.requires_grad))
    return touched


def is_sharded(module: nn.Module) -> bool:
    """Whether FSDP2 holds the module's parameters."""
    return any(isinstance(p, DTensor) for p in module.parameters())


def local_part(tensor: Tensor) -> Tensor:
    """This rank's shard, or the tensor itself; shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor from all its shards; every rank must ask for it."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def copies_on_host(tensors: Iterable[tuple[Key, Tensor]]) -> dict[Key, Tensor]:
    """Whole copies on the CPU by name; every rank must ask for them.

    Off a device into pinned memory, one wait for all of them; sharded tensors are whole on the
    device one at a time.
    """
    copies: dict[Key, Tensor] = {}
    devices: set[torch.device] = set()
    for name, tensor in tensors:
        value = whole(tensor)
        if value.device.type == "cpu":
            copies[name] = value.clone()
            continue
        pinned = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        copies[name] = pinned.copy_(value, non_blocking=True)
        devices.add(value.device)
    for device in devices:
        torch.cuda.synchronize(device)
    return copies


def place_like(value: Tensor, model: Tensor) -> Tensor:
    """A whole tensor, equal on all ranks, on `model`'s device and cut as `model` is."""
    value = value.to(device=model.device, dtype=model.dtype)
    if not isinstance(model, DTensor):
        return value
    return distribute_tensor(value, model.device_mesh, model.placements, src_data_rank=None)


def complete_gradients(module: nn.Module) -> None:
    """After a backward pass: what it did not reach gets a gradient of zeros, as it does under DDP,
    and gradients that FSDP2 leaves alone, of parameters without dimension, are averaged."""
    sharded = is_sharded(module)
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        elif sharded and parameter.grad is not None and not isinstance(parameter, DTensor):
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= world_size()


@torch.no_grad()
def clip_gradients(module: nn.Module, most: float) -> Tensor:
    """Clip the norm of all gradients to `most`; returns the norm before, on the device. Equal on
    all ranks. Nothing waits for the device."""
    parameters = [p for p in module.parameters() if p.grad is not None]
    if not is_sharded(module):
        return torch.nn.utils.clip_grad_norm_(parameters, most)
    gradients = [local_part(p.grad) for p in parameters if p.grad is not None]
    shards, copies = [], []
    for gradient, parameter in zip(gradients, parameters, strict=True):
        if gradient.numel():  # with few rows a rank may hold none
            (shards if isinstance(parameter, DTensor) else copies).append(gradient)
    squares = [torch.nn.utils.get_total_norm(part).square() for part in (shards, copies) if part]
    total = squares[0] if shards else gradients[0].new_zeros(())
    torch.distributed.all_reduce(total)
    norm = (total + squares[-1] if copies else total).sqrt()
    scale = (most / (norm + 1e-6)).clamp_max(1.0)
    torch._foreach_mul_(gradients, scale)  # pyright: ignore[reportPrivateImportUsage]
    return norm


def reshard(module: nn.Module) -> None:
    """Free what FSDP2 has gathered: the shards are the parameters again. Else nothing."""
    from torch.distributed.fsdp import FSDPModule

    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def unshard(module: nn.Module) -> None:
    """Whole parameters on every rank in the place of shards: after training, to save."""
    reshard(module)
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if isinstance(parameter, DTensor):
                full = nn.Parameter(whole(parameter), requires_grad=parameter.requires_grad)
                part.register_parameter(name, full)
