"""Two tasks for networks one can look into: digits, and combinations of two factors, whose truth is known."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from l2e_min.lab.errors import UserError


@dataclass(frozen=True)
class Task:
    """Inputs with one or more answers each; all tensors on the CPU, floats in float64 so that machines agree."""

    name: str
    train_x: Tensor
    """(n, d)"""
    train_y: Tensor
    """(n, H) int64: one answer for each of H questions."""
    test_x: Tensor
    test_y: Tensor
    heads: tuple[int, ...]
    """Number of possible answers of each question; their sum is the width of a network's output."""
    features: tuple[str, ...]
    """Names of the values of the first question: what a hidden unit may be selective for."""
    new_x: Tensor | None = None
    """Inputs of combinations that training never shows, where the task has such."""
    new_y: Tensor | None = None


def digits(seed: int = 0) -> Task:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels in [0, 1]; a fifth of them is the test set."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    a, b, c, d = train_test_split(x / 16, y, test_size=0.2, stratify=y, random_state=seed)
    tensors = [
        torch.from_numpy(np.ascontiguousarray(t))
        for t in (a, c[:, None].astype(np.int64), b, d[:, None].astype(np.int64))
    ]
    return Task("digits", *tensors, heads=(10,), features=tuple(str(i) for i in range(10)))


def combinations(
    values: int = 6, dim: int = 24, n: int = 1500, held_out: int = 12, noise: float = 0.4, seed: int = 0
) -> Task:
    """A planted task: every input is a pair of factors, and a network must name both.

    ``x = Q relu(E[a] + F[b]) + noise``: the two factors are mixed by a non-linearity before a random rotation, so that
    what a factor looks like depends on the other one. ``held_out`` of the ``values ** 2`` pairs never occur in
    training: a network that learns *pairs* fails on them, one that learns the two factors does not. Every value of
    either factor occurs in training.

    Args:
        values: of each factor.
        dim: of the input.
        n: training inputs; half as many test inputs (of the training pairs), and as many of the held-out pairs.
        noise: standard deviation, where the signal of a coordinate has about 1.
    """
    if not 0 < held_out <= values * (values - 1):
        raise UserError(f"held_out must be from 1 to {values * (values - 1)}, got {held_out}")
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, values, 2 * dim))  # E, F
    rotation = rng.normal(size=(2 * dim, dim)) / np.sqrt(dim)
    # A Latin arrangement: the held-out pairs lie on shifted diagonals, so each value loses about as many.
    order, shift = rng.permutation(values), rng.permutation(values)
    diagonal = [(order[i], shift[(i + k) % values]) for k in range(values) for i in range(values)]
    new, known = np.array(diagonal[:held_out]), np.array(diagonal[held_out:])

    def draw(pairs, count):
        y = pairs[rng.integers(len(pairs), size=count)]  # (count, 2)
        clean = np.maximum(first[y[:, 0]] + second[y[:, 1]], 0) @ rotation
        return torch.from_numpy(clean - clean_mean) / clean_std + noise * torch.from_numpy(
            rng.normal(size=clean.shape)
        ), torch.from_numpy(y.astype(np.int64))

    everything = np.array([(a, b) for a in range(values) for b in range(values)])
    signal = np.maximum(first[everything[:, 0]] + second[everything[:, 1]], 0) @ rotation
    clean_mean, clean_std = signal.mean(0), signal.std()
    names = tuple(f"a{i}" for i in range(values))
    train, test, unseen = draw(known, n), draw(known, n // 2), draw(new, n // 2)
    return Task("combinations", *train, *test, (values, values), names, *unseen)


def smaller(task: Task, n: int) -> Task:
    """The same task with the first ``n`` training inputs."""
    return replace(task, train_x=task.train_x[:n], train_y=task.train_y[:n])
