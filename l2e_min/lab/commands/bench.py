"""``l2e bench``: what the method costs, measured on this machine."""

import argparse
import json
import platform
import sys
from pathlib import Path

from l2e_min.lab.errors import UserError

HELP = "measure what the method costs on this machine: its parts, or a pretraining step as multiples of the plain step"
EXAMPLE = "l2e bench pretrain --sizes 128x4 --no-compile"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what is measured, and at which sizes."""
    parser.add_argument(
        "what",
        choices=["method", "pretrain"],
        help="method: moments, phi, threshold, top-k, sort, quantile; pretrain: a training step with each method",
    )
    parser.add_argument("--neurons", type=int, nargs="+", metavar="N", help="method: widths (default: 512 to 16384)")
    parser.add_argument(
        "--sizes", nargs="+", metavar="SIZE", help="pretrain: 128x4, pythia-70m, ... (default: by the device)"
    )
    parser.add_argument("--batch", type=int, default=16, metavar="B", help="pretrain: rows a step (default: 16)")
    parser.add_argument("--context", type=int, default=128, metavar="C", help="pretrain: tokens a row (default: 128)")
    parser.add_argument(
        "--threads", type=int, nargs="+", metavar="T", help="CPU threads (default: 1 2; of a pretraining step: 1)"
    )
    parser.add_argument("--device", nargs="+", choices=["cpu", "cuda"], help="default: the CPU, and CUDA where it is")
    parser.add_argument("--repeats", type=int, default=15, metavar="R", help="turns of each operation (default: 15)")
    parser.add_argument("--no-compile", action="store_true", help="leave out the compiled rows")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the rows as JSON, too")


def run(arguments: argparse.Namespace) -> int:
    """Measures, prints the tables and returns 0."""
    import torch
    from tqdm.auto import tqdm

    from l2e_min.lab import bench_method, bench_pretrain

    threads = arguments.threads or ([1, 2] if arguments.what == "method" else [1])
    neurons = tuple(arguments.neurons or bench_method.NEURONS)
    if min(neurons) < 1 or min(threads) < 1 or arguments.repeats < 3:
        raise UserError("--neurons and --threads take numbers of at least 1, --repeats of at least 3")
    if arguments.out and not arguments.out.parent.is_dir():
        raise UserError(f"--out {arguments.out}: there is no folder {arguments.out.parent}")
    devices = tuple(arguments.device or (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]))
    if "cuda" in devices and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here; use --device cpu")
    missing = None if arguments.no_compile else bench_method.compiler_missing()
    if missing:
        print(f"compiled rows left out: {missing}", file=sys.stderr)
    compiled = not arguments.no_compile and not missing
    if arguments.what == "method":
        bench, settings = bench_method, list(bench_method.plan(neurons, tuple(threads), devices, compiled))
        settings = [setting | {"repeats": arguments.repeats} for setting in settings]
    else:
        bench = bench_pretrain
        settings = list(bench.plan(arguments.sizes, arguments.batch, arguments.context, threads, devices, compiled))
        settings = [setting | {"rounds": arguments.repeats, "progress": True} for setting in settings]
    rows = []
    for setting in tqdm(settings, unit="size"):
        rows += bench.measure(**setting)
    print(bench.table(rows))
    if arguments.out:
        machine = torch.cuda.get_device_name() if "cuda" in devices else platform.machine()
        record = {"torch": torch.__version__, "python": platform.python_version(), "machine": machine}
        record["cpu"] = torch.backends.cpu.get_cpu_capability()  # such as "AVX2": what its kernels were chosen by
        arguments.out.write_text(json.dumps({**record, "rows": bench.as_record(rows)}, indent=1) + "\n")
    return 0
