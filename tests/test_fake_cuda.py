"""What the fake CUDA device tells, beside what is known of the real one."""

import pytest
import torch
from fake_cuda import MISSING, fake_cuda

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def test_two_devices_in_one_operator_are_an_error():
    with fake_cuda(), pytest.raises(RuntimeError, match="cuda:0"):
        torch.ones(3, device="cuda") + torch.ones(3)


def waits(function) -> list[str]:
    with fake_cuda() as record:
        tensor = torch.ones(4, 3, device="cuda")
        with record.measure() as measured:
            function(tensor)
    return [what for what, _ in measured.waits.elements()]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda t: t.sum().item(), ["item"]),
        (lambda t: bool(t.any()), ["item"]),
        (lambda t: t.tolist(), ["tolist"]),
        (lambda t: t.nonzero(), ["positions of a mask (nonzero)"]),
        (lambda t: t[t > 0], ["positions of a mask (nonzero)"]),
        (lambda t: t[torch.tensor([0, 1])], ["copy to the device"]),
        (lambda t: t.cpu(), ["copy from the device"]),
        (lambda t: torch.tensor(1.0, device="cuda"), ["copy to the device"]),
        (lambda t: torch.cuda.synchronize(), ["synchronize"]),
        # Without waiting:
        (lambda t: t.to("cpu", non_blocking=True), []),
        (lambda t: t.new_full((), 1.0), []),
        (lambda t: t.__setitem__(t > 0, 0.0), []),
        (lambda t: t.gather(1, torch.zeros(4, 1, dtype=torch.int64, device="cuda")), []),
    ],
)
def test_what_waits_for_the_device(function, expected):
    assert waits(function) == expected


def test_products_and_storages_are_counted():
    with fake_cuda() as record:
        with torch.device("cuda"):
            layer = torch.nn.Linear(32, 64, bias=False)
            x = torch.ones(16, 32)
        before = record.live_bytes
        assert before == 4 * (32 * 64 + 16 * 32)
        with record.measure() as measured:
            layer(x).sum().backward()
    assert measured.flops == 2 * (2 * 16 * 32 * 64)  # the layer and its weights' gradient
    assert measured.live_bytes - before == 4 * 32 * 64
    assert measured.peak_bytes >= before + 4 * 32 * 64


def test_autocast_and_flash_attention_are_the_gpus():
    with fake_cuda() as record:
        with torch.device("cuda"):
            layer, x = torch.nn.Linear(16, 16), torch.ones(2, 4, 8, 16)
        with record.measure() as measured, torch.autocast("cuda", torch.bfloat16):
            q = layer(x)
            seen = torch.nn.functional.scaled_dot_product_attention(q, q, q)
        assert q.dtype is seen.dtype is torch.bfloat16
        assert (q.is_cuda, q.device.type) == (True, "cuda")
    assert measured.flops == 2 * 64 * 16 * 16 + 2 * (2 * 8 * (8 * 8 * 16))


def test_attention_of_unequal_sequences_sees_as_many_keys_as_the_longest_has():
    from torch.nn.attention.varlen import varlen_attn

    with fake_cuda() as record:
        with torch.device("cuda"):
            shift = torch.nn.Parameter(torch.zeros(2, 8))
            tokens, starts = torch.ones(10, 2, 8), torch.zeros(3, dtype=torch.int32)
        with record.measure() as measured:
            query = (tokens + shift).bfloat16()
            found = varlen_attn(query, query, query, starts, starts, 6, 6)
            found.sum().backward()
    product = 2 * 10 * 6 * 2 * 8
    assert measured.flops == (2 + 5) * product
