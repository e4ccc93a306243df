"""Which (input, neuron) pairs are inhibited: the k largest, or all above a moving threshold."""

import torch
from torch import Tensor, nn

from l2e_min.monosemanticity import checked_share, pairs_in_share


class TopK(nn.Module):
    """The pairs with the largest phi (W24 Algorithm 2; W25's baseline), by selection: O(N) per input and slow.

    Args:
        k: that many pairs of each sample, a sample being one index of axis 0; top-1 is W24's MEmeL.
        share: instead, that share of all pairs of the batch, in (0, 1].
    """

    def __init__(self, k: int | None = None, share: float | None = None):
        super().__init__()
        if (k is None) == (share is None):
            raise ValueError(
                f"got k={k} and share={share}; expected exactly one of them, such as TopK(k=1) or TopK(share=0.02)"
            )
        if k is not None and (not isinstance(k, int) or k < 1):
            raise ValueError(f"k is {k!r}; expected a whole number of at least 1")
        self.k, self.share = k, None if share is None else checked_share(share)

    def forward(self, phi: Tensor) -> Tensor:
        """Boolean mask in the shape of ``phi`` (..., N). Which of equal values are taken is arbitrary; NaN never is."""
        if self.share is not None:
            rows = phi.reshape(1, -1)  # (1, all pairs)
            k = pairs_in_share(self.share, rows.shape[1])
        else:
            rows = phi.reshape(phi.shape[0], -1)  # (samples, pairs of one)
            k = min(self.k, rows.shape[1])
        rows = rows.masked_fill(rows.isnan(), -torch.inf)  # topk would rank NaN first
        values, index = rows.topk(k, dim=1, sorted=False)  # (samples, k)
        mask = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, index, values > -torch.inf)
        return mask.reshape(phi.shape)

    def extra_repr(self) -> str:
        return f"k={self.k}" if self.share is None else f"share={self.share}"


class MovingThreshold(nn.Module):
    """One scalar threshold for a layer that moves until the wanted share of phi lies above it (W25 section 4.2).

    Comparing costs one pass, moving it is O(1). A batch rich in monosemantic values is inhibited more than a poor one;
    only the share over many batches is held. W25 gives no formula for the step. Ours [our choice] is a Robbins-Monro
    step in log space, where tau is positive by construction and "fifty times too high" is as near as "fifty times too
    low":

        u = clip((share_above - k) / k, -1, 2)          relative error of this batch
        rate *= 1.3 if u has the sign of the last u, else 0.75          kept in [0.05, 0.3]
        log tau += rate * u

    The step is linear in ``share_above`` around k, so noise from batch to batch does not bias the share that is held.
    The rate follows Kesten (Ann. Math. Statist. 29, 1958): errors of one sign mean that tau is behind, so hurry; errors
    that alternate mean that it is there, so be calm. -1 is the most an empty selection can say; 2 keeps one crowded
    batch from throwing tau far out.

    Args:
        share: k, the wanted share of pairs, in (0, 1].
        start: first tau. Default: the value that would be right if the activations were Gaussian.
    """

    SLOW, FAST = 0.05, 0.3  # 0.05 averages over some 20 batches; 0.3 is stable down to a share of 0.1 %
    FASTER, SLOWER = 1.3, 0.75  # a little below 1/1.3: noise alone lets the rate fall, to some 0.14 on real batches

    def __init__(self, share: float = 0.02, start: float | None = None):
        super().__init__()
        self.share = checked_share(share)
        if start is None:  # P(z^2 >= tau) = share for a standard normal z
            start = float(2 * torch.special.erfinv(torch.tensor(1 - share, dtype=torch.float64)) ** 2)
            start = min(max(start, 1e-6), 1e6)
        if not 0 < start < float("inf"):
            raise ValueError(f"start is {start}; expected a positive number, a value of phi")
        self.register_buffer("log_tau", torch.tensor(start, dtype=torch.float64).log().float())
        self.register_buffer("rate", torch.tensor(self.FAST, dtype=torch.float32))
        self.register_buffer("last_error", torch.tensor(0.0, dtype=torch.float32))

    @property
    def tau(self) -> Tensor:
        """The threshold now, a scalar in the unit of phi."""
        return self.log_tau.exp()

    def forward(self, phi: Tensor) -> Tensor:
        """Boolean mask ``phi >= tau`` in the shape of ``phi``; then, in training mode only, moves tau.

        The batch is judged by the threshold that the batches before it have set.
        """
        mask = phi >= self.tau
        if self.training and mask.numel():
            self.move(torch.count_nonzero(mask) / mask.numel())
        return mask

    @torch.no_grad()
    def move(self, share_above: Tensor, ok: Tensor | None = None) -> None:
        """Moves tau after a batch with ``share_above`` (scalar) of its pairs selected.

        ``ok``: boolean scalar; where it is false, nothing changes at all. None: true.
        """
        error = ((share_above - self.share) / self.share).clamp(-1, 2)  # u
        same_sign = error * self.last_error > 0
        rate = (self.rate * torch.where(same_sign, self.FASTER, self.SLOWER)).clamp(self.SLOW, self.FAST)
        log_tau = (self.log_tau + rate * error).clamp(-80, 80)  # exp stays a normal float32
        for buffer, new in ((self.rate, rate), (self.log_tau, log_tau), (self.last_error, error)):
            buffer.copy_(new if ok is None else torch.where(ok, new, buffer))

    def extra_repr(self) -> str:
        return f"share={self.share}, tau={self.tau.item():.3g}"
