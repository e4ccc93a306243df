"""One fine-tuning run: it learns what is planted, is decided by its arguments alone, and says when it fails."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from finetune_data import planted_task, rows, tiny_bert

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning import run as r
from l2e_min.lab.finetuning.batches import Encoded
from l2e_min.lab.finetuning.methods import Method
from l2e_min.lab.finetuning.run import FineTuneSettings, fine_tune, left_on, loss_of, predict
from l2e_min.lab.finetuning.task import Task
from l2e_min.lab.training.method_choice import DEACTIVATING

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("model"))


def settings(method="plain", **changes) -> FineTuneSettings:
    method = method if isinstance(method, Method) else Method(method)
    return FineTuneSettings(**{"method": method, "learning_rate": 1e-2, "epochs": 2, "batch": 16, **changes})


SMALL = planted_task(train=64)


def small(model, method="plain", seed=0, **changes):
    """A run of eight steps."""
    return fine_tune(SMALL, model, settings(method, seed=seed, **changes))


@pytest.fixture(scope="module")
def learned(model):
    return fine_tune(planted_task(), model, settings("memel", epochs=4))


# --- it learns


@pytest.mark.slow
def test_a_planted_task_is_learned(learned):
    assert min(learned.scores.values()) > 90 and set(learned.scores) == {"dev", "test", "test_on"}
    loss = learned.curve["loss"]
    assert loss[0] > 0.5 and np.mean(loss[-3:]) < 0.3 * loss[0]
    assert learned.curve["step"] == list(range(2, 49, 2)) and learned.curve["dev_step"] == [8, 16, 24, 32, 40, 48]
    assert learned.curve["dev"][-1] == learned.scores["dev"] and not learned.model.training


def test_a_planted_regression_is_learned(model):
    found = fine_tune(planted_task(values=True), model, settings(epochs=4))
    assert min(found.scores.values()) > 60 and set(found.scores) == {"dev", "test"}  # the standard error of 0 is 10
    assert found.curve["loss"][0] == pytest.approx(1, abs=0.3), "variance of the labels: the unit of the loss"


def test_shuffled_labels_score_at_chance(model):
    """The rows to report keep their labels; what is learned says nothing about them (5 standard errors)."""
    task = planted_task()
    shuffled = np.random.default_rng(0).permutation(task.train.labels)
    many = rows(400, 9)
    found = fine_tune(replace(task, train=replace(task.train, labels=shuffled), test=many), model, settings(epochs=1))
    assert found.scores["test"] == pytest.approx(50, abs=5 * 50 / np.sqrt(400))


# --- what decides


@pytest.mark.parametrize("method", ["plain", "memel", "l2e"])
def test_the_same_arguments_give_the_same_numbers_whatever_ran_before(model, method):
    torch.manual_seed(1)
    np.random.seed(1)
    first = small(model, method)
    torch.manual_seed(2)
    np.random.seed(2)
    state = torch.random.get_rng_state()
    again = small(model, method)
    assert torch.equal(torch.random.get_rng_state(), state), "and the global random state is left alone"
    assert first.scores == again.scores and first.curve == again.curve
    assert ("test_on" in first.scores) == (method == "memel"), "left on where a value is replaced"
    for one, two in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.slow
def test_seeds_rates_and_weights_matter(model):
    curves = [
        small(model, seed=0).curve["loss"],
        small(model, seed=1).curve["loss"],
        small(model, learning_rate=5e-3).curve["loss"],
        small(model, pretrained=False).curve["loss"],
        small(model, head="cls").curve["loss"],
        small(model, precision="bf16").curve["loss"],
    ]
    assert len({tuple(curve) for curve in curves}) == 6


@pytest.mark.slow
def test_methods_differ_from_the_eleventh_step_on(model):
    """While the moments settle all are plain to the bit."""
    task = planted_task()
    whole = {name: fine_tune(task, model, settings(name, epochs=1)).curve["loss"] for name in ("plain", *DEACTIVATING)}
    for name in DEACTIVATING:
        assert whole[name][:10] == whole["plain"][:10] and whole[name][10] != whole["plain"][10]
    assert len({tuple(curve) for curve in whole.values()}) == 4


def test_the_rate_rises_and_falls_and_the_gradient_is_clipped(model, monkeypatch):
    rates, norms = [], []
    clip = torch.nn.utils.clip_grad_norm_

    def watched(parameters, most):
        parameters = list(parameters)
        clip(parameters, most)
        norms.append(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm().item())

    def before(step, model, inputs, labels, optimizer):
        rates.append({group["lr"] for group in optimizer.param_groups})

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watched)
    fine_tune(SMALL, model, settings(epochs=5, clip=0.1), before_step=before)
    expected = [min(i / 2, (20 - i) / 18) * 1e-2 for i in range(20)]  # 20 steps, of which 2 rise (BERT's recipe)
    assert [rate for (rate,) in rates] == pytest.approx(expected)
    assert max(norms) == pytest.approx(0.1, rel=1e-3)


def test_weight_decay_is_on_matrices_alone(model):
    classifier, _ = r.build_classifier(model, 2, pair=False, head="mean", seed=0)
    decayed, free = r.make_optimizer(classifier, settings(weight_decay=0.2)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.2, 0)
    assert {p.ndim for p in decayed["params"]} == {2} and {p.ndim for p in free["params"]} == {1}
    assert len(decayed["params"]) + len(free["params"]) == len(list(classifier.parameters()))


def test_the_loss_is_cross_entropy_or_the_squared_error():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 2, 1, 1, 0])
    p = np.exp(logits.double().numpy())
    slow = np.mean([-np.log(p[i, label] / p[i].sum()) for i, label in enumerate(labels)])
    assert loss_of(logits, labels).item() == pytest.approx(slow, rel=1e-6)
    values = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    assert loss_of(logits[:, :1], values).item() == pytest.approx(
        np.mean((logits[:, 0] - values).numpy() ** 2), rel=1e-6
    )


# --- what is reported


@pytest.mark.slow
def test_the_scores_are_those_of_the_last_weights(learned, model):
    """Again by hand from the model that is handed back, row by row in the task's own order."""
    task = planted_task()
    for split in ("dev", "test"):
        part = getattr(task, split)
        right = 0
        for text, label in zip(part.first, part.labels, strict=True):
            inputs = learned.tokenizer(text, truncation=True, max_length=task.max_tokens, return_tensors="pt")
            with torch.no_grad():
                right += learned.model(**inputs).argmax().item() == label
        assert learned.scores[split] == pytest.approx(100 * right / len(part))


def test_further_rows_are_reported_under_their_name_and_choose_nothing(model):
    more = replace(SMALL, more=(("mismatched", rows(30, 7)),))
    found, without = fine_tune(more, model, settings("memel")), small(model, "memel")
    assert set(found.scores) == {"dev", "test", "test_on", "mismatched"} and found.curve == without.curve
    data = Encoded(rows(30, 7), found.tokenizer, SMALL)
    assert found.scores["mismatched"] == SMALL.score(predict(found.model, data, settings()), rows(30, 7).labels)


def test_left_on_acts_and_puts_everything_back(learned):
    """The moments move while it is on; afterwards nothing is another than before."""
    inhibitor = learned.inhibitor
    encoder = inhibitor.model
    data = Encoded(planted_task().test, learned.tokenizer, planted_task())
    inputs, _ = data.batch(np.arange(96))

    def everything():
        state = {**learned.model.state_dict(), **inhibitor.state_dict()}
        flags = [
            (name, m.training, len(m._forward_hooks), len(m._forward_pre_hooks))
            for name, m in learned.model.named_modules()
        ]
        return {name: tensor.clone() for name, tensor in state.items()}, flags

    with torch.no_grad():
        before, flags = everything()
        off = learned.model(**inputs)
        assert torch.equal(off, learned.model(**inputs))
        with left_on(inhibitor):
            on = learned.model(**inputs)
            within = {name for name, m in encoder.named_modules() if m.training}
            moved = inhibitor.state_dict()
            assert any(not torch.equal(tensor, before[name]) for name, tensor in moved.items())
        assert not torch.equal(on, off)
        assert within == {site.name for site in inhibitor.sites}, "dropout stays off"
        after, flags_after = everything()
        assert flags_after == flags and after.keys() == before.keys()
        assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
        assert torch.equal(learned.model(**inputs), off)
        with pytest.raises(ZeroDivisionError), left_on(inhibitor):
            learned.model(**inputs)
            raise ZeroDivisionError
        assert everything()[1] == flags and torch.equal(learned.model(**inputs), off)


def test_after_step_sees_every_step(model):
    seen = []
    fine_tune(
        SMALL,
        model,
        settings(),
        after_step=lambda *a: seen.append((a[0], a[1].training, a[2]["input_ids"].shape[0], len(a[3]))),
    )
    assert seen == [(step, True, 16, 16) for step in range(1, 9)]


def test_w24_s_reading_of_a_neuron_pads_every_batch_alike(model):
    lengths = set()
    found = fine_tune(SMALL, model, settings(Method("memel", reading="entry"), epochs=1),
                      after_step=lambda *a: lengths.add(a[2]["input_ids"].shape[1]))  # fmt: skip
    assert lengths == {SMALL.max_tokens} and "test_on" in found.scores
    assert {s.moments.mean.numel() for s in found.inhibitor.states.values()} == {SMALL.max_tokens * 32}


# --- bad input


def test_a_loss_that_is_not_finite_is_said(model, monkeypatch):
    monkeypatch.setattr(r, "loss_of", lambda logits, labels: (logits * float("nan")).sum())
    with pytest.raises(UserError, match="the loss is nan at step 1: a lower learning rate may help"):
        small(model)


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_said(rate):
    with pytest.raises(UserError, match="learning_rate must be above 0, got"):
        settings(learning_rate=rate)


def test_sizes_that_are_none_are_said():
    for name in ("epochs", "batch"):
        with pytest.raises(UserError, match=f"{name} must be at least 1, got 0"):
            settings(**{name: 0})


def test_a_missing_model_is_said(tmp_path):
    with pytest.raises(UserError, match=r"no model in .*: expected a folder"):
        small(str(tmp_path))


def test_fewer_steps_than_points_of_the_curve(model):
    one = replace(SMALL, train=SMALL.train.take(range(5)))
    found = fine_tune(one, model, settings(epochs=1))
    assert found.curve["step"] == [1] and found.curve["dev_step"] == [1] and isinstance(one, Task)
    assert copy.copy(found.scores)["dev"] == found.curve["dev"][-1]
