"""What a run says of itself: the log's columns, the progress bar, TensorBoard events."""

import csv
import sys

import numpy as np
import pytest
import torch

from l2e_min.lab.mini_pythia import load_model, untrained
from l2e_min.lab.training import events as e
from l2e_min.lab.training import pretrain as p
from l2e_min.lab.training.devices import Devices
from l2e_min.lab.training.methods import attach_method, chosen_sites
from l2e_min.lab.training.progress import in_words
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.lab.training.run_folder import COLUMNS, TrainingLog
from l2e_min.lab.training.watch import inhibitor_numbers, look_inside

TINY = {"size": "16x2", "steps": 20, "batch": 4, "context": 16, "log_every": 5, "validate_every": 10, "vocabulary": 300}


def settings(**changes) -> PretrainSettings:
    return PretrainSettings(**{**TINY, "device": "cpu", "precision": "fp32", **changes})


def train(out, corpus, progress=False, **changes):
    return p.pretrain(settings(**changes), out, checkpoint_every=7, corpus=corpus, progress=progress)


def rows(out) -> list[dict[str, str]]:
    with open(out / "training_log.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_look_is_the_definition_by_hand():
    chosen = settings()
    model = untrained("16x2", vocabulary=300, context=16).train()
    inputs = torch.randint(0, 300, (40, 16), generator=torch.Generator().manual_seed(0))
    got = look_inside(Devices(chosen), model, inputs, inputs, chosen_sites(model, "all"))
    seen = []
    for layer in model.gpt_neox.layers:
        layer.mlp.dense_4h_to_h.register_forward_pre_hook(lambda _m, z: seen.append(z[0].numpy().astype(np.float64)))
    with torch.no_grad():
        model(input_ids=inputs[:32])  # 512 tokens
    tops, variances = [], []
    for z in seen:
        z = z.reshape(512, -1)
        var = z.var(0, ddof=1)
        tops.append(((z - z.mean(0)) ** 2 / var).max(1).mean())
        variances.append(var)
    assert got["top_ms"] == pytest.approx(np.mean(tops), rel=1e-6)
    every = np.sort(np.concatenate(variances))
    assert got["median_variance"] == pytest.approx(every[(len(every) - 1) // 2], rel=1e-6)
    assert model.training


def test_constant_neurons_have_no_ms():
    model = untrained("16x2", vocabulary=300, context=16)
    for layer in model.gpt_neox.layers:
        torch.nn.init.zeros_(layer.mlp.dense_h_to_4h.weight)
    inputs = torch.arange(64).reshape(4, 16)
    got = look_inside(Devices(settings()), model, inputs, inputs, chosen_sites(model, "all"))
    assert got == {"top_ms": 0, "median_variance": 0}


@pytest.mark.slow
def test_every_line_has_what_the_method_has(tmp_path, corpus):
    for method in ("plain", "memel", "l2e"):
        train(tmp_path / method, corpus, method=method)
    plain, memel, l2e = (rows(tmp_path / method) for method in ("plain", "memel", "l2e"))
    for lines in (plain, memel, l2e):
        assert list(lines[0]) == list(COLUMNS) and len(lines) == 4
        assert all(float(row["top_ms"]) > 1 and float(row["median_variance"]) > 0 for row in lines)
    assert all(row["threshold"] == row["share_selected"] == "" for row in plain)
    assert all(row["threshold"] == "" and float(row["share_selected"]) == pytest.approx(1 / 1024) for row in memel)
    assert all(0 < float(row["share_selected"]) < 0.2 and float(row["threshold"]) > 1 for row in l2e)
    tensors = p.load_checkpoint(tmp_path / "l2e/checkpoints/step-00000020")[1]["inhibitor"]
    taus = [tensor.exp().item() for name, tensor in tensors.items() if name.endswith("log_tau")]
    assert float(l2e[-1]["threshold"]) == pytest.approx(np.mean(taus), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["l2e", "memel", "random_pairs"])
def test_looking_changes_nothing(tmp_path, corpus, method):
    train(tmp_path / "often", corpus, method=method, log_every=1, validate_every=1)
    train(tmp_path / "once", corpus, method=method, log_every=20, validate_every=20)
    often, once = (load_model(tmp_path / name / "model")[0].state_dict() for name in ("often", "once"))
    assert all(torch.equal(often[name], once[name]) for name in once)


def test_the_device_is_read_on_lines_of_the_log_only(tmp_path, corpus, monkeypatch):
    at, reads, item, step = [0], [], torch.Tensor.item, p.training_step

    def counting(*arguments):
        at[0] += 1
        found = step(*arguments)
        assert not [n for n in reads if n == at[0]], "read within a step"
        return found

    def read(tensor):
        reads.append(at[0])
        return item(tensor)

    monkeypatch.setattr(p, "training_step", counting)
    monkeypatch.setattr(torch.Tensor, "item", read)
    monkeypatch.setattr(torch.Tensor, "__float__", lambda t: read(t))
    p.pretrain(settings(method="l2e"), tmp_path, checkpoint_every=100, corpus=corpus, progress=False)
    assert {n for n in reads if n < 20} <= {0, 5, 10, 15}, "read between two lines of the log"


def test_an_old_log_keeps_its_columns(tmp_path):
    path = tmp_path / "training_log.csv"
    path.write_text("step,tokens,loss,learning_rate,gradient_norm,validation_loss,validation_bits_per_byte\n")
    log = TrainingLog(path)
    log.truncate(path.stat().st_size)
    row = {"step": 25, "tokens": 51200, "loss": 5.5, "learning_rate": 4e-3, "gradient_norm": 1.25, "top_ms": 9.0}
    log.add(row | {"validation_loss": 5.0})
    assert path.read_text().splitlines()[1] == "25,51200,5.500000,0.004,1.250000,5.000000,"


def test_the_bar_shows_what_there_is():
    row = {"step": 5, "loss": 3.1234, "top_ms": 45.4, "median_variance": 0.0251}
    assert in_words(row) == "loss 3.123, MS 45, S² 0.025"
    more = {"threshold": 5.412, "share_selected": 0.0203}
    assert in_words(row | more) == "loss 3.123, MS 45, S² 0.025, threshold 5.41, share 2.03%"


def test_the_inhibitors_numbers_are_means_over_layers():
    model = untrained("16x2", vocabulary=300, context=16).train()
    _, extras = attach_method(settings(method="l2e"))(model)
    assert inhibitor_numbers(extras.values()) == {}, "nothing seen yet"
    model(input_ids=torch.arange(64).reshape(4, 16), labels=torch.arange(64).reshape(4, 16)).loss.backward()
    first, second = extras["inhibitor"].report().rows
    assert inhibitor_numbers(extras.values())["threshold"] == pytest.approx((first["tau"] + second["tau"]) / 2)


def test_without_tensorboard_one_line_says_so(tmp_path, corpus, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    e.say_once.cache_clear()
    for name in ("first", "second"):
        train(tmp_path / name, corpus, progress=True)
    lines = [line for line in capsys.readouterr().err.splitlines() if "TensorBoard" in line]
    assert len(lines) == 1 and 'pip install "l2e-min[log]"' in lines[0]
    assert not (tmp_path / "first" / "events").exists()


def test_events_are_those_of_the_log(tmp_path, corpus):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, corpus, method="l2e")
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    for column in ("loss", "top_ms", "threshold", "share_selected"):
        found = [(event.step, event.value) for event in events.Scalars(column)]
        assert found == [(int(row["step"]), pytest.approx(float(row[column]), rel=1e-4)) for row in rows(tmp_path)]
    assert [event.step for event in events.Scalars("validation_loss")] == [10, 20]
