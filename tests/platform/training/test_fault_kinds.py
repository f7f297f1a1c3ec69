"""Whose fault an error is, by messages as they were seen."""

import pytest
import torch

from momo_platform.training.faults import fault_of, first_worker_error, out_of_memory


class _Wrapped(Exception):
    """As Ray Train wraps a worker's error."""

    def __init__(self, base):
        super().__init__(str(base))
        self._base_exc = base


class _Failed(Exception):
    def __init__(self, **failures):
        self.worker_failures = {int(rank.removeprefix("rank")): e for rank, e in failures.items()}


GLOO = "[gloo/transport/tcp/pair.cc:545] Read error [10.0.0.2]:26029: Connection reset by peer."


@pytest.mark.parametrize(
    "error, gone",
    [
        (RuntimeError(GLOO), True),
        (_Wrapped(RuntimeError(GLOO)), True),
        (type("DistBackendError", (RuntimeError,), {})("remote process exited or"), True),
        (RuntimeError("shapes do not match"), False),
        (ConnectionResetError("Connection reset by peer"), False),  # of the code's own socket
        (RuntimeError("gloo: invalid shape"), False),
    ],
)
def test_a_worker_that_lost_its_peer_is_told_from_one_that_failed(error, gone):
    assert (fault_of(error) == "peer") is gone


def test_a_workers_own_error_comes_before_those_of_lost_peers():
    own, peer = _Wrapped(ValueError("bad batch")), _Wrapped(RuntimeError(GLOO))
    assert first_worker_error(_Failed(rank0=peer, rank1=own)) is own
    assert first_worker_error(_Failed(rank0=peer, rank1=peer)) is peer
    assert first_worker_error(own) is own


HINTS = """
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace \
below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1.
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""
NCCL = "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.hpp:268, "
CUDA, BACKEND = torch.AcceleratorError, torch.distributed.DistBackendError
# As users reported them in the issues of PyTorch, NCCL, vLLM, nnU-Net, LlamaFactory and verl.
SEEN = [
    (CUDA, "CUDA error: uncorrectable ECC error encountered" + HINTS, "machine"),
    (RuntimeError, "CUDA error: uncorrectable ECC error encountered" + HINTS, "machine"),
    (
        CUDA,
        "CUDA error: uncorrectable NVLink error detected during the execution" + HINTS,
        "machine",
    ),
    (CUDA, "CUDA error: unspecified launch failure" + HINTS, "machine"),
    (RuntimeError, "DataLoader worker (pid(s) 41) exited unexpectedly", "machine"),
    (RuntimeError, "DataLoader worker (pid 41) is killed by signal: Killed. ", "machine"),
    (CUDA, "CUDA error: CUDA-capable device(s) is/are busy or unavailable" + HINTS, "machine"),
    (RuntimeError, "CUDA error: all CUDA-capable devices are busy or unavailable", "machine"),
    (RuntimeError, "CUDA error: hardware stack error" + HINTS, "machine"),
    (
        RuntimeError,
        "Unable to determine the device handle for GPU0000:34:00.0: GPU is lost.  Reboot the "
        "system to recover this GPU",
        "machine",
    ),
    (CUDA, "CUDA error: device-side assert triggered" + HINTS, "code"),
    (CUDA, "CUDA error: an illegal memory access was encountered" + HINTS, "code"),
    (CUDA, "CUDA error: invalid configuration argument" + HINTS, "code"),
    (RuntimeError, "CUDA error: no kernel image is available for execution on the device", "code"),
    (
        BACKEND,
        "NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:1333, unhandled system "
        "error (run with NCCL_DEBUG=INFO for details), NCCL version 2.18.1\n"
        "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or "
        "device error.",
        "peer",
    ),
    (
        BACKEND,
        NCCL + "remote process exited or there was a network error, NCCL version 2.19.3\n"
        "ncclRemoteError: A call failed possibly due to a network error or a remote process "
        "exiting prematurely.",
        "peer",
    ),
    (BACKEND, NCCL + "internal error - please report this issue\nncclInternalError: ", "peer"),
    (
        BACKEND,
        NCCL + "unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'",
        "memory",
    ),
    (
        BACKEND,
        NCCL + "invalid usage (run with NCCL_DEBUG=WARN for details), NCCL version 2.20.5\n"
        "ncclInvalidUsage: This usually reflects invalid usage of NCCL library.\nLast error:\n"
        "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 10",
        "code",
    ),
    (
        BACKEND,
        "[Rank 6] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=880, OpType="
        "BROADCAST, NumelIn=131137536, NumelOut=131137536, Timeout(ms)=1800000) ran for 1800902 "
        "milliseconds before timing out.",
        "peer",
    ),
    (
        RuntimeError,
        "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting "
        "1800000ms for recv operation to complete",
        "peer",
    ),
    (
        torch.distributed.DistStoreError,
        "Timed out after 1801 seconds waiting for clients. 1/2 clients joined.",
        "peer",
    ),
    (
        torch.OutOfMemoryError,
        "CUDA out of memory. Tried to allocate 22.00 MiB. GPU 0 has a total capacity of 23.65 GiB "
        "of which 11.06 MiB is free.",
        "memory",
    ),
    (RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`", "memory"),
    (
        RuntimeError,
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 1099511627776 bytes. Error code 12 (Cannot allocate memory)",
        "memory",
    ),
    (RuntimeError, "mat1 and mat2 shapes cannot be multiplied (4x5 and 6x7)", "code"),
    (ValueError, "CUDA error: uncorrectable ECC error encountered", "code"),  # of a user's code
]


@pytest.mark.parametrize("kind, message, fault", SEEN)
def test_messages_as_they_were_seen(kind, message, fault):
    assert fault_of(kind(message)) == fault
    assert fault_of(_Wrapped(kind(message))) == fault


def test_the_worker_with_the_broken_device_comes_before_those_that_waited_for_it():
    broken = _Wrapped(CUDA("CUDA error: uncorrectable ECC error encountered" + HINTS))
    waiting = _Wrapped(BACKEND(NCCL + "remote process exited or there was a network error"))
    assert first_worker_error(_Failed(rank0=waiting, rank1=broken)) is broken


def test_cpu_memory_that_is_not_there_is_told_from_a_real_error():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert fault_of(raised.value) == "memory"
    message = str(out_of_memory(raised.value, "stage3"))
    assert message.startswith("stage3: out of memory")
    assert "scaling.activation_checkpointing" in message
    assert "batch_sizes" in message
