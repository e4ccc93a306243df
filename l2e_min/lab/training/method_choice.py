"""Which pretraining methods there are, and what each of them may be told: names and defaults, no computing."""

import re

from l2e_min.lab.errors import UserError

DEACTIVATING = {"memel": "reverse", "freeze": "freeze", "straight_through": "straight_through"}
"""W24's methods, and what ``Inhibitor`` calls them: Reverse Deactivation, naive (a), naive (b)."""

PENALTIES = {
    "l2e": "log_ms",
    "ms": "ms",
    "invariant_log_ms": "invariant_log_ms",
    "random_pairs": "log_ms",
}
"""W25's method and its other forms; ``random_pairs`` is the control that penalises as many pairs drawn at random."""

CHANGES = {
    "linear": "the MLPs without their non-linearity",
    "zeroed": "the MLPs give nothing",
    "mean_replaced": "the MLPs give the running mean of their output",
    "shrunk": "what enters the MLPs' non-linearity is a tenth of what it was",
}
"""Controls: the MLPs are changed, and nothing is inhibited. They are what a penalty may bring about in a roundabout
way, so a gain that they show as well is no evidence for inhibition."""

METHODS = ("plain", *DEACTIVATING, *PENALTIES, *CHANGES)
"""Every method by its name on the command line."""

WEIGHT = 0.003
"""Lambda of a penalty where none is given: the neurons change visibly. At a learning rate of 2e-3 the mini models' MLPs
live through 1,000 steps of it, at 4e-3 they turn into constants (chapter 7). The same for all forms, whose gradients
differ in size: compare them at several weights."""

SHARE = 0.02
"""Share of all pairs that is selected (W25 Figure 6: the False Killing Rate is lowest there)."""

LAYERS = "middle-2"
"""W25's Mid-2, for every method alike, so that methods are compared at one place [our choice for W24's, whose BERT was
inhibited after its four middle blocks]."""


def settle(method: str, *, weight: float, share: float, layers: str, retrieval: str) -> dict:
    """What a method runs with, where 0 and "" ask for its own default; as a dictionary of the four.

    Raises ``UserError`` for an unknown method, and for what the method does not have.
    """
    if method not in METHODS:
        raise UserError(f"no such method: {method!r}; expected one of {', '.join(METHODS)}")
    if weight and method not in PENALTIES:
        raise UserError(f"method {method} has no weight; these have one: {', '.join(PENALTIES)}")
    if method == "random_pairs" or method not in (*DEACTIVATING, *PENALTIES):
        if retrieval not in ("", "random" if method == "random_pairs" else ""):
            raise UserError(f"method {method} looks for no neurons; leave out the retrieval {retrieval!r}")
        retrieval = "random" if method == "random_pairs" else ""
    else:
        retrieval = retrieval or ("top-1" if method in DEACTIVATING else "threshold")
        if not re.fullmatch(r"threshold|top-share|top-[1-9]\d*", retrieval):
            raise UserError(f"retrieval must be threshold, top-share or top-N such as top-1, got {retrieval!r}")
    has_share = retrieval in ("threshold", "top-share", "random")
    if share and not has_share:
        reason = f"retrieval {retrieval} takes a number, not a share" if retrieval else "it looks for no neurons"
        raise UserError(f"method {method} has no share: {reason}")
    if not 0 <= share <= 1:  # nor NaN
        raise UserError(f"share must be above 0 and at most 1, got {share}")
    block_numbers(layers or LAYERS, 1_000_000)  # refuses a bad name now and not when the model is there
    return {
        "weight": (weight or WEIGHT) if method in PENALTIES else 0.0,
        "share": (share or SHARE) if has_share else 0.0,
        "layers": layers or LAYERS,
        "retrieval": retrieval,
    }


def block_numbers(layers: str, n: int) -> list[int]:
    """The blocks that a name stands for in a model of ``n`` blocks, counted from 0 at the input.

    ``all``; ``first-N``, ``middle-N``, ``last-N`` with a number or ``third`` for N (W25 Table 5 compares such places);
    ``top-bottom``, the first block and the last; or numbers such as ``0,3``. Of a model with fewer blocks all are
    taken. Raises ``UserError`` for another name, or a number that the model does not have.
    """
    if layers == "all":
        return list(range(n))
    if layers == "top-bottom":
        return sorted({0, n - 1})
    if re.fullmatch(r"\d+(,\d+)*", layers):
        numbers = sorted({int(number) for number in layers.split(",")})
        if numbers[-1] >= n:
            raise UserError(f"layers {layers}: the model has the blocks 0 to {n - 1}")
        return numbers
    found = re.fullmatch(r"(first|middle|last)-(third|[1-9]\d*)", layers)
    if not found:
        raise UserError(
            f"no such layers: {layers!r}; expected all, top-bottom, first-N, middle-N or last-N (N a number or third), "
            "or numbers such as 0,3"
        )
    count = min(n, max(1, round(n / 3)) if found[2] == "third" else int(found[2]))
    start = {"first": 0, "middle": (n - count) // 2, "last": n - count}[found[1]]
    return list(range(start, start + count))
