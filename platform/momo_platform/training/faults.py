"""Whose fault a worker's error is: the code's, the machine's, a lost peer's, or too little memory.

Neither torch nor Ray is imported: errors are told by their messages and their classes' names.
"""

from __future__ import annotations

from typing import Literal

from momo_platform.stages.errors import UserError

Fault = Literal["code", "machine", "peer", "memory"]
"""`machine` and `peer` (one that tells only of another rank) may go well at a second try; `code`
and `memory` never do."""

SIGNS: tuple[tuple[str, Fault], ...] = (
    # Too little memory, whoever reports it.
    ("out of memory", "memory"),
    ("cublas_status_alloc_failed", "memory"),
    ("defaultcpuallocator: can't allocate memory", "memory"),
    # An index out of range and the like. CUDA's hints name "device-side assertions" in any error.
    ("device-side assert triggered", "code"),
    ("illegal memory access", "code"),
    # NCCL used wrongly: two ranks on one device, unequal calls.
    ("ncclinvalidusage", "code"),
    ("ncclinvalidargument", "code"),
    # The device or its links.
    ("uncorrectable ecc error", "machine"),
    ("uncorrectable nvlink error", "machine"),
    ("nvlink error", "machine"),
    ("unspecified launch failure", "machine"),
    ("unspecified launch error", "machine"),
    ("hardware stack error", "machine"),
    ("cuda error: unknown error", "machine"),
    ("busy or unavailable", "machine"),
    ("cudaerrordevicesunavailable", "machine"),
    ("gpu is lost", "machine"),
    ("fallen off the bus", "machine"),
    ("xid (pci", "machine"),
    ("system not yet initialized", "machine"),  # the fabric manager of an NVSwitch is restarting
    ("launch timed out and was terminated", "machine"),
    ("dataloader worker (pid", "machine"),  # a reader process was killed
    # A collective that did not end.
    ("nccl error", "peer"),
    ("ncclsystemerror", "peer"),
    ("ncclremoteerror", "peer"),
    ("ncclinternalerror", "peer"),
    ("ncclunhandledcudaerror", "peer"),
    ("watchdog caught collective operation timeout", "peer"),
)
"""What a message holds, in lower case, and what that means; the first that fits counts."""

_GONE = (
    *("connection reset by peer", "connection closed by peer", "broken pipe"),
    *("connection refused", "remote process exited", "communicator was aborted"),
    *("timed out waiting", "application timeout caused pair closure", "socket timeout"),
)
"""In a collective's error: the other side is gone or does not answer."""


def cause_of(error: BaseException) -> BaseException:
    """What the worker's code raised, out of Ray Train's wrapper."""
    return getattr(error, "_base_exc", error)


def fault_of(error: BaseException) -> Fault:
    """Whose fault it is; `code` for all that is not known to be another's."""
    cause = cause_of(error)
    if not isinstance(cause, RuntimeError):  # torch's own errors all are
        return "code"
    kind, text = type(cause).__name__, str(cause).lower()
    if kind == "OutOfMemoryError":
        return "memory"
    for sign, fault in SIGNS:
        if sign in text:
            return fault
    distributed = kind.startswith("Dist")
    if distributed or "gloo" in text or "nccl" in text:
        if kind in ("DistBackendError", "DistNetworkError", "DistStoreError"):
            return "peer"
        if any(sign in text for sign in _GONE):
            return "peer"
    return "code"


def first_worker_error(error: BaseException) -> BaseException:
    """The error of the lowest-ranked failed worker inside Ray Train's exception, or itself; one of
    a worker's own before those that only lost their peer: where a machine dies, those that live
    often fail before Ray has noticed."""
    failures = getattr(error, "worker_failures", None)
    if not failures:
        return error
    return failures[min(failures, key=lambda rank: (fault_of(failures[rank]) == "peer", rank))]


def out_of_memory(error: BaseException, name: str) -> UserError:
    """The user's error for a run whose batches do not fit."""
    reason = str(cause_of(error)).strip().partition("\n")[0]
    return UserError(
        f"{name}: out of memory on a worker's device: {reason}\n"
        "Set scaling.activation_checkpointing to elementwise or blocks, scaling.micro_batch_size "
        "(for pairs a multiple of task.matching_group), scaling.resident to false, smaller "
        "train.batch_sizes, or more scaling.num_workers"
    )
