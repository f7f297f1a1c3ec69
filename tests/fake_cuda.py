"""A CUDA device that is not there: code for a GPU runs on it, and nothing is computed.

    with fake_cuda() as record:
        with torch.device("cuda"):      # `Module.to` does nothing here: make modules where they are
            model = build_model(config)
        with record.measure() as step:
            model(torch.ones(8, device="cuda")).sum().backward()
    step.waits, step.flops, step.peak_bytes

Tensors of two devices in one operator raise, as on a GPU. Everything that makes the host wait for
the device is written down with the line that did it; floating-point operations are those of
torch's `flop_counter`, memory the bytes of live storages (no allocator, no rounding, no kernel's
workspace). Real tensors of the CPU may come in; what depends on values is answered with constants.

`FakeTensorMode` alone does not do on a machine without a GPU:

1. `autocast("cuda")` switches itself off: two predicates are patched.
2. The autograd engine looks for the driver where a graph's device is CUDA. C++ asks a fake tensor
   for its device by `prim.device`; it is told `cuda` from the start of a Python call to the first
   kernel (autocast asks there) and `meta` after it (autograd asks there).
3. `scaled_dot_product_attention` would end at its math path: the kernel that a GPU of compute
   capability 8.0 or more takes is called.

All of that is private to torch. Made for 2.11 to 2.14; where a torch lacks something, `MISSING`
says what: `pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch
from fake_cuda_record import Record
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MISSING = ""
"""Why this torch can't have the fake device; empty where it can."""
try:
    import torch.cuda.amp.common as _amp
    import torch.nn.attention.varlen
    from torch._subclasses import fake_tensor
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
    from torch.utils.flop_counter import flop_registry

    _PRIM_DEVICE = torch.ops.prim.device.default
    _device_of = fake_tensor._DISPATCH_META_HANDLERS[_PRIM_DEVICE]
    _fake_dispatch = FakeTensor.__dict__["__torch_dispatch__"]
    _run_backward = torch.autograd.graph._engine_run_backward
    _ = _amp.amp_definitely_not_available, FakeTensor.tolist, torch.ops.torch_attn._varlen_attn
    _ = torch.ops.aten._scaled_dot_product_flash_attention
    _ = torch.ops.aten._scaled_dot_product_efficient_attention
except (ImportError, AttributeError, KeyError) as error:
    MISSING = f"torch {torch.__version__} lacks what the fake CUDA device needs: {error}"

aten = torch.ops.aten
_CAST = {  # of what autocast casts to bf16, the functions that are used here
    *(torch.nn.functional.linear, torch.nn.functional.scaled_dot_product_attention),
    *(torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm),
    *(torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.__rmatmul__),
}
_DEVICE_PROPERTIES = ("is_cuda", "is_cpu", "is_meta")
_INDEXING = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)
_ITEM = 1 << 20
"""What an integer asked of the device is: lengths are cut to what there is."""


class _Event:
    """An event of a stream: `synchronize` waits."""

    def __init__(self, on: Record, **_: Any) -> None:
        self._on = on

    def record(self, *_: Any) -> None: ...

    def synchronize(self) -> None:
        self._on.wait("an event")


def _varlen_flops(products: int, query_at: int, longest_at: int) -> Callable[..., int]:
    """A formula of variable-length attention, which makes `products` matrix products. The lengths
    lie on the device: every query is taken to see as many keys as the longest sequence has."""

    def formula(*args: Any, **_: Any) -> int:
        total, heads, width = args[query_at].shape
        return products * 2 * total * args[longest_at] * heads * width

    return formula


def _bmm_flops(a: torch.Tensor, b: torch.Tensor, *_: Any, **__: Any) -> int:
    """torch's own, up to 2.11, does not know of `out_dtype`."""
    return 2 * a.numel() * b.shape[2]


def _formulas() -> dict[Any, Callable[..., int]]:
    attention = torch.ops.torch_attn
    return {
        **flop_registry,
        aten.bmm: _bmm_flops,
        attention._varlen_attn: _varlen_flops(2, query_at=0, longest_at=6),
        # The scores once more, then four gradients.
        attention._varlen_attn_backward: _varlen_flops(5, query_at=1, longest_at=9),
    }


class _Phase:
    """What C++ is told of a fake tensor's device: see the module's docstring, 2."""

    says_cuda = False

    def device_of(self, args: Any) -> torch.device:
        device = _device_of(args)
        return device if self.says_cuda or device.type != "cuda" else torch.device("meta")

    @contextlib.contextmanager
    def cuda(self) -> Iterator[None]:
        self.says_cuda = True
        try:
            yield
        finally:
            self.says_cuda = False


class _Calls(TorchFunctionMode):
    """Calls of Python functions: until their first kernel, tensors are CUDA's."""

    def __init__(self, phase: _Phase) -> None:
        super().__init__()
        self._phase = phase
        self._halves: dict[int, torch.Tensor] = {}  # autocast's cache, of parameters
        self._accumulators: dict[int, Any] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, torch._ops.OpOverload):  # of the autograd engine, not of Python
            return func(*args, **kwargs)
        if getattr(func, "__name__", "") == "__get__":
            if func.__self__.__name__ not in _DEVICE_PROPERTIES:
                return func(*args, **kwargs)
            with self._phase.cuda():
                return func(*args, **kwargs)
        self._phase.says_cuda = False
        if func is torch.autograd.grad:
            return func(*args, **kwargs)
        if func in (torch.Tensor.backward, torch.autograd.backward):
            gradients = kwargs.get("gradient", kwargs.get("grad_tensors"))
            return self._backward(args[0], args[1] if args[1:] else gradients)
        for value in tree_leaves((args, kwargs)):
            self._make_accumulator(value)
        if func in _CAST and torch.is_autocast_enabled("cuda"):
            args = tuple(self._half(value) for value in args)
        if func is torch.nn.functional.scaled_dot_product_attention:
            with self:
                return _attention(*args, **kwargs)
        with self._phase.cuda():
            return func(*args, **kwargs)

    def clear_autocast_cache(self) -> None:
        self._halves.clear()

    def _backward(self, tensors: Any, gradients: Any) -> None:
        """Straight to the engine, with this mode on: checkpointing computes again within."""
        roots = (tensors,) if isinstance(tensors, torch.Tensor) else tuple(tensors)
        with self:
            if gradients is None:
                seeds = tuple(torch.ones_like(root) for root in roots)
            else:
                seeds = (gradients,) if isinstance(gradients, torch.Tensor) else tuple(gradients)
            _run_backward(
                *(roots, seeds, False, False, ()),
                allow_unreachable=True,
                accumulate_grad=True,
            )

    def _make_accumulator(self, value: Any) -> None:
        """A parameter's node in the graph asks for the device when it is made: before the call."""
        if not (isinstance(value, torch.nn.Parameter) and value.requires_grad):
            return
        if id(value) not in self._accumulators:
            with torch.enable_grad():
                view: Any = value.view_as(value).grad_fn
            self._accumulators[id(value)] = value, view.next_functions[0][0]

    def _half(self, value: Any) -> Any:
        """Autocast's cast, done here: with several arguments, the first one's would end the time
        in which C++ is told `cuda`."""
        if not isinstance(value, torch.Tensor) or value.dtype is not torch.float32:
            return value
        if value.device.type != "cuda":
            return value
        if not (isinstance(value, torch.nn.Parameter) and value.requires_grad):
            return value.to(torch.bfloat16)
        if id(value) not in self._halves:
            self._halves[id(value)] = value.to(torch.bfloat16)
        return self._halves[id(value)]


def _attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0
) -> torch.Tensor:
    """Flash attention in bf16 without a mask, else the memory-efficient kernel."""
    if dropout_p:
        raise NotImplementedError("dropout in attention on the fake device")
    if attn_mask is None and query.dtype is not torch.float32:
        return aten._scaled_dot_product_flash_attention(query, key, value)[0]
    bias = attn_mask
    if attn_mask is not None:
        bias = torch.zeros(attn_mask.shape, dtype=query.dtype, device=query.device)
        bias = bias.masked_fill(~attn_mask, float("-inf"))
        bias = bias.expand(*query.shape[:3], key.shape[2])
    return aten._scaled_dot_product_efficient_attention(query, key, value, bias, True)[0]


def _fills(args: Any) -> bool:
    """Whether a number goes where one mask is True: `tensor[mask] = 0`."""
    places, value = args[1], args[2] if args[2:] else None
    return (
        len(places) == 1
        and places[0] is not None
        and places[0].dtype is torch.bool
        and value is not None
        and value.numel() == 1
        and value.device.type == "cpu"
    )


class _Kernels(TorchDispatchMode):
    """Kernels: what waits for the device is written down, what depends on data is answered."""

    def __init__(self, phase: _Phase, record: Record, true_in_row: int) -> None:
        super().__init__()
        self._phase, self._record, self._true_in_row = phase, record, true_in_row
        self._formulas = _formulas()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is _PRIM_DEVICE:
            return func(*args)
        with self._phase.cuda():  # inside a kernel nothing enters the graph
            device = kwargs.get("device")
            if device is not None and torch.device(device).type == "meta":
                kwargs["device"] = torch.device("cuda:0")  # what C++ was told after a kernel
            result = self._run(func, args, kwargs)
            formula = self._formulas.get(func._overloadpacket)
            if formula is not None:
                self._record.compute(formula(*args, **kwargs, out_val=result))
            for value in tree_leaves(result):
                self._record.hold(value)
            return result

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if func is aten._local_scalar_dense.default:
            if args[0].device.type == "cuda":
                self._record.wait("item")
            dtype = args[0].dtype
            return True if dtype is torch.bool else 1.0 if dtype.is_floating_point else _ITEM
        if func is aten.nonzero.default and args[0].device.type == "cuda":
            return torch.stack(self._positions(args[0]), dim=1)
        if func in _INDEXING and args[0].device.type == "cuda":
            if _fills(args):  # torch takes another kernel there, which knows no positions
                return args[0].masked_fill_(args[1][0], 0.0)
            args = (args[0], self._places(func, args), *args[2:])
        if "pin_memory" in kwargs:
            kwargs["pin_memory"] = False  # without a driver no memory can be
        if func is aten._to_copy.default and kwargs.get("device") is not None:
            target = torch.device(kwargs["device"]).type
            self._copy(args[0], target, bool(kwargs.get("non_blocking")))
        if func is aten.copy_.default:
            non_blocking = args[2] if args[2:] else kwargs.get("non_blocking", False)
            self._copy(args[1], args[0].device.type, non_blocking)
        return func(*args, **kwargs)

    def _copy(self, tensor: torch.Tensor, target: str, non_blocking: bool) -> None:
        if target != tensor.device.type and not non_blocking:
            way = "copy to the device" if target == "cuda" else "copy from the device"
            self._record.wait(way, tensor.numel() * tensor.element_size())

    def _places(self, func: Any, args: Any) -> list[torch.Tensor | None]:
        """Indices without masks and on the device."""
        found: list[torch.Tensor | None] = []
        for index in args[1]:
            if index is None:
                found.append(None)
            elif index.dtype in (torch.bool, torch.uint8):
                found += self._positions(index)
            else:
                self._copy(index, "cuda", non_blocking=False)
                found.append(index)
        return found

    def _positions(self, mask: torch.Tensor) -> list[torch.Tensor]:
        """Where `mask` is True, an index a dimension."""
        self._record.wait("positions of a mask (nonzero)")
        count = mask.shape[0] * (self._true_in_row if mask.ndim > 1 else 1)
        return [torch.empty(count, dtype=torch.int64, device=mask.device) for _ in range(mask.ndim)]


@contextlib.contextmanager
def fake_cuda(true_in_row: int = 10) -> Iterator[Record]:
    """The device, for as long as the context lasts. `true_in_row`: so many elements of each row of
    a mask [rows, …] are True; of a mask [rows] all are."""
    record, phase = Record(), _Phase()
    calls = _Calls(phase)
    clear = torch.clear_autocast_cache

    def dispatch(cls: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _PRIM_DEVICE:
            return phase.device_of(args)
        return _fake_dispatch.__func__(cls, func, types, args, kwargs)

    def tolist(tensor: Any) -> list[float]:  # FakeTensor's own asks for one value after another
        if tensor.device.type == "cuda":
            record.wait("tolist")
        return [1.0] * tensor.numel()

    def clear_autocast_cache() -> None:
        calls.clear_autocast_cache()
        clear()

    with contextlib.ExitStack() as stack:
        for owner, name, value in (
            (_amp, "amp_definitely_not_available", lambda: False),
            (torch, "clear_autocast_cache", clear_autocast_cache),
            (torch.cuda, "is_bf16_supported", lambda *_, **__: True),
            (torch.cuda, "get_device_capability", lambda *_: (9, 0)),
            (torch.cuda, "synchronize", lambda *_: record.wait("synchronize")),
            (torch.cuda, "Event", partial(_Event, record)),
            (torch.nn.Module, "to", lambda module, *_, **__: module),  # can't swap fake parameters
            (FakeTensor, "__torch_dispatch__", classmethod(dispatch)),
            (FakeTensor, "tolist", tolist),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(
            mock.patch.dict(fake_tensor._DISPATCH_META_HANDLERS, {_PRIM_DEVICE: phase.device_of})
        )
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_Kernels(phase, record, true_in_row))
        stack.enter_context(calls)
        yield record
