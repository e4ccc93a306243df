"""The arithmetic that a run takes by itself: bf16 only where the device has it."""

import pytest
import torch

from l2e_min.lab import precision
from l2e_min.lab.training.recipe import PretrainSettings


@pytest.mark.parametrize(
    ("device", "bf16", "taken"),
    [("cpu", True, "bf16"), ("cpu", False, "fp32"), ("cuda", True, "bf16"), ("cuda", False, "fp16")],
)
def test_a_device_without_bf16_gets_what_it_is_quick_at(device, bf16, taken, monkeypatch):
    monkeypatch.setattr(precision, "quick_bf16", lambda asked: bf16 and asked == device)
    assert precision.own_precision(device) == taken


def test_what_is_recorded_is_what_was_used(monkeypatch):
    monkeypatch.setattr(precision, "quick_bf16", lambda device: False)
    assert PretrainSettings(size="16x2", device="cpu").as_dict()["precision"] == "fp32"
    assert PretrainSettings(size="16x2", device="cpu", precision="bf16").precision == "bf16", "who asks for it gets it"


def test_a_pytorch_that_cannot_say_gets_float32(monkeypatch):
    class Silent:
        pass

    monkeypatch.setattr(torch.ops, "mkldnn", Silent(), raising=False)
    assert not precision.quick_bf16("cpu")


def test_the_answer_agrees_with_the_clock():
    """Where bf16 is not said to be quick it is many times slower, and where it is said to be, it is not."""
    import time

    def seconds(kind):
        a, b = torch.ones(512, 128, dtype=kind), torch.ones(128, 512, dtype=kind)
        times = []
        for _ in range(4):
            begin = time.thread_time()
            torch.mm(a, b)
            times.append(time.thread_time() - begin)
        return min(times)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ratio = seconds(torch.bfloat16) / seconds(torch.float32)
    finally:
        torch.set_num_threads(before)
    assert (ratio < 5) == precision.quick_bf16("cpu"), f"bf16 takes {ratio:.1f} times float32's time here"
