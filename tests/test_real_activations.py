"""The promises about the moving threshold and the moments, kept on activations of the shipped model on real text."""

import numpy as np
import pytest
import torch
from reference import two_pass_moments

from l2e_min import Inhibitor, MovingThreshold, RunningMoments, monosemantic_scale
from l2e_min.lab.mini_pythia import load
from l2e_min.lab.text.features import load_features
from l2e_min.sites import mlp_sites

SHARE = 0.02


SLOW_FIXTURES = {"batches"}  # of all installed text


@pytest.fixture(scope="module")
def batches():
    """60 batches of activations (tokens, 512) of a middle layer, 40 texts each, and the model."""
    model, tokenizer = load("128x4")
    texts = [text for name in ("code_language", "data_subset") for text in load_features(name).texts]
    order = np.random.default_rng(0).permutation(len(texts))
    seen = []
    hook = mlp_sites(model)[1].module.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        for some in np.array_split(order[: 60 * 40], 60):
            ids = [tokenizer(texts[i])["input_ids"][:32] for i in some]
            model(torch.tensor([row for row in ids if len(row) == 32]))
    hook.remove()
    return [z.flatten(0, 1) for z in seen]


@pytest.mark.parametrize("start", [50.0, 1 / 50])
def test_threshold_reaches_its_share_from_fifty_times_off(batches, start):
    everything = torch.cat(batches)
    mean, var = everything.mean(0), everything.var(0)
    phis = [monosemantic_scale(z, mean, var) for z in batches]
    whole = torch.cat([phi.flatten() for phi in phis]).sort().values
    right = whole[int((1 - SHARE) * len(whole))].item()
    threshold = MovingThreshold(SHARE, start=right * start)
    errors = []
    for phi in phis:
        threshold(phi)
        above = 1 - torch.searchsorted(whole, threshold.tau).item() / len(whole)
        errors.append(above / SHARE - 1)
    # Batches of text differ in how much they hold, so tau keeps moving a little: it is right on average.
    assert abs(np.mean(errors[39:])) < 0.05
    assert np.abs(errors[39:]).mean() < 0.1


def test_online_moments_agree_with_two_passes(batches):
    few = [z[:, :16].double() for z in batches[:20]]
    moments = RunningMoments(16, dtype=torch.float64)
    for z in few:
        moments.update(z)
    mean, var = two_pass_moments(torch.cat(few).numpy())
    np.testing.assert_allclose(moments.var.numpy(), var, rtol=1e-10)
    np.testing.assert_allclose(moments.mean.numpy(), mean, atol=1e-12)


@pytest.mark.slow
def test_inhibitor_holds_its_share_while_the_shipped_model_trains():
    model, tokenizer = load("128x4")
    texts = load_features("code_language").texts
    inhibitor = Inhibitor(model, "middle-2", MovingThreshold(SHARE), "log_ms", weight=0.003)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()
    order, shares = np.random.default_rng(0).permutation(len(texts)), []
    for some in np.array_split(order[: 60 * 16], 60):
        ids = torch.tensor([row[:32] for row in tokenizer([texts[i] for i in some])["input_ids"] if len(row) >= 32])
        optimizer.zero_grad()
        (model(ids, labels=ids).loss + inhibitor.penalty()).backward()
        optimizer.step()
        shares.append([row["share"] for row in inhibitor.report().rows])
    assert np.mean(shares[30:], axis=0) == pytest.approx([SHARE, SHARE], rel=0.15)
