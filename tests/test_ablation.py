"""Switching neurons off: the same as editing the weights, and a loss that is the text's own."""

import numpy as np
import pytest
import torch
from models import build

from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import untrained
from l2e_min.lab.study.ablation import held_at, rises, text_losses
from l2e_min.lab.tokenizer import train_tokenizer
from l2e_min.sites import mlp_sites

FAMILIES = ("gpt_neox", "gpt2", "llama")
TEXTS = ["to be or not", "x", "abcabcabcabcabcabcabc", "größe", "def f(x): return x", "zz top", "l'état", "ok"]
LABELS = [0, 0, 1, 2, 1, 1, 2, 0]
GROUPS = [np.array([[0, 3], [2, 7], [2, 20]]), torch.tensor([[1, 5]]), np.array([[3, 0], [0, 23]])]
VALUES = [np.array([1.5, -2.0, 0.7]), torch.tensor([3.0]), np.array([-1.0, 2.0])]


def letters(texts, **cut):
    """A tokenizer of 50 tokens, a letter each."""
    return {"input_ids": [[ord(letter) % 50 for letter in text][: cut.get("max_length")] for text in texts]}


@pytest.fixture(params=FAMILIES)
def model(request):
    return loud(build(request.param)[0])


def loud(model):
    """Weights so large that one neuron is heard in the loss."""
    g = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=g)
    return model.eval()


def edited(model, family, neurons, values):
    """The neurons taken out by hand: their columns zero, what they would have said added to the bias."""
    twin = build(family)[0].eval()
    twin.load_state_dict(model.state_dict())
    blocks = twin.transformer.h if family == "gpt2" else twin.base_model.layers
    for (layer, j), value in zip(np.asarray(neurons).tolist(), np.asarray(values).tolist(), strict=True):
        mlp = blocks[layer].mlp
        linear = {"gpt_neox": "dense_4h_to_h", "gpt2": "c_proj", "llama": "down_proj"}[family]
        linear = getattr(mlp, linear)
        weight = linear.weight.data.T if family == "gpt2" else linear.weight.data  # (out, in)
        if linear.bias is None:
            linear.bias = torch.nn.Parameter(torch.zeros(weight.shape[0]))
        linear.bias.data += weight[:, j] * value
        weight[:, j] = 0
    return twin


def slow_loss(model, text):
    """(loss, tokens) of one text alone, in float64, by the definition."""
    loss = surprises(model.double(), text)
    model.float()
    return loss, len(text) - 1


@torch.no_grad()
def surprises(model, text):
    """The sum of -log p of the tokens of one text, from the model's logits in float64."""
    ids = letters([text])["input_ids"][0]
    logits = model(input_ids=torch.tensor([ids])).logits[0].double().numpy()  # (t, V)
    logits -= logits.max(1, keepdims=True)
    return float(sum(np.log(np.exp(row).sum()) - row[i] for row, i in zip(logits[:-1], ids[1:], strict=True)))


@pytest.mark.parametrize("family", FAMILIES)
def test_holding_is_taking_the_column_out_and_shifting_the_bias(family):
    model, ids = loud(build(family)[0]), build(family)[1]["input_ids"]
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        with held_at(model, GROUPS[0], VALUES[0]):
            held = model(input_ids=ids).logits
        by_hand = edited(model, family, GROUPS[0], VALUES[0])(input_ids=ids).logits
        torch.testing.assert_close(held, by_hand, atol=1e-5, rtol=1e-5)
        assert (held - plain).abs().max() > 0.1
        assert torch.equal(model(input_ids=ids).logits, plain)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_losses_are_those_of_each_text_alone(model, batch_size):
    losses, tokens = text_losses(model, letters, TEXTS, batch_size=batch_size)
    assert losses.dtype == torch.float64 and tokens.dtype == torch.int64
    expected, counts = zip(*(slow_loss(model, text) for text in TEXTS), strict=True)
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert tokens.tolist() == list(counts) and losses[1] == tokens[1] == 0  # "x" is one token


def test_the_loss_is_that_of_transformers(model):
    ids = torch.tensor(letters(TEXTS[:1])["input_ids"])
    with torch.no_grad():
        theirs = model(input_ids=ids, labels=ids).loss.item()
    losses, tokens = text_losses(model, letters, TEXTS[:1])
    assert (losses / tokens).item() == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_rises_are_those_of_edited_weights(family):
    model = loud(build(family)[0])
    before = np.array([slow_loss(model, text) for text in TEXTS])  # (n, 2): loss, tokens
    labels = np.array(LABELS)
    expected = np.zeros((3, 3))
    for g in range(3):
        after = np.array([slow_loss(edited(model, family, GROUPS[g], VALUES[g]), text) for text in TEXTS])
        for l in range(3):
            mine = labels == l
            expected[g, l] = (after[mine, 0].sum() - before[mine, 0].sum()) / before[mine, 1].sum()
    assert np.abs(expected).min() > 1e-3 and np.abs(expected - expected.T).max() > 1e-2
    got = rises(model, letters, TEXTS, labels, GROUPS, VALUES)
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)
    own = rises(model, letters, TEXTS, labels, GROUPS, VALUES, only_own=True, batch_size=2)
    np.testing.assert_allclose(own.numpy(), expected.diagonal(), atol=1e-5)


def test_a_baseline_is_used_and_not_measured_again(model):
    losses, tokens = text_losses(model, letters, TEXTS)
    rows = []
    watch = model.register_forward_hook(lambda _m, _inputs, out: rows.append(len(out.logits)))
    got = rises(model, letters, TEXTS, LABELS, GROUPS, VALUES, baseline=(losses, tokens))
    assert rows == [8, 8, 8]
    rises(model, letters, TEXTS, LABELS, GROUPS, VALUES, baseline=(losses, tokens), only_own=True)
    assert rows[3:] == [3, 3, 2]
    watch.remove()
    torch.testing.assert_close(got, rises(model, letters, TEXTS, LABELS, GROUPS, VALUES), atol=0, rtol=0)
    lower = rises(model, letters, TEXTS, LABELS, GROUPS, VALUES, baseline=(losses - tokens, tokens))
    torch.testing.assert_close(lower, got + 1)  # a nat a token less before is a nat more of a rise


def test_a_neuron_held_at_the_value_it_has_anyway_changes_nothing():
    model = loud(build("gpt_neox")[0])
    first = model.gpt_neox.layers[2].mlp.dense_h_to_4h
    first.weight.data[5], first.bias.data[5] = 0, 0.8  # constant, whatever the text
    value = torch.nn.functional.gelu(torch.tensor([0.8]))
    off = [[[2, 5]], [[2, 6]], []]
    got = rises(model, letters, TEXTS, LABELS, off, [value, value, []])
    assert got[0].abs().max() < 1e-6 and got[1].abs().min() > 1e-4 and got[2].abs().max() == 0


def test_an_activation_that_others_hold_is_not_written_to():
    model, ids = loud(build("gpt_neox")[0]), torch.arange(10)[None]
    kept = []
    watch = mlp_sites(model)[0].module.register_forward_pre_hook(lambda _m, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        model(input_ids=ids)
        with held_at(model, [[0, 3]], [9.0]):
            model(input_ids=ids)
    watch.remove()
    assert torch.equal(kept[0], kept[1])


def test_half_precision_stays_and_is_near(model):
    exact, _ = text_losses(model, letters, TEXTS)
    seen = []
    model.to(torch.bfloat16)
    with held_at(model, GROUPS[0], VALUES[0]):
        watch = mlp_sites(model)[0].module.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
        text_losses(model, letters, TEXTS)
        watch.remove()
    assert seen[0].dtype == torch.bfloat16 and (seen[0][..., 3] == 1.5).all()
    half, _ = text_losses(model, letters, TEXTS, batch_size=1)
    assert half.dtype == torch.float64
    torch.testing.assert_close(half, exact, rtol=0.05, atol=0.05)
    expected = [surprises(model, text) for text in TEXTS]  # from the same logits: the loss itself rounds nothing
    np.testing.assert_allclose(half.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_a_real_tokenizer_and_texts_beyond_the_context():
    tokenizer = train_tokenizer(TEXTS * 3, 280)
    model = untrained("32x2", vocabulary=280)
    losses, tokens = text_losses(model, tokenizer, [TEXTS[0], "x y z " * 500], progress=True)
    assert tokens.tolist() == [len(tokenizer(TEXTS[0]).input_ids) - 1, 127]
    assert (losses / tokens - np.log(280)).abs().max() < 0.5  # an untrained model knows nothing


def test_the_model_is_left_as_it_was_even_where_it_fails(model):
    found = []
    for training in (True, False):
        model.train(training)
        found.append(rises(model, letters, TEXTS, LABELS, GROUPS, VALUES))
        assert model.training is training
    assert torch.equal(*found)  # without GPT-2's dropout
    model.train()
    broken = mlp_sites(model)[1].module.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), held_at(model, GROUPS[0], VALUES[0]):
        text_losses(model, letters, TEXTS)
    broken.remove()
    assert model.training and all(not m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("neurons", "values", "message"),
    [
        ([[4, 0]], [1.0], "no layer 4: the model has 4"),
        ([[-1, 0]], [1.0], "no layer -1"),
        ([[0, 24]], [1.0], "no neuron 24 in layer 0: it has 24"),
        ([[0, -1]], [1.0], "no neuron -1 in layer 0"),
        ([[0, 1], [0, 1]], [1.0, 2.0], "named twice"),
        ([[0, 1]], [1.0, 2.0], "one value a neuron"),
        ([[0, 1]], 1.0, "one value a neuron"),
        ([], [1.0], "one value a neuron"),
        ([[0, 1]], [np.nan], "NaN or infinity"),
        ([[0.0, 1.0]], [1.0], "whole numbers"),
        ([0, 1], [1.0, 2.0], r"expected \(K, 2\)"),
    ],
)
def test_bad_neurons_are_named(model, neurons, values, message):
    with pytest.raises(UserError, match=message), held_at(model, neurons, values):
        pass
    assert all(not m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"texts": []}, "no texts"),
        ({"texts": "one string"}, "expected a list"),
        ({"texts": ["", *TEXTS[1:]]}, "text 0 is empty"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"labels": LABELS[1:]}, "expected one each"),
        ({"labels": [0.0] * 8}, "expected one each"),
        ({"labels": [3, *LABELS[1:]]}, "labels run from 0 to 3, with 3 groups"),
        ({"labels": [-1, *LABELS[1:]]}, "labels run from -1"),
        ({"labels": [0, 2, 0, 0, 0, 0, 0, 1]}, "feature 2 has no token to predict"),
        ({"values": VALUES[:2]}, "got 3 groups of neurons and values for 2"),
        ({"groups": [*GROUPS[:2], [[9, 9], [9, 8]]]}, "no layer 9"),
        ({"baseline": (torch.zeros(8), torch.ones(8))}, "baseline is of other texts"),
    ],
)
def test_bad_input_is_named(changed, message):
    model = build("gpt_neox")[0]
    good = {"texts": TEXTS, "labels": LABELS, "groups": GROUPS, "values": VALUES}
    with pytest.raises(UserError, match=message):
        rises(model, letters, **(good | changed))


def test_models_without_a_next_token_are_named():
    for model in (build("bert")[0], build("gpt_neox")[0].gpt_neox):
        with pytest.raises(UserError, match="predicts no next token"):
            text_losses(model, letters, TEXTS)
    with pytest.raises(UserError, match="no MLP blocks known in Linear"), held_at(torch.nn.Linear(2, 2), [[0, 0]], [1]):
        pass
