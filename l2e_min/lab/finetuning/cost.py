"""What inhibition costs a whole fine-tuning step: methods in turns in one process, as multiples of the plain step.

python -m l2e_min.lab.finetuning.cost --out data/results/finetuning_cost.json
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from l2e_min.lab.bench_method import in_turns
from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.classifier import Classifier
from l2e_min.lab.finetuning.methods import Method
from l2e_min.lab.finetuning.run import FineTuneSettings, loss_of, make_optimizer
from l2e_min.lab.paths import DATA

RECORD = DATA / "results" / "finetuning_cost.json"

METHODS = {
    "plain": Method("plain"),
    "freeze": Method("freeze"),
    "straight_through": Method("straight_through"),
    "memel": Method("memel"),
    "memel, k = 100": Method("memel", k=100),
    "memel, entry": Method("memel", reading="entry"),
    "l2e": Method("l2e"),
}
"""What is timed, by name."""


@dataclass(frozen=True)
class Shape:
    """A model with random weights and a batch. The batch is full: no padding."""

    title: str
    hidden: int
    layers: int
    batch: int
    tokens: int
    repeats: int
    methods: tuple[str, ...] = tuple(METHODS)


SHAPES = (
    Shape("mini BERT", 128, 4, batch=32, tokens=32, repeats=40),
    Shape("BERT-base", 768, 12, batch=4, tokens=32, repeats=12, methods=("plain", "memel", "l2e")),
)
"""A row of the mini tasks has about 30 tokens. BERT-base's batch is small so that it takes about a minute, which makes
its optimizer, the same for every method, a larger part of the step than in a real run."""


@dataclass(frozen=True)
class Row:
    """One method on one shape."""

    model: str
    parameters: int
    batch: int
    tokens: int
    threads: int
    device: str
    method: str
    ratio: float
    """Median over turns of its time over the plain step's in the same turn."""
    low: float
    high: float
    """Quartiles of that ratio."""
    milliseconds: float
    """Median."""
    turns: int
    clock: str = "wall"
    """"wall": seconds that went by; "cpu": those that the process computed, which other processes on a busy machine
    hardly touch."""


def measure(shape: Shape, *, threads: int = 1, device: str = "cpu", budget: float = 20.0) -> list[Row]:
    """Times every method's step; ``budget``: seconds a method may take (three turns at least)."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = encoder_of(shape).to(device)
        calls = steps(model, inputs_of(shape, device), {name: METHODS[name] for name in shape.methods}, device)
        busy: dict[str, list[float]] = {name: [] for name in calls}
        timed = {name: lambda name=name: clocked(calls[name], busy[name]) for name in calls}
        times = in_turns(timed, shape.repeats, budget, device)
        clock = "cpu" if device == "cpu" and threads == 1 else "wall"  # of several threads the CPU time is a sum
        if clock == "cpu":
            times = {name: busy[name][-len(found) :] for name, found in times.items()}  # without the first, unmeasured
    finally:
        torch.set_num_threads(before)
    parameters = sum(p.numel() for p in model.parameters())
    place = (shape.title, parameters, shape.batch, shape.tokens, threads, device)
    return [Row(*place, name, *ratio(times[name], times["plain"]), clock) for name in calls]


def clocked(call: Callable[[], None], times: list[float]) -> None:
    """Calls, and appends the seconds of CPU that it took."""
    start = time.process_time()
    call()
    times.append(time.process_time() - start)


def steps(
    model: nn.Module, inputs: dict[str, Tensor], methods: dict[str, Method], device: str = "cpu"
) -> dict[str, Callable[[], None]]:
    """A fine-tuning step by method, on one model: each wakes its own inhibitor, and the others sleep."""
    settings = FineTuneSettings(device=device)
    optimizer = make_optimizer(model, settings)
    labels = torch.arange(len(inputs["input_ids"]), device=device) % 2  # (b,)
    inhibitors = {name: method.attach(model.encoder) for name, method in methods.items()}
    for inhibitor in inhibitors.values():
        if inhibitor is not None:
            inhibitor.pause()
    model.train()

    def step(inhibitor) -> None:
        if inhibitor is not None:
            inhibitor.resume()
        loss = loss_of(model(**inputs), labels)
        objective = loss if inhibitor is None else loss + inhibitor.penalty()
        optimizer.zero_grad(set_to_none=True)
        objective.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        if inhibitor is not None:
            inhibitor.pause()

    return {name: lambda inhibitor=inhibitor: step(inhibitor) for name, inhibitor in inhibitors.items()}


def encoder_of(shape: Shape) -> Classifier:
    """A classifier of two classes with seeded random weights."""
    from transformers import BertModel

    from l2e_min.lab.mini_bert import bert_config

    config = bert_config(f"bert-{shape.hidden}x{shape.layers}", vocabulary=4096 if shape.hidden < 768 else 30522)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.1  # as in fine-tuning
    config.num_attention_heads = shape.hidden // 64 if shape.hidden >= 768 else config.num_attention_heads
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = BertModel(config, add_pooling_layer=False)
        return Classifier(encoder, 2, pair=False)


def inputs_of(shape: Shape, device: str) -> dict[str, Tensor]:
    """A batch of random token ids."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 4000, (shape.batch, shape.tokens), generator=generator).to(device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}


def ratio(times: Sequence[float], plain: Sequence[float]) -> tuple[float, float, float, float, int]:
    """(median, lower, upper quartile of the ratio turn by turn, median milliseconds, turns)."""
    ratios = [a / b for a, b in zip(times, plain, strict=False)]  # a slow method takes part in fewer turns
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, low, high, 1e3 * statistics.median(times), len(ratios)


def table(rows: Sequence[Row]) -> str:
    """A line a method and model."""
    lines = [f"{'model':12}{'method':20}{'of the plain step (quartiles)':>32}{'ms':>10}"]
    for r in rows:
        lines.append(
            f"{r.model:12}{r.method:20}{f'{r.ratio:.3f} ({r.low:.3f}-{r.high:.3f})':>32}{r.milliseconds:>10.1f}"
        )
    return "\n".join(lines)


def read(path: Path = RECORD) -> list[Row]:
    """The rows of the record. UserError where it is not there or not whole."""
    try:
        return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        command = "python -m l2e_min.lab.finetuning.cost"
        raise UserError(f"no record of costs in {path.name} ({error}); {command} makes it") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command of the module's first lines."""
    from l2e_min.lab.record import rounded
    from l2e_min.lab.training.run_folder import versions

    parser = argparse.ArgumentParser(
        prog="python -m l2e_min.lab.finetuning.cost",
        description="time of a fine-tuning step by method, as multiples of the plain step",
    )
    parser.add_argument("--models", nargs="+", default=[s.title for s in SHAPES], choices=[s.title for s in SHAPES])
    parser.add_argument("--threads", type=int, default=1, metavar="T")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=RECORD, metavar="FILE")
    a = parser.parse_args(arguments)
    if not a.out.parent.is_dir() or (a.device == "cuda" and not torch.cuda.is_available()) or a.threads < 1:
        reason = f"there is no folder {a.out.parent}" if not a.out.parent.is_dir() else "no such device or threads"
        print(f"error: {reason}", file=sys.stderr)
        return 1
    rows = [row for shape in SHAPES if shape.title in a.models
            for row in measure(shape, threads=a.threads, device=a.device)]  # fmt: skip
    print(table(rows))
    machine = torch.cuda.get_device_name() if a.device == "cuda" else platform.machine()
    record = {"versions": versions(), "machine": machine, "rows": rounded([asdict(row) for row in rows])}
    a.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
