"""The retrieval study against slow versions, planted truth and laws that hold on paper."""

import math

import numpy as np
import pytest
import torch
from reference import lemma_3_2
from reference import phi as slow_phi

from l2e_min import MovingThreshold
from l2e_min.lab.errors import UserError
from l2e_min.lab.measure import token_values
from l2e_min.lab.mini_pythia import load_shipped, untrained
from l2e_min.lab.retrieval_study import costs, settling, stream
from l2e_min.lab.retrieval_study.chase import FixedStep, above, chase, pooled_log_quantile
from l2e_min.lab.retrieval_study.richness import Selected, rich_and_poor

SLOPE = 1.5  # of log share against -log tau


def pareto(n_batches=20, pairs=50_000, seed=0):
    """Sorted batches with P(phi >= x) = x ** -SLOPE: a law of which every quantile is known."""
    rng = np.random.default_rng(seed)
    return [np.sort(rng.random(pairs) ** (-1 / SLOPE)).astype(np.float32) for _ in range(n_batches)]


@pytest.fixture(scope="module")
def batches():
    return pareto()


@pytest.mark.parametrize("share", [0.02, 0.001])
def test_pooled_quantile(batches, share):
    found = pooled_log_quantile(batches, share)
    assert found == pytest.approx(-math.log(share) / SLOPE, abs=0.05)
    assert np.mean(np.concatenate(batches) >= np.exp(found)) == pytest.approx(share, abs=2e-5)


def test_a_pair_at_the_threshold_is_above_it():
    assert above(np.array([1, 2, 2, 4], dtype=np.float32), math.log(2)) == 3  # phi >= tau, as MovingThreshold has it


def test_chase_is_the_threshold_on_the_drifted_batches(batches):
    log_scale, direct = 0.05 * np.arange(30), MovingThreshold(0.02, start=3.0)
    found = chase(MovingThreshold(0.02, start=3.0), batches, log_scale, seed=4)
    rng = np.random.default_rng(4)
    order = np.concatenate([rng.permutation(20), rng.permutation(20)])[:30]
    for i in range(30):
        assert found.log_tau[i] == pytest.approx(direct.log_tau.item(), abs=2e-3)
        mask = direct(torch.from_numpy(batches[order[i]]) * math.exp(log_scale[i]))
        assert found.share[i] == pytest.approx(mask.double().mean().item(), rel=0.01)
    assert found.log_quantile[10] - found.log_quantile[0] == pytest.approx(0.5)
    assert found.off(5) == pytest.approx(np.sqrt(((found.log_tau - found.log_quantile)[5:] ** 2).mean()))


@pytest.mark.parametrize(("rate", "drift"), [(0.1, 0.01), (0.3, 0.03), (0.3, 0.0), (0.1, -0.02)])
def test_a_fixed_step_lags_by_drift_over_rate(batches, rate, drift):
    found = chase(FixedStep(rate, 0.02, start=10.0), batches, drift * np.arange(500))
    assert found.relative_error(0.02)[100:].mean() == pytest.approx(drift / rate, abs=0.01)


def test_a_drift_above_twice_the_step_is_never_caught(batches):
    assert chase(FixedStep(0.02, 0.02, start=13.0), batches, 0.05 * np.arange(300)).share[-50:].mean() > 0.9


def test_a_step_beyond_the_stable_one_jitters(batches):
    still = np.zeros(300)
    off = {rate: chase(FixedStep(rate, 0.02, start=13.0), batches, still).off(100) for rate in (0.1, 1.0, 2.5 / SLOPE)}
    assert off[0.1] < 0.05 < 4 * off[1.0] < off[2.5 / SLOPE]


def test_bookkeeping_ties_the_share_to_where_tau_ends(batches):
    """Without clipping, log tau moves by rate times the sum of the errors: whatever the batches hold."""
    found = chase(FixedStep(0.1, 0.02, start=13.0), batches, 0.3 * np.sin(np.arange(400) / 20))
    u = found.relative_error(0.02)[:-1]
    assert np.abs(u).max() < 1  # nothing was clipped
    assert u.sum() * 0.1 == pytest.approx(found.log_tau[-1] - found.log_tau[0], abs=1e-4)


def test_interval_of_the_share_is_students_over_blocks():
    share = 0.02 * (1 + np.random.default_rng(0).normal(0.03, 0.1, 700))
    found = settling.relative_share_error(share, 0.02)
    blocks = [np.mean(share[200 + 25 * i : 225 + 25 * i]) / 0.02 - 1 for i in range(20)]
    half = 2.093024 * math.sqrt(sum((b - np.mean(blocks)) ** 2 for b in blocks) / 19 / 20)
    assert (found.low, found.value, found.high) == pytest.approx(
        (found.value - half, np.mean(blocks), found.value + half)
    )
    assert found.low < 0.03 < found.high and found.n == 500 and found.seeds == 1


def test_interval_of_the_share_is_calibrated_and_wide_under_feedback():
    rng = np.random.default_rng(1)
    iid = [settling.relative_share_error(0.02 * (1 + rng.normal(0, 0.1, 500)), 0.02) for _ in range(400)]
    paid_back = [settling.relative_share_error(0.02 * (1 + np.diff(rng.normal(0, 0.1, 501))), 0.02) for _ in range(400)]
    assert 0.92 < np.mean([m.low < 0 < m.high for m in iid]) < 0.98
    assert np.mean([m.low < 0 < m.high for m in paid_back]) > 0.98


def test_steps_to_settle_by_hand():
    path = [4.0, 2.0, 0.5, 0.11, 0.09, 0.3, *[0.0] * 500]
    assert settling.steps_to_settle(path) == 4
    assert settling.steps_to_settle([0.0] * 500) == 0


def test_farthest_is_by_size():
    ms = [settling.relative_share_error([0.02 * (1 + x)] * 500, 0.02) for x in (0.01, -0.03, 0.02)]
    assert settling.farthest(ms).value == pytest.approx(-0.03)


@pytest.fixture(scope="module")
def little():
    """An untrained model of 64 neurons, the shipped tokenizer, 72 texts, and what follow() found."""
    tokenizer = load_shipped()[1]
    model = untrained("16x2", seed=0)
    texts = [f"def f{i}(x): return x + {i * 37 % 101} # {'ab'[i % 2] * 9}" for i in range(72)]
    return model, tokenizer, texts, stream.follow(model, tokenizer, texts, 36, keep_layer=1, keep_batches=5, tokens=12)


def test_follow_keeps_the_values_in_the_order_of_the_texts(little):
    model, tokenizer, texts, found = little
    for i in (0, 5, 71):
        values = token_values(model, tokenizer, texts[i])[1][:12, 1]
        torch.testing.assert_close(found.values[i], values, atol=1e-5, rtol=1e-4)


def test_follow_against_loops(little):
    found = little[3]
    order = np.array_split(np.random.default_rng(0).permutation(72), 36)
    m, mean, var, judged = 0, None, None, []
    for number, rows in enumerate(order):
        z = np.concatenate([found.values[i].double().numpy() for i in rows])  # (tokens, 64)
        if number:
            judged.append(slow_phi(z, mean, var, 0.01))
            old = 10 * len(z) if number >= 10 else m
            pairs = [lemma_3_2(old, mean[j], var[j], z[:, j]) for j in range(64)]
            m, (mean, var) = old + len(z), np.array(pairs).T
        else:
            m, mean, var = len(z), z.mean(0), z.var(0, ddof=1)
    pooled = np.quantile(np.concatenate([phi.ravel() for phi in judged[:20]]), 0.98)
    for start in (55.0, 1 / 55):
        path = found.paths[1, 0.02, start]
        assert len(path.share) == len(judged) == 35
        assert path.log_tau[0] == pytest.approx(math.log(pooled * start), abs=1e-3)
        for phi, log_tau, share in zip(judged, path.log_tau, path.share, strict=True):
            assert share == pytest.approx((phi >= math.exp(log_tau)).mean(), abs=1.5 / phi.size)
    assert len(found.sorted_phi) == 5
    np.testing.assert_allclose(found.sorted_phi[-1], np.sort(judged[-1].ravel()), rtol=1e-3, atol=1e-6)


def test_follow_runs_every_layer_share_and_start(little):
    paths = little[3].paths
    assert set(paths) == {(layer, k, off) for layer in (0, 1) for k in (0.02, 0.001) for off in (55.0, 1 / 55)}
    assert len({tuple(path.log_tau) for path in paths.values()}) == 8


def test_layer_quantiles_by_hand(little):
    model, tokenizer, texts, found = little
    z = torch.cat(found.values).double().numpy()
    phi = slow_phi(z, z.mean(0), z.var(0, ddof=1), 0.01)
    got = stream.layer_quantiles(model, tokenizer, texts, 0.02, tokens=12)
    assert got.shape == (2,) and got[1] == pytest.approx(np.quantile(phi, 0.98), rel=1e-3)


def planted_texts(n=240, owned=(60, 20, 10), tokens=4, seed=0):
    """Texts of three features; ``owned[f]`` of the 100 neurons answer to f, the last ten to nothing."""
    g = torch.Generator().manual_seed(seed)
    labels = np.arange(n) % 3
    own = torch.repeat_interleave(torch.tensor([0, 1, 2, 3]), torch.tensor([*owned, 10]))
    values = [
        torch.randn(tokens, 100, generator=g) + 5.0 * (own == f) * (torch.rand(tokens, 100, generator=g) < 0.3)
        for f in labels.tolist()
    ]
    return values, labels, own


def test_a_threshold_takes_more_where_more_is_planted_and_top_k_the_same_everywhere():
    values, labels, _ = planted_texts()
    found = rich_and_poor(values, labels, share=0.05, per_batch=8)
    assert found.share_of_neurons == pytest.approx([0.6, 0.2, 0.1], abs=0.1)  # ten neurons have any l*
    rich, middle, poor = (found.single.share(f).mean() for f in range(3))
    assert rich > 1.5 * middle > 1.5 * poor
    top = found.single.top / found.single.pairs
    assert top.max() - top.min() < 1e-3 and set(found.mixed.label) == {-1}
    assert found.single.top.sum() == pytest.approx(found.single.threshold.sum(), rel=0.01)
    # In batches of one feature top-k must take false pairs where few are planted; mixed batches are all alike.
    assert found.single.fkr_difference().high < -0.02
    mixed = found.mixed.fkr_difference()
    assert abs(mixed.value) < 0.02
    measured = found.single.pairs.sum() / 400
    assert measured == found.mixed.pairs.sum() / 400 == pytest.approx(120, abs=6)  # one half of the texts


def test_false_pairs_are_counted_as_equation_4_says():
    """A threshold that takes all but a few: the false share is the share of neurons whose l* the batch is not of."""
    values, labels, _ = planted_texts(n=48)
    found = rich_and_poor(values, labels, share=1.0, per_batch=8)
    taken, false = found.single.threshold / found.single.pairs, found.single.threshold_false / found.single.pairs
    assert taken.min() > 0.99
    np.testing.assert_allclose(false, 1 - found.share_of_neurons[found.single.label], atol=0.01)


def test_fkr_difference_by_hand():
    a = np.array
    s = Selected(a([0, 0]), a([100, 100]), a([10, 30]), a([2, 9]), a([20, 20]), a([10, 5]))
    found = s.fkr_difference()
    assert found.value == pytest.approx(11 / 40 - 15 / 40) and found.low < found.value < found.high
    assert s.share(0).tolist() == [0.1, 0.3]


def test_every_way_selects_the_same_pairs():
    table = costs.ways(costs.heavy_tailed(50, 40))  # 2 % are 40 pairs exactly
    want = table["top 2 % by sort"]()
    for name in ("topk", "quantile", "NumPy's argpartition", "heap"):
        assert torch.equal(table[f"top 2 % by {name}"](), want), name
    assert "top 2 % by heap" not in costs.ways(costs.heavy_tailed(2, 2 * costs.HEAP_WIDTH))


def test_costs_are_in_copies():
    rows = costs.retrieval_costs((32, 64), tokens=16, repeats=3)
    assert {r.neurons for r in rows} == {32, 64} and len(rows) == 2 * 8
    assert all(r.copies == 1 for r in rows if r.operation == "copy") and all(r.low <= r.copies <= r.high for r in rows)


def test_growth_exponent_of_a_known_growth(monkeypatch):
    monkeypatch.setattr(costs, "seconds", lambda call: call())
    noise = np.random.default_rng(0)
    calls = {float(n): lambda n=n: n**0.5 * math.exp(noise.normal(0, 0.05)) for n in (1, 10, 100, 1000)}
    found = costs.growth_exponent(calls, turns=50)
    assert found.value == pytest.approx(0.5, abs=0.01) and found.low < found.value < found.high < found.low + 0.05


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: FixedStep(0.0), ValueError, "rate is 0"),
        (lambda: chase(FixedStep(0.1), [], [0.0]), ValueError, "0 batches"),
        (lambda: chase(FixedStep(0.1), pareto(1, 10), []), ValueError, "0 steps"),
        (lambda: settling.relative_share_error([0.02] * 499, 0.02), ValueError, "499 batches"),
        (lambda: settling.relative_share_error([0.02] * 500, 0.02, blocks=7), ValueError, "7 blocks"),
        (lambda: settling.steps_to_settle([0.0] * 3), ValueError, "3 batches"),
        (lambda: stream.follow(None, None, ["a"] * 99, 20), UserError, "n_batches is 20"),
        (lambda: next(stream.token_batches(None, None, ["a"], 2)), UserError, "1 texts cannot make 2"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
