"""What the neurons do on held-out text, against slow float64 NumPy on values that are planted."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from reference import phi, two_pass_moments
from torch import nn

from l2e_min import RunningMoments
from l2e_min.lab.mini_pythia import untrained
from l2e_min.lab.training.look import look, mean_cost
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.sites import Site, find_sites

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = PretrainSettings(size="16x2", batch=4, context=8, precision="fp32", device="cpu")
WORDS = 20
"""Entries of the planted model's vocabulary."""


class Planted(nn.Module):
    """The neurons' values are looked up by the token; the logits are what two linear layers make of them, added up."""

    def __init__(self, *tables: np.ndarray):
        super().__init__()
        torch.manual_seed(0)
        self.tables = [torch.tensor(table, dtype=torch.float32) for table in tables]  # (WORDS, N) each
        self.layers = nn.ModuleList(nn.Linear(table.shape[1], WORDS) for table in tables)
        self.dropout = nn.Dropout(0.9)  # spoils the loss of a model that is not in evaluation mode
        self.train()

    def forward(self, input_ids, use_cache=False):
        parts = [layer(table[input_ids]) for layer, table in zip(self.layers, self.tables, strict=True)]
        return SimpleNamespace(logits=self.dropout(sum(parts)))

    def sites(self) -> list[Site]:
        return [Site(f"layers.{number}", layer, "input") for number, layer in enumerate(self.layers)]

    def values(self, ids: torch.Tensor) -> list[np.ndarray]:
        """(tokens, N) of each site, float64."""
        return [table.double().numpy()[ids.flatten().numpy()] for table in self.tables]

    def outputs(self, ids: torch.Tensor) -> list[np.ndarray]:
        """(tokens, WORDS) that each linear layer adds to the logits."""
        layers = copy.deepcopy(self.layers).double()
        return [layer(torch.tensor(z)).detach().numpy() for layer, z in zip(layers, self.values(ids), strict=True)]


def cross_entropy(logits: np.ndarray, targets: torch.Tensor) -> float:
    """Mean over tokens, in nats."""
    losses = []
    for row, target in zip(logits, targets.flatten().tolist(), strict=True):
        top = max(row)
        losses.append(top + math.log(math.fsum(math.exp(x - top) for x in row)) - row[target])
    return math.fsum(losses) / len(losses)


def kurtosis_and_top(sites: list[np.ndarray], moments: list[tuple[np.ndarray, np.ndarray]], moving) -> tuple:
    """Logs of the mean phi^2 over the pairs of all sites, and of the mean over tokens and sites of the largest phi."""
    squares, tops = [], []
    for z, (mean, var), varies in zip(sites, moments, moving, strict=True):
        scores = phi(z[:, varies], mean[varies], var[varies])
        squares += [x**2 for x in scores.flatten()]
        tops += [max(row, default=0.0) for row in scores]
    return math.log(math.fsum(squares) / len(squares)), math.log(math.fsum(tops) / len(tops))


@pytest.fixture
def planted():
    """Two sites of 6 and 3 neurons, of which three are constant: exactly, and up to rounding."""
    draw = np.random.default_rng(0)
    first, second = draw.standard_t(3, (WORDS, 6)), draw.gamma(0.3, size=(WORDS, 3))
    first[:, 2] = 0.25
    first[:, 4] = 1000 + 1e-4 * draw.normal(size=WORDS)
    first[:, 5] *= 1e-6  # tiny, and not constant: its mean is tiny, too
    second[:, 1] = 0
    return Planted(first, second), [np.array([1, 1, 0, 1, 0, 1], bool), np.array([1, 0, 1], bool)]


@pytest.fixture
def held_out():
    draw = torch.Generator().manual_seed(1)
    return tuple(torch.randint(0, WORDS, (5, 8), generator=draw) for _ in range(2))


def test_every_number_is_that_of_the_definition(planted, held_out):
    model, moving = planted
    found = look(model, held_out, SETTINGS, model.sites())
    z = model.values(held_out[0])
    moments = [two_pass_moments(values) for values in z]
    kurtosis, top = kurtosis_and_top(z, moments, moving)
    assert set(found) == {"loss", "log_kurtosis", "log_top_ms", "log_variance", "constant"}
    assert found["loss"] == pytest.approx(cross_entropy(sum(model.outputs(held_out[0])), held_out[1]), rel=1e-5)
    assert found["log_kurtosis"] == pytest.approx(kurtosis, rel=1e-9)
    assert found["log_top_ms"] == pytest.approx(top, rel=1e-9)
    assert found["log_variance"] == pytest.approx(
        math.log(sorted(np.concatenate([v for _, v in moments]))[4]), rel=1e-9
    )
    assert found["constant"] == pytest.approx(3 / 9)


def test_against_moments_gathered_before(planted, held_out):
    """Those of other values, and of neurons that were constant then and are not now."""
    model, _ = planted
    draw, gathered, moments = np.random.default_rng(5), [], []
    for table in model.tables:
        seen = draw.normal(0.3, 2.0, (50, table.shape[1])).astype(np.float32)
        seen[:, 0] = 0.5
        gathered.append(RunningMoments(table.shape[1]))
        for batch in np.split(seen, 5):
            gathered[-1].update(torch.tensor(batch))
        moments.append(two_pass_moments(seen))
    found = look(model, held_out, SETTINGS, model.sites(), gathered)
    then = [np.arange(len(mean)) > 0 for mean, _ in moments]
    kurtosis, top = kurtosis_and_top(model.values(held_out[0]), moments, then)
    assert found["log_kurtosis_cumulative"] == pytest.approx(kurtosis, rel=1e-5)
    assert found["log_top_ms_cumulative"] == pytest.approx(top, rel=1e-5)
    fresh = look(model, held_out, SETTINGS, model.sites())
    assert {name: found[name] for name in fresh} == fresh and found["log_top_ms"] != found["log_top_ms_cumulative"]


def test_where_all_neurons_are_constant_there_is_no_phi(held_out):
    model = Planted(np.full((WORDS, 4), 0.1), np.full((WORDS, 2), -3.0))
    found = look(model, held_out, SETTINGS, model.sites(), [RunningMoments(4), RunningMoments(2)])
    for name in ("log_kurtosis", "log_top_ms", "log_kurtosis_cumulative", "log_top_ms_cumulative"):
        assert math.isnan(found[name]), name
    assert found["constant"] == 1 and math.isfinite(found["log_variance"]) and found["log_variance"] < -100
    assert math.isfinite(found["loss"])


def test_a_site_of_constants_has_no_pairs_and_no_top(planted, held_out):
    varying = planted[0].tables[1].numpy()[:, ::2]
    alone, beside = Planted(varying), Planted(varying, np.full((WORDS, 7), 2.0))
    one, two = (look(model, held_out, SETTINGS, model.sites()) for model in (alone, beside))
    assert two["log_kurtosis"] == pytest.approx(one["log_kurtosis"], rel=1e-12)
    assert two["log_top_ms"] == pytest.approx(one["log_top_ms"] - math.log(2), rel=1e-12)
    assert (one["constant"], two["constant"]) == (0, pytest.approx(7 / 9))


def test_a_look_leaves_the_model_as_it_was(planted, held_out):
    model, _ = planted
    before = copy.deepcopy(model.state_dict())
    found = []
    for training in (True, False):
        model.train(training)
        found.append([measure(model, held_out, SETTINGS, model.sites()) for measure in (look, mean_cost)])
        assert model.training is training and model.dropout.training is training
        assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.layers)
    assert found[0] == found[1]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_two_layers_of_a_pythia():
    """The neurons are the inputs of the second linear layers, in evaluation mode, of the sites that were named."""
    model = untrained("16x4", seed=0, vocabulary=64, context=16)
    held_out = torch.randint(0, 64, (6, 17), generator=torch.Generator().manual_seed(0))
    held_out = held_out[:, :-1], held_out[:, 1:]
    found = look(model, held_out, SETTINGS, find_sites(model, "middle-2"))
    z = []
    for block in model.gpt_neox.layers[1:3]:
        block.mlp.act.register_forward_hook(lambda _m, _i, out: z.append(out.detach().double().numpy()))
    logits = model(input_ids=held_out[0]).logits.detach().double().numpy()
    z = [values.reshape(96, -1) for values in z]
    moments = [two_pass_moments(values) for values in z]
    kurtosis, top = kurtosis_and_top(z, moments, [np.ones(64, bool)] * 2)
    assert found["loss"] == pytest.approx(cross_entropy(logits.reshape(96, -1), held_out[1]), rel=1e-5)
    assert found["log_kurtosis"] == pytest.approx(kurtosis, rel=1e-5)
    assert found["log_top_ms"] == pytest.approx(top, rel=1e-5)
    variances = sorted(np.concatenate([var for _, var in moments]))
    assert found["log_variance"] == pytest.approx(math.log(variances[63]), rel=1e-5)  # of 128 the lower middle one
    assert found["constant"] == 0


@pytest.mark.parametrize("replaced", [(0,), (1,), (0, 1)])
def test_mean_cost_is_the_loss_with_means_minus_the_loss(planted, held_out, replaced):
    model, _ = planted
    outputs = model.outputs(held_out[0])
    means = [out.mean(0) + 0 * out if number in replaced else out for number, out in enumerate(outputs)]
    by_hand = cross_entropy(sum(means), held_out[1]) - cross_entropy(sum(outputs), held_out[1])
    found = mean_cost(model, held_out, SETTINGS, [model.sites()[number] for number in replaced])
    assert found == pytest.approx(by_hand, abs=1e-4) and abs(by_hand) > 0.01


def test_mean_cost_of_a_pythia_is_that_of_biases():
    """By hand: a layer whose weights are 0 and whose bias is its mean output, one layer after the other."""
    model = untrained("16x2", seed=3, vocabulary=64, context=16)
    for parameter in model.parameters():
        parameter.data *= 3  # at small weights the MLPs are worth nothing
    held_out = tuple(torch.randint(0, 64, (6, 16), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    sites = find_sites(model, "all")

    def loss(which: nn.Module) -> float:
        with torch.no_grad():
            return cross_entropy(which(input_ids=held_out[0]).logits.double().flatten(0, 1).numpy(), held_out[1])

    by_hand = copy.deepcopy(model)
    for block in by_hand.gpt_neox.layers:
        seen = []
        handle = block.mlp.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out.detach().flatten(0, 1)))
        loss(by_hand)
        handle.remove()
        block.mlp.dense_4h_to_h.weight.data.zero_()
        block.mlp.dense_4h_to_h.bias.data.copy_(seen[0].mean(0))
    expected = loss(by_hand) - loss(model)
    assert mean_cost(model, held_out, SETTINGS, sites) == pytest.approx(expected, abs=1e-5) and abs(expected) > 0.01
    assert mean_cost(by_hand, held_out, SETTINGS, find_sites(by_hand, "all")) == pytest.approx(0, abs=1e-6)


def test_after_an_error_nothing_stays_on_the_model(planted, held_out):
    model, _ = planted
    wrong = held_out[0], held_out[1] + WORDS  # targets that the vocabulary does not have
    for measure in (look, mean_cost):
        with pytest.raises(IndexError):
            measure(model, wrong, SETTINGS, model.sites())
        assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.layers)
