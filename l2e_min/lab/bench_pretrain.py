"""What a pretraining step costs with each method, as a multiple of the plain step (W25 Table 2).

All methods take their steps in turns, with the same weights: a slow moment of the machine hits all of them alike, and
memory holds the weights once. Weights are random and texts are random tokens; a step's cost depends on neither.
"""

import copy
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer
from tqdm.auto import tqdm

from l2e_min import Inhibitor, MovingThreshold, TopK
from l2e_min.lab.bench_method import SHARE, in_turns
from l2e_min.lab.mini_pythia import parameter_counts, untrained
from l2e_min.lab.training.devices import Devices
from l2e_min.lab.training.recipe import PretrainSettings, make_optimizer
from l2e_min.monosemanticity import pairs_in_share

SIZES = {"cpu": ("128x4", "256x6"), "cuda": ("pythia-70m", "pythia-160m", "pythia-410m", "pythia-1b", "pythia-2.8b")}
PLAIN, AGAIN = "plain", "plain, again"  # the second shows what the machine's noise alone makes of a ratio
WARM_UP = 3  # steps of each method before the clock starts: states are made, and a compiler has compiled
EVERY_ROUND = 1e9  # seconds for the rounds of a method: as many as it takes
WEIGHT = 0.003  # lambda; a step costs the same whatever it is


class SortedShare(nn.Module):
    """The largest share of all pairs, found by sorting all of them: MEmeL as W25's Table 2 has it."""

    def forward(self, phi: Tensor) -> Tensor:
        k = max(1, pairs_in_share(SHARE, phi.numel()))
        return phi >= phi.flatten().sort(descending=True).values[k - 1]


METHODS: dict[str, dict | None] = {
    PLAIN: None,
    AGAIN: None,
    "MEmeL, top 2 % by sort": {"retrieval": SortedShare(), "inhibition": "reverse"},
    "MEmeL, top-1": {"retrieval": TopK(k=1), "inhibition": "reverse"},
    "L2E, in the loss": {"retrieval": MovingThreshold(SHARE), "weight": WEIGHT},
    "L2E, in the backward pass": {"retrieval": MovingThreshold(SHARE), "weight": WEIGHT, "penalty_in": "backward"},
}
"""What an inhibitor is made from, by the method's name; None: no inhibitor."""


@dataclass(frozen=True)
class StepCost:
    """One method at one size."""

    size: str
    parameters: int
    batch: int
    context: int
    device: str
    threads: int
    mode: str
    """"eager" or "compiled"."""
    precision: str
    method: str
    ratio: float
    """Median time of a step over that of the plain step."""
    low: float
    high: float
    """95 % interval of the ratio: the rounds drawn again with replacement."""
    milliseconds: float
    memory: int
    """Bytes. CUDA: the peak of allocated memory in a step. CPU: what the forward pass keeps for the backward pass."""
    rounds: int


def measure(
    size: str,
    *,
    batch: int = 16,
    context: int = 128,
    device: str = "cpu",
    threads: int = 1,
    compiled: bool = False,
    precision: str = "auto",
    rounds: int = 20,
    seed: int = 0,
    progress: bool = False,
) -> list[StepCost]:
    """Times ``rounds`` steps of every method at one size, in turns; a row a method."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    settings = PretrainSettings(
        size=size, batch=batch, context=context, device=device, precision=precision, compile=compiled
    )
    bar = tqdm(total=len(METHODS) * (WARM_UP + rounds), desc=size, unit="step", disable=not progress, leave=False)
    try:
        with bar, every_method_compiled() if compiled else nullcontext():
            steps = ready_steps(settings, seed)
            for step in steps.values():
                for _ in range(WARM_UP):
                    step()
                    bar.update()
            memory = {name: memory_of(step, device) for name, step in steps.items()}
            times = in_turns(steps, rounds, EVERY_ROUND, device, done=bar.update)
    finally:
        torch.set_num_threads(before)
    parameters = parameter_counts(steps[PLAIN].model)[0]
    place = {"size": size, "parameters": parameters, "batch": batch, "context": context}
    place |= {"device": device, "threads": threads, "mode": "compiled" if compiled else "eager", "rounds": rounds}
    place |= {"precision": settings.precision}
    return [
        StepCost(**place, method=name, milliseconds=1e3 * statistics.median(found), memory=memory[name], **interval)
        for name, found in times.items()
        for interval in [ratio_interval(found, times[PLAIN], seed=seed)]
    ]


class Step:
    """One training step with one method, on a model of its own whose weights are those of all the others."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, method: str, devices: Devices, generator: Generator):
        self.model, self.optimizer, self.devices, self.generator = model, optimizer, devices, generator
        made_from = METHODS[method]
        self.inhibitor = made_from and Inhibitor(model, "middle-2", start_after=0, **made_from)
        if self.inhibitor and devices.scaler.is_enabled():  # fp16; the question itself would break a compiled graph
            self.inhibitor.loss_scale = devices.loss_scale
        devices.prepare(model)

    def gradients(self) -> None:
        """Gives every parameter the gradient of a batch of random tokens."""
        settings = self.devices.settings
        shape = settings.batch, settings.context + 1
        tokens = torch.randint(self.model.config.vocab_size, shape, generator=self.generator).to(settings.device)
        loss = self.devices.loss(self.model, tokens[:, :-1], tokens[:, 1:])
        self.devices.backward(loss if self.inhibitor is None else loss + self.inhibitor.penalty())

    def __call__(self) -> None:
        self.gradients()
        self.devices.step(self.model, self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)


def ready_steps(settings: PretrainSettings, seed: int) -> dict[str, Step]:
    """By a method's name what takes one training step with it; each has taken its first."""
    model = untrained(settings.size, seed=seed, context=settings.context).to(settings.device).train()
    if settings.device == "cuda":
        model.set_attn_implementation("sdpa")  # what one trains with there
    devices, optimizer = Devices(settings), make_optimizer(model, settings)
    generator = torch.Generator().manual_seed(seed)
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    steps = {}
    for method in METHODS:
        # A copy that shares the weights. On one model the others' hooks, though paused, would cost every method time,
        # and a compiler would leave out those that are paused when it compiles.
        steps[method] = Step(copy.deepcopy(model, dict(shared)), optimizer, method, devices, generator)
        with devices.eager():  # the first batch makes an inhibitor's state, which no compiler follows
            steps[method]()
    return steps


@contextmanager
def every_method_compiled() -> Iterator[None]:
    """Within the block the compiler keeps what it made of a block of layers for each method, or says that it cannot."""
    # To the compiler all blocks are one piece of code. By default it does not ask whether a block has hooks and runs
    # what it made of one without; and at its limit of versions it goes on without compiling.
    torch._dynamo.reset()
    with torch._dynamo.config.patch(
        skip_nnmodule_hook_guards=False, recompile_limit=16 * len(METHODS), fail_on_recompile_limit_hit=True
    ):
        yield


def memory_of(step: Callable[[], None], device: str) -> int:
    """Bytes, as ``StepCost.memory`` says."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    return sum(kept.values())


def ratio_interval(times: list[float], plain: list[float], draws: int = 2000, seed: int = 0) -> dict[str, float]:
    """Ratio of the medians, and its 95 % interval by drawing the rounds again; a round holds one time of each."""
    pairs = np.array([times, plain])  # (2, rounds)
    drawn = np.random.default_rng(seed).integers(pairs.shape[1], size=(draws, pairs.shape[1]))
    medians = np.median(pairs[:, drawn], axis=2)  # (2, draws)
    low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
    middle = np.median(pairs, axis=1)
    return {"ratio": float(middle[0] / middle[1]), "low": float(low), "high": float(high)}


def plan(
    sizes: Sequence[str] | None,
    batch: int,
    context: int,
    threads: Sequence[int],
    devices: Sequence[str],
    compiled: bool,
) -> Iterator[dict]:
    """The settings to measure, one :func:`measure` call each; UserError for a size or a shape that there is not."""
    for device in devices:
        for count in threads if device == "cpu" else (1,):
            for mode in (False, True) if compiled else (False,):
                for size in sizes or SIZES[device]:
                    PretrainSettings(size=size, batch=batch, context=context, device=device)  # refuses bad input now
                    yield {
                        "size": size,
                        "batch": batch,
                        "context": context,
                        "device": device,
                        "threads": count,
                        "compiled": mode,
                    }


def table(rows: list[StepCost]) -> str:
    """A block a size, device, thread count and mode: a line a method."""
    blocks = []
    for place in dict.fromkeys((r.size, r.device, r.threads, r.mode) for r in rows):
        part = [r for r in rows if (r.size, r.device, r.threads, r.mode) == place]
        plain = next(r for r in part if r.method == PLAIN)
        where = plain.device if plain.device != "cpu" else f"cpu, {plain.threads} thread{'s' * (plain.threads > 1)}"
        lines = [f"{plain.size}, {plain.batch} x {plain.context} tokens, {plain.precision}, {where}, {plain.mode}"]
        lines.append(
            f"{'method':27}{'a step, ms':>12}{'times plain (95 % interval)':>30}{'memory, MB':>12}{'ratio':>8}"
        )
        for r in part:
            spread = f"{r.ratio:.3f} ({r.low:.3f}-{r.high:.3f})"
            memory = f"{r.memory / 1e6:>12.1f}{r.memory / plain.memory:>8.3f}"
            lines.append(f"{r.method:27}{r.milliseconds:>12.1f}{spread:>30}{memory}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def as_record(rows: list[StepCost]) -> list[dict]:
    """The rows as plain dictionaries, for a JSON file."""
    return [asdict(row) for row in rows]
