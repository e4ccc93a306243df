"""The random state of a process, as tensors that a checkpoint can hold.

The order of the text is a function of the step and needs no state; what is kept here serves methods that draw at
random.
"""

import random

import numpy as np
import torch


def seed_generators(seed: int) -> None:
    """Seeds PyTorch's, NumPy's global and Python's generators, for methods that draw at random."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def random_state() -> dict:
    """The states of PyTorch's, NumPy's global and Python's generators."""
    version, numbers, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, torch.tensor(numbers), gauss],
        "numpy": [torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
    }


def restore_random_state(state: dict) -> None:
    """Puts back what ``random_state`` took; GPU states only where the same number of GPUs is there."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
