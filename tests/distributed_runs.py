"""Ten steps of training on the joint batches: in one process, or in one of several under DDP or FSDP."""

import contextlib
from pathlib import Path

import torch
import torch.distributed as dist
from models import PlainMLP
from safetensors.torch import save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from l2e_min import Inhibitor, MovingThreshold, TopK

STEPS, ROWS = 10, 32
WAYS = {  # how a model is inhibited
    "RD, threshold": {"inhibition": "reverse", "retrieval": MovingThreshold(0.1)},
    "RD, top-1": {"inhibition": "reverse", "retrieval": TopK(k=1)},
    "log_ms in the loss": {"inhibition": "log_ms", "weight": 0.1},
    "log_ms in the backward pass": {"inhibition": "log_ms", "weight": 0.1, "penalty_in": "backward"},
    "ms, top-1, in the backward pass": {
        "inhibition": "ms",
        "weight": 0.1,
        "penalty_in": "backward",
        "retrieval": TopK(k=1),
    },
}
SPLITS = {  # rows of process 0 at each step; process 1 has the others
    "equal": [16] * STEPS,
    "unequal": [12, 3, 25, 16, 31, 1, 12, 12, 20, 5],
    "sometimes none": [16, 16, 0, 16, 32, 16, 0, 0, 32, 16],
}


def train(way: str, wrap: str | None = None, split: str = "equal", poison: int | None = None, **more) -> dict:
    """Weights and the inhibitor's state. ``wrap``: None (one process), "ddp" or "fsdp". ``poison``: a step with a NaN
    among the last rows, after which only the state counts."""
    torch.manual_seed(0)
    model = PlainMLP()
    given = {"retrieval": MovingThreshold(0.1), "start_after": 2, "forget_after": 4} | WAYS[way] | more
    inhibitor = Inhibitor(model, ["act", "act2"], **given)
    run = model
    if wrap == "ddp":
        run = DistributedDataParallel(model)
    elif wrap == "fsdp":
        from torch.distributed.fsdp import fully_shard

        for part in (model.first, model.second, model.out):
            fully_shard(part)
        fully_shard(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    g = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        x, y = 3 + torch.randn(ROWS, 8, generator=g), torch.randint(0, 3, (ROWS,), generator=g)
        if step == poison:
            x[-1] = torch.nan
        processes = 1
        if wrap:
            cut, processes = SPLITS[split][step], 2
            x, y = (t[:cut] if dist.get_rank() == 0 else t[cut:] for t in (x, y))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(run(x), y, reduction="sum") / ROWS
        (processes * loss + inhibitor.penalty()).backward()  # DDP and FSDP average
        if step != poison:
            optimizer.step()
    whole = {n: p.full_tensor() if hasattr(p, "full_tensor") else p for n, p in model.named_parameters()}
    inhibitor.remove()
    return {n: t.detach().clone() for n, t in (whole | inhibitor.state_dict()).items()}


RUNS = [  # (name, arguments of train) of everything that two processes run
    *((f"ddp/{split}/{way}", {"way": way, "wrap": "ddp", "split": split}) for split in SPLITS for way in WAYS),
    *((f"fsdp/equal/{way}", {"way": way, "wrap": "fsdp"}) for way in WAYS),
    ("ddp/poison", {"way": "log_ms in the loss", "wrap": "ddp", "poison": 5}),
    ("ddp/alone", {"way": "RD, threshold", "wrap": "ddp", "sync": False}),
]


def process(rank: int, folder: str) -> None:
    """One of two: runs everything and writes ``folder/rank.safetensors``, and what failed to ``folder/rank.txt``."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    group = dist.new_group([0, 1])
    tensors, failed = {}, []
    runs = [*RUNS, ("ddp/group", {"way": "log_ms in the loss", "wrap": "ddp", "process_group": group})]
    for name, arguments in runs:
        with contextlib.ExitStack() as stack:
            try:
                tensors |= {f"{name}|{key}": t for key, t in train(**arguments).items()}
            except Exception as error:
                stack.callback(failed.append, f"{name}: {type(error).__name__}: {error}")
    save_file(tensors, f"{folder}/{rank}.safetensors")
    Path(f"{folder}/{rank}.txt").write_text("\n".join(failed))
    dist.destroy_process_group()
