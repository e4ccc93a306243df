"""The numbers of one model: planted neurons give what they must, nothing gives nothing."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from l2e_min.lab.planted import plant
from l2e_min.lab.probing import split_rows
from l2e_min.lab.record import rounded
from l2e_min.lab.selectivity import split_phi
from l2e_min.lab.study import dataset as module
from l2e_min.lab.study.dataset import observe
from l2e_min.lab.study.killing import at
from l2e_min.lab.study.levels import SHARES
from l2e_min.lab.study.measures import EXPLAINED, by_depth, measures, resampled_mean
from l2e_min.lab.text.features import FeatureDataset

FEATURES, ROWS, HEIGHT = 5, 2000, 6.0


class Planted:
    """In the place of ``ValueStream``: values (n, layers, neurons) that are given."""

    def __init__(self, values):
        self.values = values
        self.layers, self.neurons = values.shape[1:]
        self.width = self.layers * self.neurons

    def __iter__(self):
        for rows in torch.arange(len(self.values)).split(300):
            yield rows, self.values[rows].flatten(1).float()


def seen(values, labels, monkeypatch, **options):
    """What two passes keep of given values (n, layers, neurons); every row is a file of its own."""
    monkeypatch.setattr(module, "ValueStream", lambda *_, **__: Planted(values))
    texts = [f"row {i}" for i in range(len(labels))]
    data = FeatureDataset("planted", [f"f{i}" for i in range(FEATURES)], texts, labels.numpy(), texts)
    return observe(None, None, data, **options)


def values_of(kinds: str, seed: int = 0, per_kind: int = 20):
    """(values (n, layers, per_kind), labels): a layer of planted neurons for each kind."""
    there = plant(n_inputs=ROWS, n_features=FEATURES, per_kind=per_kind, height=HEIGHT, seed=seed)
    return torch.stack([there.z[:, there.where(kind)] for kind in kinds.split()], 1), there.labels


@pytest.fixture(scope="module")
def planted():
    values, labels = values_of("monosemantic noise spike")
    with pytest.MonkeyPatch.context() as patch:
        found = seen(values, labels, patch)
        return values, labels, found, measures(found)


def test_planted_neurons_give_what_they_must(planted):
    *_, m = planted
    p, h = 1 / FEATURES, HEIGHT
    var = 1 + h**2 * p * (1 - p)  # of noise, and an answer on a share p of the rows
    assert m["f1"] > 0.97 and m["f1_best"] > 0.98
    assert m["phi_on_best"] == pytest.approx(((h * (1 - p)) ** 2 + 1) / var, rel=0.03)
    assert m["phi_off_best"] == pytest.approx(((h * p) ** 2 + 1) / var, rel=0.05)
    assert m["gap"] == pytest.approx(h, rel=0.03)
    assert m["gap_standardized"] == pytest.approx(h / math.sqrt(var), rel=0.03)
    assert m["phi_on_by_layer"][0] == pytest.approx(m["phi_on_best"], rel=0.05)
    assert m["phi_on_by_layer"][1] == pytest.approx(1, abs=0.1)
    x, normal = np.linspace(0, 9, 1000), stats.norm.cdf  # sqrt(phi) is |noise + mean| / S, on the feature and off it
    on, off = (normal(x - mean) - normal(-x - mean) for mean in (h * (1 - p), h * p))
    assert m["ks_by_layer"][0] == pytest.approx((1 - p) * (off - on).max(), rel=0.03)
    assert m["ks_by_layer"][1] < 0.15
    assert m["log_phi_on_by_depth"].keys() == {"early", "middle", "late"}
    assert m["log_phi_on_by_depth"]["early"] == pytest.approx(math.log(m["phi_on_by_layer"][0]))


def test_permuted_labels_are_at_chance(planted):
    *_, found, m = planted
    assert m["f1_null"] < 0.4 < 0.97 < m["f1"]  # a coin's F1 is 0.29 here, p / (p + 1/2)
    assert m["phi_on_null"] == pytest.approx(1, abs=0.1)
    assert m["ks_null"] < 0.12
    assert np.abs(np.array(m["fkr_null"])[:, 8:] - (1 - 1 / FEATURES)).max() < 0.12  # from 1 % of the pairs on
    assert at(0.02, np.array(m["fkr"][1][0])) < 0.05
    assert np.array(m["fkr"]).shape == (2, 3, len(SHARES)) and np.array(m["fkr_null"]).shape == (2, len(SHARES))
    assert found.probes.neuron[:10].max() < 20


@pytest.mark.slow
def test_noise_gives_nothing_beyond_its_nulls(monkeypatch):
    labels = torch.arange(ROWS) % FEATURES
    values = torch.randn(ROWS, 2, 100, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    m = measures(seen(values, labels, monkeypatch))
    assert m["f1"] == pytest.approx(m["f1_null"], abs=0.05)
    for name in ("phi_on", "phi_off", "phi_on_null"):
        assert m[name] == pytest.approx(1, abs=0.03), name
    assert m["ks"] == pytest.approx(m["ks_null"], abs=0.01)
    assert np.abs(np.array(m["fkr"])[..., 8:] - 0.8).max() < 0.1


@pytest.mark.parametrize(
    "kinds", ["polysemantic noise", pytest.param("monosemantic noise spike", marks=pytest.mark.slow)]
)
def test_they_are_the_measures_of_the_values_in_memory(kinds, monkeypatch):
    values, labels = values_of(kinds, seed=1)
    values = values.float()
    found = seen(values, labels, monkeypatch, seed=2)
    m = measures(found, seed=2)
    train, test = split_rows(labels.numpy(), 0.5, 2, np.array([f"row {i}" for i in range(ROWS)]))
    halves = split_phi(values, labels, np.flatnonzero(train), np.flatnonzero(test))
    on, off = halves.on_and_off()
    assert m["phi_on"] == pytest.approx(on.mean().item(), rel=1e-9)
    assert m["phi_off"] == pytest.approx(off.mean().item(), rel=1e-9)
    assert m["phi_on_by_layer"] == pytest.approx(on.view(-1, 20).mean(1).tolist(), rel=1e-9)
    best = torch.from_numpy(found.probes.neuron)
    ten = torch.tensor(list(dict.fromkeys(best.tolist()))[:10])
    assert m["phi_on_best"] == pytest.approx(on[ten].mean().item(), rel=1e-9)
    assert m["phi_off_best"] == pytest.approx(off[ten].mean().item(), rel=1e-9)
    null = halves.on_and_off(labels=found.shuffled[found.held])[0]  # every neuron is among the random ones
    assert m["phi_on_null"] == pytest.approx(null.mean().item(), rel=1e-9)
    z, held = values.double().flatten(1), found.held
    gaps = []
    for neuron, feature in zip(found.probes.neuron, found.probes.feature, strict=True):
        if neuron in ten and neuron not in [n for n, _ in gaps]:
            mine = labels[held] == feature
            gaps.append((neuron, abs(z[held][mine, neuron].mean() - z[held][~mine, neuron].mean()).item()))
    assert m["gap"] == pytest.approx(np.mean([gap for _, gap in gaps]), rel=1e-6)
    scaled = [gap / z[~held][:, neuron].std().item() for neuron, gap in gaps]
    assert m["gap_standardized"] == pytest.approx(np.mean(scaled), rel=1e-6)


@pytest.mark.slow
def test_a_neuron_that_is_low_on_its_feature_has_a_gap_too(monkeypatch):
    values, labels = values_of("monosemantic noise")
    up, down = (measures(seen(sign * values, labels, monkeypatch)) for sign in (1, -1))
    assert down["gap"] == pytest.approx(up["gap"]) and down["phi_on"] == pytest.approx(up["phi_on"])


@pytest.mark.slow
def test_dead_neurons_are_counted_and_left_out(monkeypatch):
    values, labels = values_of("monosemantic noise dead")
    m = measures(seen(values, labels, monkeypatch))
    values[:, :2, :5] = 0.0  # some of the living ones, too
    fewer = measures(seen(values, labels, monkeypatch))
    assert (m["dead"], fewer["dead"]) == (20, 30)
    assert m["phi_on"] == pytest.approx(np.mean(m["phi_on_by_layer"][:2]))
    assert fewer["phi_on_by_layer"][0] == pytest.approx(m["phi_on_by_layer"][0], rel=0.05)
    assert fewer["ks_by_layer"][0] == pytest.approx(m["ks_by_layer"][0], rel=0.05)
    assert rounded(m)["phi_on_by_layer"][2] is None and rounded(m)["ks_by_layer"][2] is None
    assert rounded(m)["log_phi_on_by_depth"]["late"] is None
    assert np.isfinite([m[name] for name in EXPLAINED]).all()


@pytest.mark.slow
def test_the_seed_moves_draws_and_little_else(planted, monkeypatch):
    values, labels, _, m = planted
    assert measures(seen(values, labels, monkeypatch)) == m
    other = measures(seen(values, labels, monkeypatch, seed=1), seed=1)
    assert other["ks"] != m["ks"] and other["ks"] == pytest.approx(m["ks"], abs=0.03)


def test_they_are_plain_json_and_explained(planted):
    *_, m = planted
    assert json.loads(json.dumps(m)) == m
    single = {name for name, value in m.items() if isinstance(value, float)}
    assert single == set(EXPLAINED), "every single number in words"
    assert m["layers"] == 3 and m["neurons"] == 20


@pytest.mark.parametrize(
    ("layers", "thirds"),
    [
        (1, {"middle": [0]}),
        (2, {"early": [0], "late": [1]}),
        (3, {"early": [0], "middle": [1], "late": [2]}),
        (4, {"early": [0], "middle": [1, 2], "late": [3]}),
        (5, {"early": [0, 1], "middle": [2], "late": [3, 4]}),
        (6, {"early": [0, 1], "middle": [2, 3], "late": [4, 5]}),
        (32, {"early": range(11), "middle": range(11, 21), "late": range(21, 32)}),
    ],
)
def test_thirds_of_the_depth(layers, thirds):
    values = torch.arange(1.0, layers + 1).double()[:, None] * torch.tensor([0.5, 1.5])  # mean: the layer's number
    expected = {name: math.log(np.mean([layer + 1 for layer in some])) for name, some in thirds.items()}
    assert by_depth(values) == pytest.approx(expected)


def test_the_interval_over_neurons_is_that_of_a_mean():
    x = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = resampled_mean(x, seed=0)
    error = x.std().item() / 20
    assert low == pytest.approx(x.mean().item() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(x.mean().item() + 1.96 * error, abs=0.15 * error)
    assert resampled_mean(x, seed=0) == (low, high) != resampled_mean(x, seed=1)


def test_fkr_is_read_between_the_levels(planted):
    *_, found, m = planted
    rates = np.array(m["fkr"][1])  # (layers, S)
    np.testing.assert_allclose(at(SHARES[10], rates), found.levels.fkr()[1, :, 10])
    between = at(0.02, rates)
    assert (rates[:, 10:12].min(1) <= between).all() and (between <= rates[:, 10:12].max(1)).all()
    np.testing.assert_allclose(between, found.levels.fkr([0.02])[1, :, 0], atol=0.03)
