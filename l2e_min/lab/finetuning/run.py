"""One fine-tuning run: a model, a task, a method, a learning rate and a seed give scores and a curve."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2e_min import Inhibitor
from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.batches import Encoded
from l2e_min.lab.finetuning.classifier import build_classifier
from l2e_min.lab.finetuning.methods import Method
from l2e_min.lab.finetuning.task import Task
from l2e_min.lab.training.method_choice import DEACTIVATING

CURVE_POINTS = 24
"""Points of a run's loss curve; the dev score is taken at every fourth."""


@dataclass(frozen=True)
class FineTuneSettings:
    """Everything that decides what a run computes, but the task and the model (W24's recipe where nothing is said)."""

    method: Method = field(default_factory=Method)
    learning_rate: float = 5e-4
    """Peak. W24 takes the best of 5e-5 to 2e-5 for BERT-base; a mini BERT needs ten times that."""
    epochs: int = 3
    batch: int = 32
    seed: int = 0
    """Draws the head, the order of the rows and the dropout."""
    warmup_share: float = 0.1
    """Share of the steps over which the rate rises; after them it falls to 0 in a straight line (BERT)."""
    weight_decay: float = 0.01
    clip: float = 1.0
    head: str = "mean"
    """See ``classifier.HEADS``; "cls" for a real BERT."""
    pretrained: bool = True
    """False: random weights, the control."""
    precision: str = "fp32"
    """"fp32" or "bf16" (autocast)."""
    device: str = "cpu"

    def __post_init__(self):
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise UserError(f"learning_rate must be above 0, got {self.learning_rate}")
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")

    def key(self) -> dict:
        """What tells a run of a task from another, as plain JSON."""
        return {**dataclasses.asdict(self.method), "method": self.method.name, "learning_rate": self.learning_rate,
                "seed": self.seed, "pretrained": self.pretrained}  # fmt: skip


@dataclass
class FineTuned:
    """A finished run: its numbers, and what may be looked at further."""

    scores: dict[str, float]
    """In points: "dev", "test", more splits of the task by name, and for W24's methods "test_on": with them left on."""
    curve: dict[str, list]
    """"step", "loss" (mean since the point before), "dev_step" and "dev" (points)."""
    model: nn.Module
    inhibitor: Inhibitor | None
    tokenizer: object


Step = Callable[[int, nn.Module, dict[str, Tensor], Tensor], None]
"""Called after every step with its number from 1, the model, and the step's batch: inputs and labels."""

Before = Callable[[int, nn.Module, dict[str, Tensor], Tensor, torch.optim.Optimizer], None]
"""Called before every step with the same and the optimizer; must leave weights, optimizer and random state alone."""


def fine_tune(
    task: Task,
    model: str,
    settings: FineTuneSettings,
    *,
    before_step: Before | None = None,
    after_step: Step | None = None,
    progress: bool = False,
) -> FineTuned:
    """Fine-tunes the encoder ``model`` (a folder or hub:NAME) on a task, and scores the last weights.

    The same arguments give the same numbers, whatever ran before. UserError: a model that is not there, a loss that is
    not finite.
    """
    from tqdm.auto import tqdm
    from transformers import get_linear_schedule_with_warmup

    s = settings
    classifier, tokenizer = build_classifier(
        model, task.n_classes, pair=task.pair, head=s.head, seed=s.seed, pretrained=s.pretrained
    )
    classifier.to(s.device)
    data = Encoded(task.train, tokenizer, task)
    pad_to = data.most if s.method.reading == "entry" else None
    steps = s.epochs * math.ceil(len(data) / s.batch)
    optimizer = make_optimizer(classifier, s)
    schedule = get_linear_schedule_with_warmup(optimizer, round(s.warmup_share * steps), steps)
    inhibitor = s.method.attach(classifier.encoder)
    dev = Encoded(task.dev, tokenizer, task)
    curve: dict[str, list] = {"step": [], "loss": [], "dev_step": [], "dev": []}
    points = {max(1, round(steps * p / CURVE_POINTS)): p for p in range(1, CURVE_POINTS + 1)}
    total, since, done = torch.zeros((), device=s.device), 0, 0
    title = f"{task.name} {s.method.name}, rate {s.learning_rate:g}, seed {s.seed}"
    with torch.random.fork_rng(), tqdm(total=steps, desc=title, disable=not progress, leave=False) as bar:
        torch.manual_seed(s.seed)  # dropout
        for epoch in range(s.epochs):
            for rows in data.epoch(s.batch, s.seed, epoch):
                inputs, labels = to_device(data.batch(rows, pad_to), s.device)
                if before_step is not None:
                    before_step(done + 1, classifier, inputs, labels, optimizer)
                classifier.train()
                with autocast(s):
                    logits = classifier(**inputs)
                loss = loss_of(logits, labels)
                objective = loss if inhibitor is None else loss + inhibitor.penalty()
                optimizer.zero_grad(set_to_none=True)
                objective.backward()
                nn.utils.clip_grad_norm_(classifier.parameters(), s.clip)
                optimizer.step()
                schedule.step()
                total, since, done = total + loss.detach(), since + 1, done + 1
                bar.update()
                if after_step is not None:
                    after_step(done, classifier, inputs, labels)
                if point := points.get(done):
                    mean_loss = total.item() / since
                    if not math.isfinite(mean_loss):
                        raise UserError(f"the loss is {mean_loss} at step {done}: a lower learning rate may help")
                    curve["step"].append(done)
                    curve["loss"].append(mean_loss)
                    total, since = torch.zeros_like(total), 0
                    bar.set_postfix_str(f"loss {mean_loss:.3f}", refresh=False)
                    if point % 4 == 0:
                        curve["dev_step"].append(done)
                        curve["dev"].append(task.score(predict(classifier, dev, s), task.dev.labels))
    scores = {"dev": curve["dev"][-1]}
    reported = {"test": task.test, **dict(task.more)}
    for name, rows in reported.items():
        encoded = Encoded(rows, tokenizer, task)
        scores[name] = task.score(predict(classifier, encoded, s), rows.labels)
        if name == "test" and s.method.name in DEACTIVATING:
            with left_on(inhibitor):
                scores["test_on"] = task.score(predict(classifier, encoded, s, pad_to), rows.labels)
    return FineTuned(scores, curve, classifier.eval(), inhibitor, tokenizer)


def predict(model: nn.Module, data: Encoded, settings: FineTuneSettings, pad_to: int | None = None) -> np.ndarray:
    """Class numbers (n,), or values (n,) of a regression, in the order of the rows."""
    model.eval()
    found = np.zeros(len(data), np.float64)
    with torch.no_grad(), autocast(settings):
        for rows in data.in_order():
            inputs, _ = to_device(data.batch(rows, pad_to), settings.device)
            logits = model(**inputs)
            found[rows] = (logits[:, 0] if logits.shape[1] == 1 else logits.argmax(1)).cpu().numpy()
    return found if data.labels.is_floating_point() else found.astype(np.int64)


@contextmanager
def left_on(inhibitor: Inhibitor) -> Iterator[None]:
    """Within the block an inhibitor acts in evaluation, too (W24 F.1). Its moments are put back afterwards."""

    def flag(on: bool) -> None:
        for site in inhibitor.sites:  # of the sites alone: what is inside of them, dropout above all, stays off
            site.module.training = on

    before = {name: tensor.clone() for name, tensor in inhibitor.state_dict().items()}
    hook = inhibitor.model.register_forward_pre_hook(lambda *_: flag(True))
    try:
        yield
    finally:
        hook.remove()
        flag(False)
        inhibitor.load_state_dict(before)


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats a row, or the mean squared error of a regression; ``logits`` (b, n_outputs)."""
    if labels.is_floating_point():
        return F.mse_loss(logits[:, 0], labels)
    return F.cross_entropy(logits, labels)


def autocast(settings: FineTuneSettings) -> torch.autocast:
    """bfloat16 where the settings ask for it."""
    return torch.autocast(settings.device, torch.bfloat16, enabled=settings.precision == "bf16")


def to_device(batch: tuple[dict[str, Tensor], Tensor], device: str) -> tuple[dict[str, Tensor], Tensor]:
    inputs, labels = batch
    return {name: tensor.to(device) for name, tensor in inputs.items()}, labels.to(device)


def make_optimizer(model: nn.Module, settings: FineTuneSettings) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
