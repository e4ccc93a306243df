"""Mean and variance of every neuron, kept online in O(1) time and memory per batch (W24 Lemma 3.2, Algorithm 1)."""

import torch
from torch import Tensor, nn

from l2e_min.fused import BatchSums, batch_sums


class RunningMoments(nn.Module):
    """Running mean and sample variance of N neurons.

    Args:
        n_neurons: N, the size of the last axis of what will be given to :meth:`update`.
        forget_after: n_f of W24 C.1, in batches. From that batch on the past counts as ``n_f`` batches of the present
            size, so that old values fade while the model moves. None: nothing is forgotten.
        dtype: of the moments, float32 or float64. Activations of any floating dtype are brought to it first; half
            precision is refused, because ``E[z^2] - E[z]^2`` drowns in its rounding.

    Attributes (buffers, no parameters):
        mean: (N,) in the unit of the activations.
        var: (N,) sample variance, divisor ``count - 1``; NaN while ``count`` < 2.
        count: scalar int64, the number m of inputs the moments stand for.
        batches: scalar int64, the batches taken in.
        skipped: scalar int64, the batches left out because they held a NaN or an infinity.
    """

    def __init__(self, n_neurons: int, forget_after: int | None = None, dtype: torch.dtype = torch.float32):
        super().__init__()
        if not isinstance(n_neurons, int) or n_neurons < 1:
            raise ValueError(f"n_neurons is {n_neurons!r}; expected a whole number of at least 1")
        if forget_after is not None and forget_after < 1:
            raise ValueError(f"forget_after is {forget_after!r}; expected a number of batches of at least 1, or None")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype is {dtype}; moments need torch.float32 or torch.float64")
        self.n_neurons, self.forget_after = n_neurons, forget_after
        self.register_buffer("mean", torch.zeros(n_neurons, dtype=dtype))
        self.register_buffer("var", torch.full((n_neurons,), torch.nan, dtype=dtype))
        for name in ("count", "batches", "skipped"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def flat(self, z: Tensor) -> Tensor:
        """``z`` as (inputs, N), or a ValueError that says which shape was expected."""
        if z.ndim < 1 or z.shape[-1] != self.n_neurons:
            raise ValueError(
                f"the values have shape {tuple(z.shape)}; expected (..., {self.n_neurons}), neurons in the last axis"
            )
        if not z.is_floating_point():
            raise ValueError(f"the values are {z.dtype}; expected a floating dtype")
        return z.detach().reshape(-1, self.n_neurons)  # (b, N)

    @torch.no_grad()
    def update(self, z: Tensor) -> None:
        """Takes in one batch. ``z``: (..., N); every leading axis counts as inputs. An empty batch changes nothing.

        A batch with a NaN or an infinity anywhere is left out whole and counted in ``skipped``: the moments stay what
        the finite batches made them, without a look at the values from the host.
        """
        z = self.flat(z)
        if len(z):
            centre = self.centre(z)
            self.update_from_sums(len(z), batch_sums(z, centre), centre)

    def centre(self, z: Tensor) -> Tensor:
        """(N,) what to subtract before summing: the mean so far, or, before the first batch, its first input.

        Any centre gives the same moments on paper. One near the data keeps ``sum d^2 - (sum d)^2 / b`` from
        cancelling when the mean is large and the variance tiny.
        """
        first = z[0].to(self.mean.dtype) if len(z) else self.mean
        return torch.where(self.count > 0, self.mean, first)

    @torch.no_grad()
    def update_from_sums(self, b: int | Tensor, sums: BatchSums, centre: Tensor) -> Tensor:
        """Lemma 3.2 from the sums of ``d = z - centre`` and ``d^2`` over a batch of ``b`` inputs (a number, or int64).

        Returns a boolean scalar: whether the batch was finite and not empty, and so was taken in.
        """
        batch_mean = sums.d / b  # (N,) mu' - centre
        batch_var = (sums.d2 / b - batch_mean.square()).clamp_min(0)  # (N,) v', divisor b
        count = self.count
        if self.forget_after is not None:  # W24 C.1: from batch n_f on, m = n_f * b
            count = torch.where(self.batches >= self.forget_after, self.forget_after * b, count)
        finite = ((sums.d2 + sums.d).abs() < torch.inf).all()  # false for NaN, too
        ok = finite & (b > 0) if isinstance(b, Tensor) else finite
        # mu' - mu. Grouped so that nothing is lost where the centre is the mean, nor where the mean is still 0.
        self._combine(count, b, (centre - self.mean) + batch_mean, batch_var, ok)
        self.batches.add_(ok)
        self.skipped.add_(~finite)
        return ok

    @torch.no_grad()
    def merge(self, other: "RunningMoments") -> None:
        """Takes in the inputs that ``other`` has seen, as if they had come here: the same lemma, on two moments."""
        if other.n_neurons != self.n_neurons:
            raise ValueError(f"cannot merge moments of {other.n_neurons} neurons into moments of {self.n_neurons}")
        b = other.count
        safe_b = b.clamp_min(1)
        population_var = torch.where(b > 1, other.var, 0) * (b - 1) / safe_b  # v', divisor b
        self._combine(self.count, b, other.mean.to(self.mean) - self.mean, population_var.to(self.mean), ok=b > 0)
        self.batches += other.batches
        self.skipped += other.skipped

    def _combine(self, m: Tensor, b: int | Tensor, delta: Tensor, batch_var: Tensor, ok: Tensor) -> None:
        # W24 Lemma 3.2: m old inputs (mean, var), b new ones; delta = mu' - mu, batch_var = v' (divisor b).
        # m b / (m + b) is formed in float64: as an integer the product would overflow past 2^31 inputs on both sides.
        m_f = m.to(torch.float64)
        b_f = b.to(torch.float64) if isinstance(b, Tensor) else float(b)
        total = (m_f + b_f).clamp_min(1)
        share = b_f / total
        between = m_f * share * delta.square()
        within = b_f * batch_var + torch.where(m > 1, (m_f - 1) * self.var, 0)
        new_var = (between + within) / (total - 1)  # of a single input 0/0: NaN, there is no variance
        self.var.copy_(torch.where(ok, new_var, self.var))
        self.mean.copy_(torch.where(ok, self.mean + share * delta, self.mean))
        self.count.copy_(torch.where(ok, m + b, self.count))

    def extra_repr(self) -> str:
        return f"{self.n_neurons}, forget_after={self.forget_after}, dtype={self.mean.dtype}"
