"""The pretraining recipe: Pythia's (B23, after GPT-3), with the few numbers that a mini scale changes."""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import nn

from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_bert import BERT_VOCABULARY, bert_config, is_bert
from l2e_min.lab.mini_pythia import MINI_CONTEXT, PYTHIA, config_for
from l2e_min.lab.precision import own_precision
from l2e_min.lab.training.method_choice import settle

MINI_LEARNING_RATE = 4e-3
"""Peak learning rate at mini scales: at 2e-3 a 128x4 model is under-tuned, which flatters what it is compared with."""


@dataclass(frozen=True)
class PretrainSettings:
    """Everything that decides what a pretraining run computes; two runs with equal settings give equal weights."""

    size: str = "128x4"
    """The scale: HIDDENxLAYERS, the name of a real Pythia, or bert-HIDDENxLAYERS for a masked language model."""

    method: str = "plain"
    """What inhibits monosemantic neurons, or a control; one of ``method_choice.METHODS``. "plain" is nothing."""

    weight: float = 0.0
    """Lambda of a penalty; 0 takes 0.003. Other methods have none."""

    share: float = 0.0
    """Share of all (input, neuron) pairs that is selected; 0 takes 0.02. W24's top-N selection has none."""

    layers: str = ""
    """The blocks whose neurons are inhibited (of plain training: looked at), see ``method_choice.block_numbers``; empty
    takes the two middle ones."""

    retrieval: str = ""
    """"threshold" (moving, W25), "top-share" (exact, slow) or "top-N" (N pairs of each row, W24); empty takes the
    method's own."""

    initial: str = ""
    """A model to go on from: the folder of one of this size, or hub:NAME. Empty draws the weights from the seed."""

    text: str = "installed"
    """"installed", a folder of text files, or hub:NAME."""

    tokenizer: str = ""
    """"train" (on the training text), a folder, or hub:NAME. Empty: that of ``initial``; without one "train" at mini
    scales, at real ones Pythia's."""

    vocabulary: int = 0
    """Entries of a trained tokenizer; 0 takes the architecture's own: 1,024 for Pythia (2.2 bytes a token, and small
    enough for the embeddings not to fill the model), 4,096 for BERT."""

    steps: int = 8000
    """Optimizer steps; 8,000 of 2,048 tokens each are 16M tokens, about one reading of the installed text."""

    seed: int = 0
    """Draws the initial weights, and the order of the text where ``data_seed`` does not say otherwise."""

    data_seed: int | None = None
    """Draws the order of the text; None takes ``seed``. Held fixed, seeds differ in their initial weights alone."""

    batch: int = 16
    """Rows a step."""

    context: int = MINI_CONTEXT
    """Tokens a row."""

    learning_rate: float = 0.0
    """Peak learning rate; 0 takes the scale's own (B23, or 4e-3 at mini scales)."""

    final_share: float = 0.1
    """The cosine ends at this share of the peak (B23)."""

    warmup_share: float = 0.01
    """Share of the steps over which the learning rate rises (B23), but at least 20 steps: short runs need them."""

    betas: tuple[float, float] = (0.9, 0.95)
    """Adam's decay rates (B23)."""

    epsilon: float = 1e-8
    """Adam's epsilon (B23)."""

    weight_decay: float = 0.1
    """On matrices; biases and norms are left alone (B23)."""

    clip: float = 1.0
    """Largest norm of the gradient (B23)."""

    precision: str = "auto"
    """"bf16" (autocast; on a CPU with bf16 instructions about twice as fast as fp32, on one without 40 times slower),
    "fp16" (autocast with a scaled loss, for GPUs without bf16), "fp32", or "auto": what the device is quick at. Weights
    are float32 in all."""

    accumulate: int = 1
    """Pieces that the rows of a step are cut into, one forward and backward pass each: less memory, the same step."""

    activation_checkpointing: bool = False
    """Keep only each block's input and compute the rest again for the backward pass: less memory, more time."""

    compile: bool = False
    """Compile each block with ``torch.compile``."""

    device: str = "auto"
    """"cpu", "cuda", or "auto": the GPU where there is one."""

    validate_every: int = 250
    """Steps between looks at the validation loss."""

    validation_rows: int = 64
    """Rows of those looks, evenly spread over the validation text; the last look takes eight times as many."""

    log_every: int = 25
    """Steps a line of the log; its loss is their mean."""

    def __post_init__(self):
        bert_config(self.size) if is_bert(self.size) else config_for(self.size)
        if self.initial and is_bert(self.size):
            raise UserError("initial is for a Pythia; a BERT is trained further by l2e finetune")
        object.__setattr__(self, "data_seed", self.seed if self.data_seed is None else self.data_seed)
        for name in ("steps", "batch", "context", "validate_every", "validation_rows", "log_every", "accumulate"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.validate_every % self.log_every:
            raise UserError(
                f"validate_every ({self.validate_every}) must be a multiple of log_every ({self.log_every})"
            )
        if self.size in PYTHIA and self.context > (most := config_for(self.size).max_position_embeddings):
            raise UserError(f"{self.size} sees {most} tokens at most, got a context of {self.context}")
        if self.batch % self.accumulate:
            raise UserError(f"accumulate: {self.batch} rows cannot be cut into {self.accumulate} equal pieces")
        for name in ("learning_rate", "warmup_share", "seed", "data_seed", "weight_decay", "vocabulary", "weight"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise UserError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name, allowed in (("precision", ("auto", "bf16", "fp16", "fp32")), ("device", ("auto", "cpu", "cuda"))):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("device cuda was asked for, and this machine's PyTorch sees no GPU")
        # Settled here, so that what is recorded is what was used.
        chosen = settle(self.method, weight=self.weight, share=self.share, layers=self.layers, retrieval=self.retrieval)
        for name, value in chosen.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "tokenizer", self.tokenizer or self.own_tokenizer())
        object.__setattr__(self, "vocabulary", self.vocabulary or (BERT_VOCABULARY if is_bert(self.size) else 1024))
        object.__setattr__(self, "learning_rate", self.learning_rate or self.own_learning_rate())
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.device == "auto":
            object.__setattr__(self, "device", "cuda" if torch.cuda.is_available() else "cpu")
        if self.precision == "auto":
            object.__setattr__(self, "precision", own_precision(self.device))

    def own_tokenizer(self) -> str:
        if self.initial:
            return self.initial
        return f"hub:EleutherAI/{self.size}" if self.size in PYTHIA else "train"

    def own_learning_rate(self) -> float:
        return PYTHIA[self.size][-1] if self.size in PYTHIA else MINI_LEARNING_RATE

    def as_dict(self) -> dict:
        """Plain JSON, as stored beside the weights."""
        return dataclasses.asdict(self) | {"betas": list(self.betas)}


def learning_rate_at(step: int, settings: PretrainSettings) -> float:
    """The learning rate of step 0, 1, ..., steps - 1: a linear rise, then a cosine to ``final_share`` of the peak."""
    warmup = min(max(20, round(settings.warmup_share * settings.steps)), settings.steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = (step - warmup + 1) / max(1, settings.steps - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * (settings.final_share + (1 - settings.final_share) * cosine)


def make_optimizer(model: nn.Module, settings: PretrainSettings) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only; the fused kernel, which is the fastest on CPU and GPU alike."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.epsilon, fused=True)
