"""The Lightning module that chapter 8 shows runs as it stands: with a stand-in, and with Lightning where it is."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch
from models import PlainMLP
from torch import nn

from l2e_min import Inhibitor

CHAPTER = Path(__file__).resolve().parents[1] / "book" / "08_own_model.py"
SITES, WEIGHT = ["act", "act2"], 0.02


class StandIn(nn.Module):
    """As much of a LightningModule as a training loop touches; ``self.log`` keeps what it is told."""

    def __init__(self):
        super().__init__()
        self.logged = {}

    def log(self, name, value):
        self.log_dict({name: value})

    def log_dict(self, values):
        assert all(isinstance(value, float | torch.Tensor) for value in values.values())
        self.logged |= values


def code() -> str:
    text = re.sub(r"^# ?", "", CHAPTER.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (found,) = re.findall(r"```python\n(import lightning\n.*?)```", text, re.DOTALL)
    return found


def module_class(lightning, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", lightning)
    names = {}
    exec(code(), names)
    return names["Inhibited"]


def data(n=12):
    g = torch.Generator().manual_seed(0)
    return [(torch.randn(32, 8, generator=g), torch.randint(0, 3, (32,), generator=g)) for _ in range(n)]


def network():
    torch.manual_seed(0)
    return PlainMLP()


def fit(module, batches, accumulate=1, optimizer=None):
    """An epoch as Lightning runs it: zero_grad, training_step, divided loss, backward, step."""
    module.train()
    optimizer = optimizer or module.configure_optimizers()
    for number, batch in enumerate(batches):
        (module.training_step(batch, number) / accumulate).backward()
        if (number + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    module.on_train_epoch_end()
    return optimizer


def by_hand(batches, accumulate=1, penalty=True):
    """The same training without any framework."""
    net = network()
    inhibitor = Inhibitor(net, SITES, weight=WEIGHT)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for number, (x, y) in enumerate(batches):
        loss = nn.functional.cross_entropy(net(x), y)
        ((loss + inhibitor.penalty() if penalty else loss) / accumulate).backward()
        if (number + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return net


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.fixture
def module(monkeypatch):
    lightning = types.SimpleNamespace(LightningModule=StandIn)
    return module_class(lightning, monkeypatch)(network(), SITES, weight=WEIGHT)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_it_trains_as_a_loop_by_hand(module, accumulate):
    fit(module, data(20), accumulate)
    assert same(module.net, by_hand(data(20), accumulate))
    assert not same(module.net, by_hand(data(20), accumulate, penalty=False)), "the penalty does nothing"
    assert {"loss", "act/share", "act2/variance", "act/dead"} <= module.logged.keys()


def test_validation_leaves_it_alone_and_a_checkpoint_brings_it_back(module, monkeypatch):
    batches = data(24)
    optimizer = fit(module, batches[:12])
    module.eval()
    module.net(batches[0][0])
    assert {row["batches"] for row in module.inhibitor.report().rows} == {12}
    checkpoint = {}
    module.on_save_checkpoint(checkpoint)
    other = type(module)(network(), SITES, weight=WEIGHT)
    other.load_state_dict(module.state_dict())
    other.on_load_checkpoint({"inhibitor": {k: t.clone() for k, t in checkpoint["inhibitor"].items()}})
    again = other.configure_optimizers()
    again.load_state_dict(optimizer.state_dict())
    fit(other, batches[12:], optimizer=again)
    assert same(other.net, by_hand(batches))


def test_in_lightning_itself(monkeypatch, tmp_path):
    lightning = pytest.importorskip("lightning")
    kind = module_class(lightning, monkeypatch)
    batches = data(16)
    rows = torch.utils.data.DataLoader(batches, batch_size=None)  # a bare list would be 16 loaders to Lightning

    def trainer(epochs):
        off = {
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
        }
        return lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", accumulate_grad_batches=4, default_root_dir=tmp_path, **off
        )

    module = kind(network(), SITES, weight=WEIGHT)
    first = trainer(1)
    first.fit(module, rows)
    assert same(module.net, by_hand(batches, 4))
    first.save_checkpoint(tmp_path / "one.ckpt")
    torch.manual_seed(1)
    resumed = kind(PlainMLP(), SITES, weight=WEIGHT)
    trainer(2).fit(resumed, rows, ckpt_path=tmp_path / "one.ckpt")
    assert same(resumed.net, by_hand(batches * 2, 4))
    assert {row["batches"] for row in resumed.inhibitor.report().rows} == {32}
