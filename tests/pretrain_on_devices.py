"""Run by torchrun from test_pretrain_devices: trains what a JSON list says, one run after another."""

import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

TINY = {"size": "16x2", "steps": 14, "batch": 8, "context": 16, "log_every": 7, "validate_every": 7, "vocabulary": 500}


def corpus():
    draw = random.Random(0)
    texts = [" ".join(draw.choices(["the", "neuron", "def", "return", "x"], k=300)) for _ in range(8)]
    documents = [SimpleNamespace(text=text) for text in texts]
    return SimpleNamespace(name="words", train=documents[:6], validation=documents[6:], fingerprint="f" * 64)


def go(out: Path, changes: dict, shard: bool = False, stop_at: int = 0, read: Path | None = None) -> dict:
    """Trains; stops like after Ctrl-C where ``stop_at`` is given; notes in ``read`` which rows this process took."""
    import os
    import signal

    from l2e_min.lab.training import pretrain as p
    from l2e_min.lab.training.blocks import Blocks
    from l2e_min.lab.training.recipe import PretrainSettings
    from l2e_min.lab.training.stopping import Interrupted

    settings = PretrainSettings(**{**TINY, "device": "cpu", "precision": "fp32", **changes})
    whole_step, whole_read, done, rows = p.training_step, Blocks.read, [], []

    def step(*arguments):
        done.append(1)
        if len(done) == stop_at and os.environ.get("RANK", "0") != "0":  # one process hears of it, all must stop
            os.kill(os.getpid(), signal.SIGTERM)
        return whole_step(*arguments)

    def reading(self, position, n):
        rows.extend(range(position, position + n))
        return whole_read(self, position, n)

    p.training_step, Blocks.read = step, reading
    try:
        return p.pretrain(settings, out, checkpoint_every=7, corpus=corpus(), progress=False, shard=shard)
    except Interrupted as stop:
        return {"stopped": stop.step, "status": stop.status}
    finally:
        p.training_step, Blocks.read = whole_step, whole_read
        if read:
            read.with_suffix(f".{os.environ.get('RANK', '0')}").write_text(json.dumps(rows))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for run in json.loads(Path(sys.argv[1]).read_text()):
        read = Path(run["read"]) if "read" in run else None
        go(Path(run["out"]), run["changes"], run.get("shard", False), run.get("stop_at", 0), read)
