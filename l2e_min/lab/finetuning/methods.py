"""The methods of W24 Table 1, and W25's penalty, on an encoder that is being fine-tuned."""

from dataclasses import dataclass

from torch import nn

from l2e_min import Inhibitor, MovingThreshold, TopK
from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_bert import encoder_layers
from l2e_min.lab.training.method_choice import DEACTIVATING

TITLES = {
    "plain": "original",
    "freeze": "naive (a)",
    "straight_through": "naive (b)",
    "memel": "MEmeL",
    "l2e": "L2E's penalty",
}
"""What can be done while fine-tuning, and W24's names for it."""

READINGS = ("entry", "neuron")
"""What counts as one neuron. "neuron": a dimension, its moments over all rows and positions of the batch (ours).
"entry": a dimension at a position, its moments over the rows alone, as in W24's text and public code."""


@dataclass(frozen=True)
class Method:
    """A method with its own settings; two equal ones do the same."""

    name: str = "memel"
    """A key of ``TITLES``."""

    k: int = 1
    """Pairs selected in each row, over all its positions and dimensions (W24; MEmeL-Tune searches it)."""

    strength: float = 1.0
    """Multiplies D (W24 E.3; MEmeL-Tune searches it)."""

    reading: str = "neuron"
    """One of ``READINGS``."""

    weight: float = 0.003
    """Lambda of L2E's penalty; see ``Inhibitor``."""

    share: float = 0.02
    """Share of all pairs that L2E selects."""

    def __post_init__(self):
        if self.name not in TITLES:
            raise UserError(f"no such method: {self.name!r}; expected one of {', '.join(TITLES)}")
        if self.reading not in READINGS:
            raise UserError(f"no such reading: {self.reading!r}; expected one of {', '.join(READINGS)}")

    def attach(self, encoder: nn.Module) -> Inhibitor | None:
        """The inhibitor on ``encoder``; None for plain fine-tuning.

        W24: after the four middle blocks of twelve, so on the outputs of the middle third (of a small encoder: two).
        W25: the input of the second linear layer of the two middle blocks.
        """
        if self.name == "plain":
            return None
        if self.name == "l2e":
            retrieval = MovingThreshold(self.share)
            return Inhibitor(encoder, "middle-2", retrieval, "log_ms", weight=self.weight, sync=False)
        return Inhibitor(
            encoder,
            middle_blocks(encoder),
            TopK(k=self.k),
            DEACTIVATING[self.name],
            strength=self.strength,
            neuron_axes=2 if self.reading == "entry" else 1,
            sync=False,  # processes of `compare` share out runs, not batches
        )


def middle_blocks(encoder: nn.Module) -> list[nn.Module]:
    """The middle third of the blocks, and at least two: 4 to 7 of twelve (W24), 1 and 2 of four."""
    blocks = list(encoder_layers(encoder))
    count = min(len(blocks), max(2, round(len(blocks) / 3)))
    start = (len(blocks) - count) // 2
    return blocks[start : start + count]
