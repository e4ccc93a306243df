"""``l2e study``: how monosemantic the neurons of a model are."""

import argparse
from pathlib import Path

from l2e_min.lab.errors import UserError

HELP = "measure how monosemantic a model's neurons are: probes, MS, K-S, False Killing Rate, neurons switched off"
EXAMPLE = "l2e study hub:EleutherAI/pythia-70m --features natural_language --out runs/study"

SETS = ("natural_language", "code_language", "data_subset")
AGGREGATES = ("mean", "max", "last")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the model, the features, and how much is measured."""
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help="folder of a model or of a suite, or hub:NAME[@REVISION]")
    add("--model", dest="named", metavar="MODEL", help="the same as an option")
    sets = f"{', '.join(SETS)} (default: all three), or a folder with a sub-folder of text files a label"
    add("--features", nargs="+", default=list(SETS), metavar="SET", help=sets)
    add("--out", type=Path, required=True, metavar="DIR", help="study.jsonl goes there; a stopped study goes on")
    add("--rows", type=int, default=200, metavar="N", help="texts of each feature (default: 200)")
    add("--random-neurons", type=int, default=1000, metavar="N", help="for the K-S statistic (default: 1000)")
    add("--seed", type=int, default=0, metavar="S", help="splits rows and draws neurons (default: 0)")
    add("--steps", type=int, nargs="*", metavar="N", help="snapshots of a suite, beside the end (default: some)")
    add("--aggregate", choices=AGGREGATES, default="mean", help="what makes a text's value of its tokens'")
    add("--batch-size", type=int, default=64, metavar="N", help="texts of a forward pass (default: 64)")
    add("--no-off", action="store_true", help="do not switch neurons off (the slowest part)")
    add("--dtype", choices=["float32", "bfloat16", "float16"], default="float32", help="of a single model's weights")
    add("--device", choices=["cpu", "cuda"], help="default: CUDA where it is")


def run(arguments: argparse.Namespace) -> int:
    """Measures, prints a table a dataset and returns 0."""
    name = arguments.model or arguments.named
    if not name or (arguments.model and arguments.named):
        raise UserError("give one MODEL: a folder, or hub:NAME (see: l2e study --help)")
    if min(arguments.random_neurons, arguments.rows, arguments.batch_size) < 1:
        raise UserError("--rows, --random-neurons and --batch-size take numbers of at least 1")
    if min(arguments.steps or [0]) < 0 or arguments.seed < 0:
        raise UserError("--steps and --seed take numbers of at least 0")
    import torch

    from l2e_min.lab.study.members import STEPS
    from l2e_min.lab.study.run import study
    from l2e_min.lab.study.table import table

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here; use --device cpu")
    rows = study(
        name,
        arguments.out,
        arguments.features,
        rows_per_feature=arguments.rows,
        random_neurons=arguments.random_neurons,
        seed=arguments.seed,
        steps=STEPS if arguments.steps is None else arguments.steps,
        off=not arguments.no_off,
        device=arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        dtype=arguments.dtype,
        aggregate=arguments.aggregate,
        batch_size=arguments.batch_size,
    )
    print(table(rows))
    absent = sorted(set(arguments.steps or ()) - {row["step"] for row in rows})
    if absent:
        print(f"\nno snapshot there after these steps: {', '.join(map(str, absent))}")
    print(f"\nall numbers: {arguments.out / 'study.jsonl'}")
    return 0
