"""Switching neurons off and reading the loss (W24's slides, claim C06): what does a model lose without them?

A neuron is switched off by holding it at one value on every token: at its mean, it says nothing about the text.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from l2e_min.lab.errors import UserError
from l2e_min.lab.measure import pad, pick_sites, token_ids, width
from l2e_min.sites import Site

IGNORED = -100
"""The target that ``cross_entropy`` skips."""


@contextmanager
def held_at(model: nn.Module, neurons, values) -> Iterator[None]:
    """Holds ``neurons`` (K, 2) of (layer, neuron) at ``values`` (K,) on every token while the block lasts.

    Arrays or tensors; layers and neurons are numbered from 0. The model's weights stay as they are. No neurons: nothing
    happens. Raises ``UserError`` for a neuron that is not there or named twice, and for values that do not fit.
    """
    sites = pick_sites(model, None)
    neurons, values = checked_group(sites, neurons, values)
    hooks = []
    try:
        for layer in neurons[:, 0].unique().tolist():
            mine = neurons[:, 0] == layer
            hook = holding(neurons[mine, 1], values[mine])
            hooks.append(sites[layer].module.register_forward_pre_hook(hook))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def text_losses(
    model: nn.Module, tokenizer, texts: Sequence[str], *, batch_size: int = 64, progress: bool = False
) -> tuple[Tensor, Tensor]:
    """``(losses, tokens)`` of each text: the sum of its next-token losses in nats, and how many tokens were predicted.

    (n,) float64 and (n,) int64, on the CPU, in the order of the texts. The first token of a text is predicted by
    nothing, so a text of one token has loss 0 over 0 tokens. Padding takes no part; texts longer than the model's
    context are cut. The model is measured in evaluation mode and left in the mode it had. Only one batch of logits is
    held at a time. Raises ``UserError`` for no texts, a text without tokens, and a model without a next token.
    """
    return losses_of(model, token_ids(model, tokenizer, texts), batch_size, progress)


def rises(
    model: nn.Module,
    tokenizer,
    texts: Sequence[str],
    labels,
    groups: Sequence,
    values: Sequence,
    *,
    baseline: tuple[Tensor, Tensor] | None = None,
    only_own: bool = False,
    batch_size: int = 64,
    progress: bool = False,
) -> Tensor:
    """(L, L) float64, nats per token: ``[g, l]`` is how much the loss on feature l rises with group g switched off.

    The diagonal is C06's rise: a feature's own neurons off, the loss on that feature (W24's slides, Figure 2).

    Args:
        labels: (n,) feature of each text, 0 to L - 1.
        groups: L arrays (K, 2), the neurons of each feature; ``values``: L arrays (K,), what they are held at.
        baseline: ``text_losses`` of the same texts with nothing held, so that many groups share one measurement.
        only_own: measure the diagonal alone, (L,): each group on its own feature's texts, L times cheaper.

    A feature's loss is the sum over its texts over the number of its tokens. Raises ``UserError`` as ``held_at`` and
    ``text_losses`` do, and for labels, groups or a baseline that do not fit the texts.
    """
    from tqdm.auto import tqdm

    ids = token_ids(model, tokenizer, texts)
    labels, n_tokens = checked_labels(labels, ids, len(groups))  # (n,), (L,)
    if len(values) != len(groups):
        raise UserError(f"got {len(groups)} groups of neurons and values for {len(values)}; expected one for one")
    sites = pick_sites(model, None)
    for neurons, held in zip(groups, values, strict=True):
        checked_group(sites, neurons, held)  # a bad group is named before the measuring, not after hours of it
    before, tokens = losses_of(model, ids, batch_size) if baseline is None else baseline  # (n,) both
    if tokens.tolist() != [len(row) - 1 for row in ids]:
        raise UserError("the baseline is of other texts; expected text_losses of the same texts, in the same order")
    rise = torch.zeros(len(groups), len(groups), dtype=torch.float64)
    for g in tqdm(range(len(groups)), desc="groups off", unit="group", disable=not progress, leave=False):
        rows = (labels == g).nonzero()[:, 0] if only_own else torch.arange(len(ids))
        with held_at(model, groups[g], values[g]):
            after, _ = losses_of(model, [ids[i] for i in rows], batch_size)
        rise[g].index_add_(0, labels[rows], after - before[rows])
    rise /= n_tokens
    return rise.diagonal().clone() if only_own else rise


def holding(neurons: Tensor, values: Tensor) -> Callable:
    """A forward pre-hook that holds these entries (K,) of a module's input (..., N) at values (K,)."""

    def hook(_module, inputs):
        z = inputs[0].clone()  # others may hold the activation itself
        z[..., neurons.to(z.device)] = values.to(z)
        return (z, *inputs[1:])

    return hook


@torch.no_grad()
def losses_of(model: nn.Module, ids: list[list[int]], batch_size: int, progress: bool = False):
    """``text_losses`` of token ids."""
    from tqdm.auto import tqdm

    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    if not (hasattr(model, "can_generate") and model.can_generate()):
        raise UserError(f"{type(model).__name__} predicts no next token; expected a causal language model")
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # texts of one length together: little padding
    losses = torch.zeros(len(ids), dtype=torch.float64)
    training, device = model.training, next(model.parameters()).device
    bar = tqdm(total=len(ids), desc="losses", unit="text", disable=not progress, leave=False)
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            padded, mask = pad([ids[i] for i in batch])  # (b, t) both
            targets = padded.masked_fill(mask == 0, IGNORED).roll(-1, dims=1)  # (b, t): the token that follows
            targets[:, -1] = IGNORED
            logits = model(input_ids=padded.to(device), attention_mask=mask.to(device), use_cache=False).logits
            flat, wanted = logits.flatten(0, 1).float(), targets.flatten().to(logits.device)  # (b t, V), (b t,)
            loss = nn.functional.cross_entropy(flat, wanted, ignore_index=IGNORED, reduction="none")
            losses[batch] = loss.view(targets.shape).cpu().double().sum(1)
            bar.update(len(batch))
    finally:
        model.train(training)
        bar.close()
    return losses, torch.tensor([len(row) - 1 for row in ids])


def checked_group(sites: list[Site], neurons, values) -> tuple[Tensor, Tensor]:
    """neurons (K, 2) int64 and values (K,) float64, after checking that they name neurons of these sites, once each."""
    neurons, values = torch.as_tensor(neurons).cpu(), torch.as_tensor(values).cpu().double()
    if neurons.numel() == 0:
        neurons = torch.empty(0, 2, dtype=torch.long)  # an empty list has neither columns nor a whole number's type
    if neurons.ndim != 2 or neurons.shape[1] != 2 or neurons.is_floating_point() or neurons.dtype == torch.bool:
        raise UserError(
            f"neurons are {tuple(neurons.shape)} of {neurons.dtype}; expected (K, 2) whole numbers: layer, neuron"
        )
    if values.shape != neurons.shape[:1]:
        raise UserError(f"got values {tuple(values.shape)} for {len(neurons)} neurons; expected one value a neuron")
    if not values.isfinite().all():
        raise UserError("the values to hold neurons at have NaN or infinity")
    layers, numbers = neurons.T.tolist()
    for layer, number in zip(layers, numbers, strict=True):
        if not 0 <= layer < len(sites):
            raise UserError(f"no layer {layer}: the model has {len(sites)}, numbered from 0")
        if not 0 <= number < width(sites[layer]):
            raise UserError(f"no neuron {number} in layer {layer}: it has {width(sites[layer])}, numbered from 0")
    if len(set(zip(layers, numbers, strict=True))) < len(layers):
        raise UserError("a neuron is named twice; it can be held at one value only")
    return neurons.long(), values


def checked_labels(labels, ids: list[list[int]], n_features: int) -> tuple[Tensor, Tensor]:
    """labels (n,) int64 and the predicted tokens of each feature (L,), after checking that every feature has some."""
    labels = torch.as_tensor(labels).cpu()
    if labels.shape != (len(ids),) or labels.is_floating_point():
        raise UserError(f"got labels {tuple(labels.shape)} of {labels.dtype} for {len(ids)} texts; expected one each")
    labels = labels.long()
    if labels.min() < 0 or labels.max() >= n_features:
        raise UserError(
            f"labels run from {labels.min()} to {labels.max()}, with {n_features} groups; expected a group a feature"
        )
    n_tokens = torch.zeros(n_features, dtype=torch.long).index_add_(0, labels, torch.tensor([len(r) - 1 for r in ids]))
    if (n_tokens == 0).any():
        raise UserError(f"feature {int(n_tokens.argmin())} has no token to predict; expected texts of 2 tokens or more")
    return labels, n_tokens
