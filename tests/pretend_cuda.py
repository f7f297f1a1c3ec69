"""A CUDA device that is none: its tensors say `cuda:0` and are computed on the CPU.

Unlike fake tensors they have values, which can be compared. What mixes devices fails as on a GPU:
an operator that gets tensors of both, `.numpy()` of a tensor there. Inference only: autograd's
engine asks the driver. Private APIs of torch 2.11 to 2.14, those that FakeTensorMode uses too.
"""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA = torch.device("cuda:0")
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class OnCuda(torch.Tensor):
    """`held`, a tensor of the CPU, under another device's name."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    @torch.inference_mode(False)  # views of parameters are no tensors of inference mode
    def __new__(cls, held):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=CUDA,
        )
        made.held = held
        return made

    def __repr__(self):
        return f"OnCuda({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func, args, kwargs):
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        with _Mode():  # in inference mode they come as they were called
            return func.decompose(*args, **kwargs)
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    there = any(isinstance(t, OnCuda) for t in tensors)
    if there and func not in _COPIES:
        # As CUDA's kernels: a tensor of the CPU may stand beside others if it is a single number.
        strange = [t for t in tensors if not isinstance(t, OnCuda) and t.dim()]
        assert not strange, f"{func}: tensors of both devices"
    asked = kwargs.get("device")
    if asked is not None:
        there = torch.device(asked).type == "cuda"
        kwargs = kwargs | ({"device": torch.device("cpu")} if there else {})
    bare = tree_map_only(OnCuda, lambda t: t.held, (args, kwargs))
    result = func(*bare[0], **bare[1])
    if func._schema.is_mutable:
        return args[0]
    return tree_map_only(torch.Tensor, OnCuda, result) if there else result


class _Mode(TorchDispatchMode):
    """For what makes tensors there from nothing or from the CPU's."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


@contextlib.contextmanager
def cuda_device():
    """The device `cuda`: where there is a GPU that one, else the one that is none."""
    if torch.cuda.is_available():
        yield torch.device("cuda")
        return
    torch._C._ensureCUDADeviceGuardSet()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.Tensor, "pin_memory", lambda self: self)
        # Module.to() makes new parameters instead of putting other data into the old ones.
        patch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=…) comes by here too
        try:
            with _Mode():
                yield CUDA
        finally:
            torch._C._set_only_lift_cpu_tensors(False)
