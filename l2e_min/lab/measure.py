"""The values of a model's neurons on texts: what every measurement of the book starts from (METHOD 1 and 4)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from l2e_min.lab.errors import UserError
from l2e_min.sites import Site, mlp_sites

AGGREGATES = ("mean", "max", "last")
"""How the tokens of a text become one value: their mean (the best, see the book), their maximum, or the last one's."""


def neuron_values(
    model: nn.Module,
    tokenizer,
    texts: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    aggregate: str = "mean",
    batch_size: int = 64,
    progress: bool = True,
) -> Tensor:
    """One value for each text, layer and neuron: (n_texts, n_layers, n_neurons), float32, on the CPU.

    A neuron's value is the input of its block's second linear layer (G23's site), aggregated over the tokens of the
    text by ``aggregate``: "mean", "max" or "last". Padding takes no part, so a text's value does not depend on its
    batch (up to rounding). Texts longer than the model's context are cut. ``layers`` picks blocks by number
    (default: all), negative from the end. The model is measured in evaluation mode and left in the mode it had.

    Raises ``UserError`` for no texts, a text without tokens, an unknown aggregate, a layer that is not there.
    """
    values = None
    for rows, z in value_batches(
        model, tokenizer, texts, layers=layers, aggregate=aggregate, batch_size=batch_size, progress=progress
    ):
        values = torch.empty(len(texts), *z.shape[1:]) if values is None else values
        values[rows] = z
    return values


def value_batches(
    model: nn.Module,
    tokenizer,
    texts: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    aggregate: str = "mean",
    batch_size: int = 64,
    progress: bool = True,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batch by batch, for models whose values do not fit into memory together.

    Yields the numbers of a batch's texts (b,) and their values (b, n_layers, n_neurons); every text comes once.
    """
    from tqdm.auto import tqdm

    if aggregate not in AGGREGATES:
        raise UserError(f"no such aggregate: {aggregate!r}; expected one of {', '.join(AGGREGATES)}")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    sites = pick_sites(model, layers)
    ids = token_ids(model, tokenizer, texts)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # texts of one length together: little padding
    with tqdm(total=len(ids), desc="neurons", unit="text", disable=not progress, leave=False) as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            padded, mask = pad([ids[i] for i in batch])  # (b, t) both
            z = torch.empty(len(batch), len(sites), width(sites[0]))

            def keep(layer: int, tokens: Tensor, z=z, mask=mask) -> None:  # tokens: (b, t, n_neurons)
                z[:, layer] = reduce_tokens(tokens, mask, aggregate).cpu()

            with watching(sites, keep):
                run(model, padded, mask)
            yield torch.tensor(batch), z
            bar.update(len(batch))


def token_values(model: nn.Module, tokenizer, text: str, *, layers: Sequence[int] | None = None):
    """The tokens of one text as strings, and the value of each neuron on each: (n_tokens, n_layers, n_neurons)."""
    sites = pick_sites(model, layers)
    ids = token_ids(model, tokenizer, [text])[0]
    values = torch.empty(len(ids), len(sites), width(sites[0]))

    def keep(layer: int, z: Tensor) -> None:  # z: (1, t, n_neurons)
        values[:, layer] = z[0].float().cpu()

    with watching(sites, keep):
        run(model, torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long))
    return [tokenizer.decode([i]) for i in ids], values


def reduce_tokens(z: Tensor, mask: Tensor, aggregate: str) -> Tensor:
    """(b, t, n_neurons) and mask (b, t) to (b, n_neurons), float32, over the tokens where the mask is 1."""
    z, valid = z.float(), mask.to(z.device).bool()  # (b, t, N), (b, t)
    if aggregate == "mean":
        return z.masked_fill(~valid[..., None], 0).sum(1) / valid.sum(1, keepdim=True)
    if aggregate == "max":
        return z.masked_fill(~valid[..., None], -torch.inf).amax(1)
    last = valid.sum(1) - 1  # rows are padded on the right
    return z[torch.arange(len(z), device=z.device), last]


def pick_sites(model: nn.Module, layers: Sequence[int] | None) -> list[Site]:
    """The MLP blocks with these numbers; all of them for None."""
    sites = mlp_sites(model)
    if not sites:
        raise UserError(f"no MLP blocks known in {type(model).__name__}; expected a transformer of Hugging Face")
    if layers is None:
        return sites
    for layer in layers:
        if not -len(sites) <= layer < len(sites):
            raise UserError(f"no layer {layer}: the model has {len(sites)}, numbered from 0")
    if not len(layers):
        raise UserError("layers is empty; expected block numbers, or None for all")
    return [sites[layer] for layer in layers]


def width(site: Site) -> int:
    """Neurons of a block: the inputs of its second linear layer."""
    weight = site.module.weight
    return weight.shape[0] if type(site.module).__name__ == "Conv1D" else weight.shape[1]  # GPT-2 transposes


def token_ids(model: nn.Module, tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, cut at the model's context."""
    if isinstance(texts, str):
        raise UserError("texts is one string; expected a list of texts")
    if not len(texts):
        raise UserError("no texts to measure; expected at least one")
    context = getattr(model.config, "max_position_embeddings", None)
    cut = {"truncation": True, "max_length": context} if context else {}
    ids = tokenizer(list(texts), add_special_tokens=True, **cut)["input_ids"]
    for number, row in enumerate(ids):
        if not row:
            raise UserError(f"text {number} is empty; expected texts of at least one token")
    return ids


def pad(ids: Sequence[list[int]], width: int | None = None) -> tuple[Tensor, Tensor]:
    """Ids (b, t) filled up on the right, and the mask (b, t) of the real ones. What fills up is 0, and masked.

    ``width``: t; by default the longest row's.
    """
    mask = torch.zeros(len(ids), width or max(map(len, ids)), dtype=torch.long)
    padded = torch.zeros_like(mask)
    for row, values in enumerate(ids):
        padded[row, : len(values)] = torch.tensor(values)
        mask[row, : len(values)] = 1
    return padded, mask


@contextmanager
def watching(sites: Sequence[Site], keep: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Hands the input of each site to ``keep(number, z)`` while the block lasts."""
    hooks = []
    try:
        for number, site in enumerate(sites):
            hook = lambda _module, inputs, number=number: keep(number, inputs[0].detach())  # noqa: E731
            hooks.append(site.module.register_forward_pre_hook(hook))
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def run(model: nn.Module, ids: Tensor, mask: Tensor) -> None:
    """One pass without the language-model head, in evaluation mode."""
    training, body = model.training, getattr(model, "base_model", model)
    device = next(model.parameters()).device
    model.eval()
    try:
        body(input_ids=ids.to(device), attention_mask=mask.to(device))
    finally:
        model.train(training)
