"""What a step of fine-tuning does to the selected pairs: the watch leaves the run alone and sees what it should."""

import copy
import json

import numpy as np
import pytest
import torch
from finetune_data import planted_task, tiny_bert

from l2e_min import RunningMoments
from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning import decrease as d
from l2e_min.lab.finetuning.methods import Method
from l2e_min.lab.finetuning.run import FineTuneSettings, fine_tune
from l2e_min.lab.finetuning.watch import FLOOR, PICKS, Pairs, Watch, picked_pairs

TASK = planted_task(train=64)
EVERY = 6  # of 24 steps: 12, 18 and 24 are looked at


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_bert(tmp_path_factory.mktemp("model"))


def settings(method: str, **changes) -> FineTuneSettings:
    return FineTuneSettings(**{"method": Method(method), "learning_rate": 1e-2, "epochs": 6, "batch": 16, **changes})


@pytest.fixture(scope="module")
def seen(model):
    """{method: (pairs, run)}"""
    return {name: d.watched_run(TASK, model, settings(name), every=EVERY) for name in ("plain", "memel")}


@pytest.mark.slow
def test_a_watched_run_gives_the_numbers_of_the_run_alone(model, seen):
    alone = fine_tune(TASK, model, settings("memel"))
    assert alone.scores == seen["memel"][1].scores and alone.curve == seen["memel"][1].curve
    for p, q in zip(alone.model.parameters(), seen["memel"][1].model.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.slow
def test_the_control_is_fine_tunes_own_plain_step(seen):
    """To the last bit, dropout included: so a difference of another method is the method's."""
    pairs, _ = seen["plain"]
    assert np.array_equal(pairs.after, pairs.control) and not np.array_equal(pairs.after, pairs.before)
    memel, _ = seen["memel"]
    assert np.abs(memel.difference()).max() > 0


def test_which_steps_rows_and_layers_are_there(seen):
    pairs, _ = seen["memel"]
    assert sorted(set(pairs.step)) == [12, 18, 24] and sorted(set(pairs.layer)) == [0, 1]
    assert len(pairs.step) == 3 * 2 * 16 * len(PICKS)
    off, step = (pairs.take(pairs.picked == name) for name in PICKS)
    assert np.array_equal(off.before[off.both], step.before[step.both]) and 0 < off.both.mean() < 1
    assert np.median(off.phi) > np.median(step.phi)  # the largest of the very values that phi is of


def test_the_moments_are_those_that_the_inhibitor_judges_by(model):
    watch = Watch(settings("memel"), EVERY)
    run = fine_tune(TASK, model, settings("memel"), before_step=watch.before, after_step=watch.after)
    # The run's last pass, with the inhibitor left on, puts the inhibitor's moments back: both saw training alone.
    for moments, state in zip(watch.moments, run.inhibitor.states.values(), strict=True):
        assert torch.equal(moments.mean, state.moments.mean) and torch.equal(moments.var, state.moments.var)


def test_a_pair_followed_by_hand(model):
    """Values before, after and of the control of one step, from copies made outside of the watch."""
    s, watch, kept = settings("freeze"), Watch(settings("freeze"), 12), {}

    def output(net, inputs):
        found = []
        handle = net.encoder.encoder.layer[1].register_forward_hook(lambda _m, _i, o: found.append(o))
        net.eval()
        with torch.no_grad():
            net(**inputs)
        handle.remove()
        return found[0][0] if isinstance(found[0], tuple) else found[0]

    def before(number, net, inputs, labels, optimizer):
        if number == 12:
            kept["z"], kept["mean"] = output(copy.deepcopy(net), inputs), watch.moments[1].mean.clone()
            kept["var"] = watch.moments[1].var.clone()
        watch.before(number, net, inputs, labels, optimizer)

    def after(number, net, inputs, labels):
        if number == 12:
            kept["after"] = output(copy.deepcopy(net), inputs)
        watch.after(number, net, inputs, labels)

    fine_tune(TASK, model, s, before_step=before, after_step=after)
    z, z2, mean, var = (kept[name].double().numpy() for name in ("z", "after", "mean", "var"))
    phi = (z - mean) ** 2 / (var + FLOOR * var.mean())  # (b, t, d); W24 Algorithm 2
    ratio = []
    for row in range(len(z)):
        t, i = np.unravel_index(phi[row].argmax(), phi[row].shape)
        ratio.append(100 * (1 - ((z2[row, t, i] - mean[i]) ** 2 / var[i]) / ((z[row, t, i] - mean[i]) ** 2 / var[i])))
    pairs = watch.pairs()
    mine = pairs.take((pairs.step == 12) & (pairs.layer == 1) & (pairs.picked == "off"))
    np.testing.assert_allclose(mine.decrease(), ratio, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(mine.phi, phi.max((1, 2)), rtol=1e-5)


def test_ratios_of_planted_pairs():
    one = np.ones(2)
    pairs = Pairs(one, one, 3 * one, np.array([2.0, 5.0]), 3 * one, one, one, np.array(["off"] * 2), one > 0)
    np.testing.assert_allclose(pairs.decrease(), [75, -300])  # phi 4 becomes 1, or 16
    np.testing.assert_allclose(pairs.moved(), [100 / 3, 200 / 3])
    np.testing.assert_allclose(pairs.difference(), [75, -300])


def test_the_pair_picked_is_the_largest():
    moments = RunningMoments(3)
    moments.update(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)))
    z = torch.zeros(2, 4, 3)
    z[0, 2, 1], z[1, 0, 2] = 9, -9
    assert picked_pairs(z, moments).tolist() == [2 * 3 + 1, 2]


@pytest.mark.slow
def test_the_record_goes_on_and_holds_to_its_settings(model, tmp_path, monkeypatch):
    out, made = tmp_path / "record.json", []
    real = d.watched_run
    settle = lambda s: settings(s.method.name, seed=s.seed)  # noqa: E731

    def watched(task, model, s, **more):
        made.append((s.method.name, s.seed))
        return real(task, model, settle(s), **more)

    monkeypatch.setattr(d, "watched_run", watched)
    more = {"every": EVERY, "progress": False}
    d.make(TASK, model, out, methods=("plain", "memel"), seeds=[0], **more)
    record = d.make(TASK, model, out, methods=("plain", "memel"), seeds=[0, 1], **more)
    assert made == [("plain", 0), ("memel", 0), ("plain", 1), ("memel", 1)]
    assert d.read(out)["rows"] == record["rows"] == json.loads(out.read_text())["rows"]
    assert str(tmp_path) not in out.read_text()
    m = d.over_seeds(record["rows"], "plain", "difference")
    assert (m.value, m.low, m.high, m.seeds) == (0, 0, 0, 2)
    assert (
        d.over_seeds(record["rows"], "memel", layer="1", picked="step").low
        < d.over_seeds(record["rows"], "memel", layer="1", picked="step").high
    )
    assert "memel" in d.as_text(record["rows"])
    with pytest.raises(UserError, match="learning_rate"):
        d.make(TASK, model, out, seeds=[0], rate=1e-3, **more)
    with pytest.raises(UserError, match="at least two"):
        d.over_seeds(record["rows"][:1], "plain")


def test_bad_input_is_named(tmp_path):
    with pytest.raises(UserError, match="reading"):
        Watch(FineTuneSettings(Method("memel", reading="entry")))
    with pytest.raises(UserError, match="every"):
        Watch(settings("plain"), 0)
    with pytest.raises(UserError, match="no step"):
        Watch(settings("plain")).pairs()
    with pytest.raises(UserError, match="makes it"):
        d.read(tmp_path / "none.json")
