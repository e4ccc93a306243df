"""phi, the scores of features, K-S and FKR: against slow versions and against planted truth."""

import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from l2e_min import false_killing_rate, feature_scores, ks_statistic, monosemantic_scale, relative_feature
from l2e_min.lab.planted import KINDS, plant


def draw(seed=0, n=60, n_neurons=7, n_features=4):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % n_features)
    return rng.chisquare(1, (n, n_neurons)), labels


@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_phi_is_equation_1(floor):
    rng = np.random.default_rng(0)
    z, mean, var = rng.normal(1, 2, (9, 5)), rng.normal(size=5), rng.uniform(0.1, 3, 5)
    got = monosemantic_scale(*map(torch.tensor, (z, mean, var)), floor=floor)
    np.testing.assert_allclose(got.numpy(), reference.phi(z, mean, var, floor), rtol=1e-13)


def test_phi_keeps_its_shape_dtype_and_gradient():
    z = torch.randn(2, 3, 4, dtype=torch.bfloat16)
    phi = monosemantic_scale(z, torch.zeros(4), torch.ones(4))
    assert phi.shape == z.shape and phi.dtype == torch.float32
    x = torch.randn(5, 4, requires_grad=True)
    monosemantic_scale(x, torch.ones(4), torch.full((4,), 2.0)).sum().backward()
    torch.testing.assert_close(x.grad, (x - 1).detach())  # 2 (x - 1) / 2


def test_phi_does_not_change_what_it_is_given():
    z, mean, var = torch.randn(5, 3), torch.zeros(3), torch.ones(3)
    copies = [t.clone() for t in (z, mean, var)]
    monosemantic_scale(z, mean, var)
    assert all(torch.equal(a, b) for a, b in zip((z, mean, var), copies, strict=True))


def test_a_constant_neuron_is_0_at_its_constant_and_infinite_elsewhere():
    phi = monosemantic_scale(torch.tensor([[2.0], [2.001]]), torch.tensor([2.0]), torch.tensor([0.0]))
    assert phi[:, 0].tolist() == [0.0, math.inf]
    floored = monosemantic_scale(torch.tensor([[2.001, 0.0]]), torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), 0.01)
    assert torch.isfinite(floored).all()


def test_the_mean_of_phi_over_its_own_data_is_an_identity():
    z = torch.tensor(np.random.default_rng(0).standard_t(3, (50, 6)))
    phi = monosemantic_scale(z, z.mean(0), z.var(0))
    np.testing.assert_allclose(phi.mean(0).numpy(), 49 / 50, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_phi_does_not_see_the_unit_of_a_neuron(seed, scale, shift):
    z = torch.tensor(np.random.default_rng(seed).normal(size=(20, 3)))
    a, b = z, scale * z + shift
    torch.testing.assert_close(
        monosemantic_scale(a, a.mean(0), a.var(0)), monosemantic_scale(b, b.mean(0), b.var(0)), rtol=1e-6, atol=1e-6
    )


def test_scores_and_relative_feature_are_equations_2_and_3():
    phi, labels = draw()
    got = feature_scores(torch.tensor(phi), torch.tensor(labels), 5)  # the fifth feature has no inputs
    np.testing.assert_allclose(got.numpy(), reference.feature_scores(phi, labels, 5), rtol=1e-12)
    assert got[4].isnan().all()
    assert relative_feature(torch.tensor(phi), torch.tensor(labels)).tolist() == reference.relative_feature(phi, labels)


def test_a_feature_without_inputs_is_nobodys_feature():
    phi, labels = torch.tensor([[1.0], [2.0], [0.5]]), torch.tensor([0, 3, 3])
    assert relative_feature(phi, labels).tolist() == [3]


@pytest.mark.parametrize("ties", [False, True])
def test_ks_agrees_with_scipy(ties):
    phi, labels = draw(3, n=200)
    if ties:
        phi = np.round(phi, 1)
    star = reference.relative_feature(phi, labels)
    want = [ks_2samp(phi[labels == star[j], j], phi[:, j]).statistic for j in range(phi.shape[1])]
    np.testing.assert_allclose(ks_statistic(torch.tensor(phi), torch.tensor(labels)).numpy(), want, atol=1e-12)


def test_ks_is_two_sided():
    """One outlier makes a feature l* although its other values are the smallest of all."""
    phi = torch.tensor([[0.0], [0.1], [100.0], [1.0], [2.0], [3.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    want = ks_2samp(phi[labels == 0, 0], phi[:, 0]).statistic
    assert ks_statistic(phi, labels).item() == pytest.approx(want) and want == pytest.approx(1 / 3)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.02, 0.29, 1.0])
def test_fkr_is_equation_4(share):
    phi, labels = draw(5)
    got = false_killing_rate(torch.tensor(phi), torch.tensor(labels), share)
    np.testing.assert_equal(got, reference.false_killing_rate(phi, labels, share))


def test_fkr_of_nothing_is_undefined():
    phi, labels = draw(5)
    assert math.isnan(false_killing_rate(torch.tensor(phi), torch.tensor(labels), 1e-6))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0.005, 1.0), coarse=st.booleans())
def test_laws_of_fkr_and_ks(seed, share, coarse):
    phi, labels = (torch.tensor(x) for x in draw(seed))
    phi = phi.round() if coarse else phi
    assert 0 <= false_killing_rate(phi, labels, share) <= 1
    assert ((ks_statistic(phi, labels) >= 0) & (ks_statistic(phi, labels) <= 1)).all()
    everywhere = false_killing_rate(phi, labels, 1.0)
    star = relative_feature(phi, labels)
    assert everywhere == pytest.approx((labels[:, None] != star).double().mean().item())
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    assert false_killing_rate(phi[order], labels[order], share) == false_killing_rate(phi, labels, share)


def test_planted_truth():
    planted = plant(seed=1)
    z, labels = planted.z, planted.labels
    phi = monosemantic_scale(z, z.mean(0), z.var(0))
    scores, star, ks = feature_scores(phi, labels), relative_feature(phi, labels), ks_statistic(phi, labels)
    mono = planted.where("monosemantic")
    assert torch.equal(star[mono], planted.own_feature[mono])  # l* is the planted feature, every time
    top = {kind: scores.amax(0)[planted.where(kind)] for kind in KINDS}
    assert top["monosemantic"].min() > 4  # phi_l is at most 1/p = 10
    assert top["polysemantic"].max() < 2 and top["noise"].max() < 2
    assert top["monosemantic"].min() > 1.5 * top["spike"].max()
    assert (top["dead"] == 0).all()
    assert ks[mono].min() > 0.8 and ks[planted.where("noise")].max() < 0.25
    only = phi[:, mono]
    assert false_killing_rate(only, labels, 0.05) < 0.02
    assert false_killing_rate(phi[:, planted.where("noise")], labels, 0.05) > 0.7


def test_planted_kinds_are_what_they_say():
    planted = plant(n_inputs=1000, n_features=5, per_kind=4)
    assert planted.z.shape == (1000, 20) and torch.bincount(planted.labels).tolist() == [200] * 5
    assert (planted.z[:, planted.where("dead")].var(0) == 0).all()
    spikes = (planted.z[:, planted.where("spike")] > 5).double().mean()
    assert 0.001 < spikes < 0.01
    on = torch.nn.functional.one_hot(planted.labels, 5).double()
    high = (on.T @ planted.z / 200)[:, planted.where("polysemantic")] > 3
    assert (high.sum(0) == 2).all()
    with pytest.raises(ValueError, match="expected at least 2 features"):
        plant(n_features=1)
    with pytest.raises(ValueError, match="kind is 'odd'"):
        planted.where("odd")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p, l: monosemantic_scale(p, torch.zeros(3), torch.ones(7)), r"mean \(3,\)"),
        (lambda p, l: monosemantic_scale(p, torch.zeros(7), torch.ones(7), floor=-1), "floor is -1"),
        (lambda p, l: monosemantic_scale(p, torch.zeros(7), torch.ones(7), floor=float("nan")), "floor is nan"),
        (lambda p, l: feature_scores(p, l[:-1]), r"shape \(59,\) for 60 inputs"),
        (lambda p, l: feature_scores(p, l, 3), "run from 0 to 3; expected 0 to 2"),
        (lambda p, l: feature_scores(p, l - 1), "run from -1"),
        (lambda p, l: feature_scores(p, l.float()), "whole numbers"),
        (lambda p, l: feature_scores(p[:, 0], l), r"expected \(inputs, neurons\)"),
        (lambda p, l: relative_feature(p[:0], l[:0]), "no inputs"),
        (lambda p, l: false_killing_rate(p, l, 0), "share is 0"),
        (lambda p, l: false_killing_rate(p, l, 2), "above 0 and at most 1"),
        (lambda p, l: false_killing_rate(p, l, float("nan")), "share is nan"),
    ],
)
def test_bad_input_is_named(call, words):
    phi, labels = draw()
    with pytest.raises(ValueError, match=words):
        call(torch.tensor(phi), torch.tensor(labels))
