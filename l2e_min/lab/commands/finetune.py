"""``l2e finetune``: fine-tunes a BERT on tasks with several methods, compared fairly."""

import argparse
from pathlib import Path

from l2e_min.lab.errors import UserError

HELP = "fine-tune a BERT on tasks, plainly and with monosemantic neurons inhibited, and compare"
EXAMPLE = "l2e finetune --task accept --method plain memel --seeds 3 --out runs/accept"

RATES = {"mean": (2e-3, 1e-3, 5e-4), "cls": (5e-5, 4e-5, 3e-5, 2e-5)}
"""Learning rates of the search, by head: a mini BERT's, and W24's for BERT-base."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the model, the tasks, the methods and the size of the comparison."""
    add = parser.add_argument
    add("--model", metavar="MODEL", help="folder or hub:NAME of a BERT (default: the mini BERT that ships)")
    add("--task", nargs="+", metavar="NAME", default=[],
        help="mini tasks (accept, ...; mini: all), GLUE's (rte, ...; glue: all eight; glue-small: four)")  # fmt: skip
    add("--task-dir", nargs="+", type=Path, metavar="DIR", default=[], help="folders with train.tsv and dev.tsv")
    add("--method", nargs="+", metavar="NAME", default=["plain", "memel"],
        help="plain freeze straight_through memel l2e memel_tune plain_tune, or all")  # fmt: skip
    add("--seeds", type=int, default=5, metavar="N", help="seeds of each method (default: 5)")
    add("--rates", type=float, nargs="+", metavar="X", help="learning rates of the search (default: 3 for a mini "
        "BERT, W24's 4 for a real one)")  # fmt: skip
    add("--trials", type=int, default=4, metavar="N", help="further trials of memel_tune and plain_tune (default: 4)")
    add("--controls", nargs="*", choices=["random", "entry"], default=[], help="random: plain fine-tuning of random "
        "weights; entry: MEmeL with W24's reading of a neuron")  # fmt: skip
    add("--train-rows", type=int, metavar="N", help="take the first N training rows of each task (default: all)")
    add("--epochs", type=int, default=3, metavar="N", help="default: 3")
    add("--batch", type=int, default=32, metavar="N", help="rows a step (default: 32)")
    add("--head", choices=["mean", "cls"], help="default: cls for hub:NAME, else mean")
    add("--precision", choices=["fp32", "bf16"], help="default: bf16 on a GPU that has it, else fp32")
    add("--device", choices=["cpu", "cuda"], help="default: CUDA where it is")
    add("--out", type=Path, required=True, metavar="DIR", help="runs.jsonl goes there; what is there is not run again")
    add("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> int:
    """Fine-tunes, prints the table and returns 0."""
    if not arguments.task and not arguments.task_dir:
        raise UserError("give --task NAME or --task-dir DIR (see: l2e finetune --help)")
    few = arguments.train_rows is not None and arguments.train_rows < 2
    if arguments.seeds < 1 or arguments.trials < 0 or few:
        raise UserError("--seeds takes a number of at least 1, --trials of at least 0, --train-rows of at least 2")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise UserError(f"--out {arguments.out} is not a folder")
    import torch

    from l2e_min.lab.finetuning.compare import compare
    from l2e_min.lab.finetuning.protocol import ALL_TITLES, Protocol
    from l2e_min.lab.finetuning.run import FineTuneSettings
    from l2e_min.lab.finetuning.table import as_text
    from l2e_min.lab.finetuning.tasks import load_tasks
    from l2e_min.lab.mini_bert import shipped_bert
    from l2e_min.lab.precision import quick_bf16

    cuda = torch.cuda.is_available()
    if arguments.device == "cuda" and not cuda:
        raise UserError("--device cuda: torch sees no CUDA device here; use --device cpu")
    device = arguments.device or ("cuda" if cuda else "cpu")
    model = arguments.model or str(shipped_bert())
    head = arguments.head or ("cls" if model.startswith("hub:") else "mean")
    methods = tuple(ALL_TITLES) if arguments.method == ["all"] else tuple(dict.fromkeys(arguments.method))
    base = FineTuneSettings(
        epochs=arguments.epochs,
        batch=arguments.batch,
        head=head,
        precision=arguments.precision or ("bf16" if device == "cuda" and quick_bf16(device) else "fp32"),
        device=device,
    )
    protocol = Protocol(
        methods=methods,
        rates=tuple(arguments.rates or RATES[head]),
        seeds=tuple(range(arguments.seeds)),
        trials=arguments.trials,
        extra=tuple(dict.fromkeys(arguments.controls)),
        base=base,
    )
    tasks = load_tasks(arguments.task, arguments.task_dir)
    if arguments.train_rows is not None:
        tasks = [task.with_train_rows(arguments.train_rows) for task in tasks]
    rows = compare(tasks, model, protocol, arguments.out, progress=not arguments.quiet)
    print(as_text(rows, protocol, tasks))
    print(f"\nall runs: {arguments.out}")
    return 0
