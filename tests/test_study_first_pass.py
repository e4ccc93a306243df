"""The first pass keeps moments alone, and gives what the values themselves would give, however they come in batches."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l2e_min import feature_scores, monosemantic_scale, relative_feature
from l2e_min.lab.errors import UserError
from l2e_min.lab.planted import plant
from l2e_min.lab.probing import probe, split_rows
from l2e_min.lab.selectivity import split_phi
from l2e_min.lab.study.first_pass import CHOSEN, HELD, first_pass

KINDS = ("normal", "heavy", "shifted", "planted")
FEATURES = 5


def case(kind: str, seed: int = 0, n: int = 200, width: int = 40):
    """(values (n, N) float64, labels (n,), held (n,) boolean)."""
    rng = np.random.default_rng(seed)
    if kind == "planted":
        there = plant(n_inputs=n, n_features=FEATURES, per_kind=width // 5, seed=seed)
        z, labels = there.z[:, torch.tensor([k != "dead" for k in there.kinds])], there.labels
    else:
        labels = torch.from_numpy(rng.integers(0, FEATURES, n))
        labels[: 8 * FEATURES] = torch.arange(8 * FEATURES) % FEATURES
        draw = {"normal": rng.normal, "heavy": lambda size: rng.standard_t(1.5, size), "shifted": rng.normal}[kind]
        z = torch.from_numpy(draw(size=(n, width)))
        if kind == "shifted":
            z = z * 1e-3 + 50  # a mean of 50,000 standard deviations
    _, test = split_rows(labels.numpy(), 0.5, seed)
    return z, labels, torch.from_numpy(test)


def batches(z, sizes, order=None):
    """``(rows, values)`` in batches of these sizes, and the rest in one."""
    rows = torch.arange(len(z)) if order is None else torch.as_tensor(order)
    sizes = [*sizes, max(0, len(z) - sum(sizes))]
    for some in torch.split(rows, sizes):
        if len(some):
            yield some, z[some]


def close(got, expected, tolerance=1e-9):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_everything_is_what_the_values_give(kind, size):
    z, labels, held = case(kind)
    found = first_pass(batches(z, [size] * (len(z) // size)), labels, held)
    mean, var = z[~held].mean(0), z[~held].var(0)
    close(found.mu, mean)
    torch.testing.assert_close(found.s2, var, rtol=1e-9, atol=0)
    for half, rows in ((CHOSEN, ~held), (HELD, held)):
        expected = feature_scores(monosemantic_scale(z[rows], mean, var), labels[rows])
        close(found.scores(half), expected)
    total = found.scores(CHOSEN).T @ labels[~held].bincount().double()  # of phi over the data of the moments: m - 1
    close(total, torch.full_like(total, int((~held).sum()) - 1))
    star = relative_feature(monosemantic_scale(z[~held], mean, var), labels[~held])
    assert torch.equal(found.star(), star)
    halves = split_phi(z, labels, (~held).nonzero()[:, 0], held.nonzero()[:, 0])
    for mine, other in (((), ()), ((1 - star % 2,), (1 - star % 2,))):
        for got, expected in zip(found.on_and_off(*mine), halves.on_and_off(*other), strict=True):
            close(got, expected)
    own = labels[held, None] == star
    expected = torch.stack([z[held, j][own[:, j]].mean() - z[held, j][~own[:, j]].mean() for j in range(z.shape[1])])
    close(found.gap(star), expected, 1e-8 if kind == "shifted" else 1e-9)  # 50 - 50: 1e-16 of the mean is 1e-14


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_are_those_of_the_probe(kind):
    z, labels, held = case(kind, seed=3)
    table = probe(z, labels, candidates=6, seed=3)
    assert np.array_equal(table.test_rows, held.nonzero()[:, 0].numpy())
    found = first_pass(batches(z, [33] * 6), labels, held).candidates(6)
    assert found.shape == (FEATURES, 6)
    for feature in range(FEATURES):
        assert set(found[feature].tolist()) == set(table.neuron[table.feature == feature].tolist())
    assert first_pass(batches(z, []), labels, held).candidates(1000).shape == (FEATURES, z.shape[1])


def test_candidates_come_best_first():
    z, labels, held = case("planted", seed=3)
    found = first_pass(batches(z, []), labels, held).candidates(6)
    z, labels = z[~held], labels[~held]
    for feature in range(FEATURES):
        on = labels == feature
        difference = ((z[on].mean(0) - z[~on].mean(0)) / z.std(0)).abs()
        assert found[feature].tolist() == difference.argsort(descending=True)[:6].tolist()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), kind=st.sampled_from(KINDS), seed=st.integers(0, 20))
@pytest.mark.slow
def test_neither_the_split_into_batches_nor_their_order_matters(data, kind, seed):
    z, labels, held = case(kind, seed, n=60, width=10)
    whole = first_pass(batches(z, []), labels, held)
    sizes = data.draw(st.lists(st.integers(1, 20), max_size=3))
    order = data.draw(st.permutations(range(len(z))))
    parts = first_pass(batches(z, sizes, order), labels, held)
    for field in dataclasses.fields(whole):
        a, b = getattr(parts, field.name), getattr(whole, field.name)
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * b.abs().max().item() * (field.name != "s2"))
    assert torch.equal(parts.star(), whole.star())


def test_constant_neurons_have_phi_0_and_are_no_candidates():
    z, labels, held = case("normal", n=80, width=6)
    constants = torch.tensor([0.0, 0.1, -3.7e5, 1e-20])
    z = torch.cat([constants.expand(len(z), -1), z, constants.expand(len(z), -1) * (1 + 1e-14 * z[:, :1])], 1)
    z[held, 0] = 9.0  # constant only where the moments come from
    found = first_pass(batches(z, [7] * 11), labels, held)
    assert found.alive.tolist() == [False] * 4 + [True] * 6 + [False] * 4
    for half in (CHOSEN, HELD):
        scores = found.scores(half)
        assert (scores[:, ~found.alive] == 0).all() and (scores[:, found.alive] > 0).all()
    for values in (*found.on_and_off(), found.gap(found.star())):
        assert values.isfinite().all()
    ranked = found.candidates(14)
    for feature in range(FEATURES):
        assert sorted(ranked[feature, :6].tolist()) == list(range(4, 10))


@pytest.mark.parametrize("place", range(4))
def test_a_live_neuron_that_tells_nothing_comes_before_a_dead_one(place):
    labels = torch.arange(16) % 2
    held = torch.arange(16) // 2 % 2 == 0
    silent = torch.tensor([1.0, 1, -1, -1]).repeat_interleave(4)  # the same mean on and off
    z = torch.zeros(16, 4).double()
    z[:, place] = silent
    found = first_pass(batches(z, []), labels, held)
    assert found.candidates(1).tolist() == [[place], [place]]


def test_values_that_underflow_are_dead_as_they_are_for_the_probe():
    z, labels, held = case("normal", n=80, width=6)
    z[:, 2] *= 1e-35
    found = first_pass(batches(z.float().double(), [20]), labels, held)
    assert found.s2[2] > 0 and found.alive.tolist() == [True, True, False, True, True, True]
    table = probe(z.float(), labels, candidates=10)
    assert 2 not in table.neuron and len(table) == 5 * FEATURES


def test_one_row_of_a_feature_is_enough():
    z, labels, held = case("normal", n=80, width=6)
    few = torch.cat([held.nonzero()[:, 0][labels[held] == 2][:1], (~held).nonzero()[:, 0], held.nonzero()[:, 0]])
    keep = torch.ones(80, dtype=torch.bool)
    keep[held & (labels == 2)] = False
    keep[few[0]] = True
    z, labels, held = z[keep], labels[keep], held[keep]
    found = first_pass(batches(z, [9]), labels, held)
    phi = monosemantic_scale(z[held], z[~held].mean(0), z[~held].var(0))
    close(found.scores(HELD), feature_scores(phi, labels[held]))


def test_half_precision_values_lose_nothing_more():
    z, labels, held = case("normal")
    exact = first_pass(batches(z.half().double(), [50]), labels, held)
    found = first_pass(batches(z.half(), [50]), labels, held)
    assert found.mean.dtype == torch.float64
    close(found.scores(HELD), exact.scores(HELD))


def test_what_cannot_be_measured_is_refused():
    z, labels, held = case("normal")
    for bad in (torch.nan, torch.inf):
        broken = z.clone()
        broken[17, 3] = bad
        with pytest.raises(UserError, match="values on text 17 hold NaN or infinity"):
            first_pass(batches(broken, [10]), labels, held)
    with pytest.raises(UserError, match="none of a feature"):
        first_pass(batches(z, []), labels, held & (labels != 2))
