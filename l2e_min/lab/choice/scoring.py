"""Log-likelihoods of continuations: a context is read once, whatever the number of its choices."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from l2e_min.lab.errors import UserError
from l2e_min.lab.measure import pad


@torch.no_grad()
def loglikelihoods(
    model: nn.Module,
    contexts: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    batch_size: int = 32,
) -> Tensor:
    """Log-likelihood in nats of each choice after its context: (n, k), float32.

    contexts: n lists of token ids, none empty; choices: for each, k lists of ids, none empty. The context runs through
    the model once and its keys and values serve the k choices; contexts of one length run together, so that only
    choices are padded, on the right, where a causal model does not look. `model`: as `transformers` has them, measured
    in evaluation mode and left in the mode it had. Raises UserError where a number comes out that is none.
    """
    out = torch.empty(len(contexts), len(choices[0]) if len(choices) else 0)
    by_length = defaultdict(list)
    for i, context in enumerate(contexts):
        by_length[len(context)].append(i)
    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        for same in by_length.values():
            same.sort(key=lambda i: max(map(len, choices[i])))  # little padding
            for start in range(0, len(same), batch_size):
                rows = same[start : start + batch_size]
                ids = torch.tensor([list(contexts[i]) for i in rows], device=device)
                flat = [list(choice) for i in rows for choice in choices[i]]
                out[rows] = _score(model, ids, flat).view(len(rows), -1).cpu()
    finally:
        model.train(training)
    if not out.isfinite().all():
        raise UserError("the model gives scores that are not finite: its weights or its training are broken")
    return out


def _score(model: nn.Module, contexts: Tensor, choices: list[list[int]]) -> Tensor:
    """contexts (b, t), and b * k choices in their order: (b * k,)."""
    each = len(choices) // len(contexts)
    tokens, mask = (x.to(contexts.device) for x in pad(choices))  # (b k, s) both
    read = model(input_ids=contexts, use_cache=True, logits_to_keep=1)
    first = read.logits[:, -1:].float().repeat_interleave(each, 0)  # (b k, 1, V): predicts each choice's first token
    total = _log_probability(first, tokens[:, :1])[:, 0]
    if tokens.shape[1] > 1:
        cache = read.past_key_values
        cache.batch_repeat_interleave(each)
        later = model(input_ids=tokens[:, :-1], past_key_values=cache, use_cache=True).logits.float()  # (b k, s - 1, V)
        total += (_log_probability(later, tokens[:, 1:]) * mask[:, 1:]).sum(1)
    return total


def _log_probability(logits: Tensor, tokens: Tensor) -> Tensor:
    """logits (b, s, V) and tokens (b, s): natural log of the tokens' probabilities, (b, s)."""
    return logits.gather(2, tokens[..., None])[..., 0] - logits.logsumexp(2)
