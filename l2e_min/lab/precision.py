"""Which arithmetic a device is quick at."""

import torch


def quick_bf16(device: str) -> bool:
    """Whether ``device`` ("cpu" or "cuda") has instructions for bfloat16.

    Without them PyTorch computes a matrix product of bfloat16 numbers one by one: on a CPU with AVX2 and no AVX-512, as
    most laptops have, 40 times slower than in float32.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    asked = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # what PyTorch's own kernels are chosen by
    return bool(asked and asked())


def own_precision(device: str) -> str:
    """The quickest of "bf16", "fp16" and "fp32" in which a model can be trained on ``device``."""
    if quick_bf16(device):
        return "bf16"
    return "fp16" if device == "cuda" else "fp32"  # older GPUs (T4, V100) have float16 alone
