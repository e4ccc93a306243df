"""The methods on an encoder: where they act, what a selected value becomes, and that plain does nothing."""

import dataclasses

import pytest
import torch
from finetune_data import tiny_bert

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.methods import DEACTIVATING, TITLES, Method, middle_blocks
from l2e_min.lab.mini_bert import encoder_layers, load_encoder, untrained_bert


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("model"), "bert-32x4")


@pytest.fixture()
def encoder(folder):
    return load_encoder(folder, dropout=0.0)[0].train()


def run(encoder, seed=0, rows=6, length=10, **more):
    """A forward pass on random tokens: (hidden states, a tuple of every block's output)."""
    ids = torch.randint(5, 500, (rows, length), generator=torch.Generator().manual_seed(seed))
    output = encoder(input_ids=ids, output_hidden_states=True, **more)
    return output.last_hidden_state, output.hidden_states


@pytest.mark.parametrize(
    ("layers", "expected"),
    [(1, [0]), (2, [0, 1]), (3, [0, 1]), (4, [1, 2]), (6, [2, 3]), (12, [4, 5, 6, 7]), (24, list(range(8, 16)))],
)
def test_the_middle_third_and_at_least_two(layers, expected):
    """W24: indices 4 to 7 of BERT-base's twelve."""
    encoder = untrained_bert(f"bert-32x{layers}", vocabulary=500, context=8).bert
    blocks = list(encoder_layers(encoder))
    assert [blocks.index(block) for block in middle_blocks(encoder)] == expected


@pytest.mark.parametrize("name", list(DEACTIVATING))
def test_w24_s_methods_act_on_the_outputs_of_the_middle_blocks(encoder, name):
    inhibitor = Method(name).attach(encoder)
    assert [site.name for site in inhibitor.sites] == ["encoder.layer.1", "encoder.layer.2"]
    assert {site.side for site in inhibitor.sites} == {"output"}
    assert (
        inhibitor.inhibition == {"freeze": "freeze", "straight_through": "straight_through", "memel": "reverse"}[name]
    )
    assert (inhibitor.start_after, inhibitor.forget_after, inhibitor.floor) == (10, 10, 0.01), "as in W24's code"


def test_l2e_acts_on_the_neurons_of_the_two_middle_blocks(encoder):
    inhibitor = Method("l2e", weight=0.01, share=0.05).attach(encoder)
    assert [site.name for site in inhibitor.sites] == ["encoder.layer.1.output.dense", "encoder.layer.2.output.dense"]
    assert {site.side for site in inhibitor.sites} == {"input"} and inhibitor.inhibition == "log_ms"
    assert inhibitor.weight == 0.01 and inhibitor.retrieval.share == 0.05
    for seed in range(12):
        run(encoder, seed)
        penalty = inhibitor.penalty()
    assert penalty.item() != 0 and penalty.requires_grad
    assert inhibitor.states["encoder.layer.1.output.dense"].moments.mean.shape == (4 * 32,)


def test_plain_puts_no_hook_anywhere(encoder):
    def hooks():
        return [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in encoder.modules()]

    before, there = run(encoder)[0], hooks()  # some are transformers' own
    assert Method("plain", k=50, strength=100.0).attach(encoder) is None
    assert hooks() == there and torch.equal(run(encoder)[0], before)
    Method("freeze").attach(encoder)
    assert hooks() != there


def at_first_site(encoder, **settings):
    """(inhibitor that has seen its ten batches, what a forward pass then had before and behind its first site)."""
    seen = {}

    def keep(name):
        def hook(module, inputs, output):
            seen[name] = output[0] if isinstance(output, tuple) else output
            seen[name].retain_grad()

        return hook

    block = middle_blocks(encoder)[0]
    block.register_forward_hook(keep("before"))
    inhibitor = Method(**settings).attach(encoder)
    block.register_forward_hook(keep("behind"))
    for seed in range(10):
        run(encoder, seed)
        assert torch.equal(seen["before"], seen["behind"]), "nothing happens while the moments settle"
    return inhibitor, seen


GRADIENT = {"freeze": 0, "straight_through": 1, "memel": -1}


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", list(DEACTIVATING))
def test_the_k_most_monosemantic_pairs_of_each_row_become_their_mean(encoder, name, k):
    """W24 E.3 with phi and the selection again in float64: all else stays to the bit, D turns the gradient."""
    inhibitor, seen = at_first_site(encoder, name=name, k=k, strength=5.0)
    moments = inhibitor.states["encoder.layer.1"].moments
    mean, var = moments.mean.double().clone(), moments.var.double().clone()  # (32,): a neuron is a dimension
    hidden, _ = run(encoder, 20)
    z, changed = seen["before"], seen["behind"]  # (rows, length, 32)
    phi = (z.detach().double() - mean) ** 2 / (var + 0.01 * var.mean())
    expected = torch.zeros(z.shape, dtype=torch.bool)
    for row in range(len(z)):
        for place in phi[row].flatten().argsort(descending=True)[:k].tolist():
            expected[row, place // 32, place % 32] = True
    assert torch.equal(changed != z, expected) and expected.sum() == 6 * k
    assert torch.allclose(changed[expected].double(), mean[expected.nonzero()[:, 2]], atol=1e-5)
    (hidden * torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert torch.allclose(z.grad[expected], 5.0 * GRADIENT[name] * changed.grad[expected], atol=1e-6)
    assert torch.equal(z.grad[~expected], changed.grad[~expected]) and changed.grad[expected].abs().min() > 0


def test_nothing_is_inhibited_in_evaluation(encoder):
    encoder.eval()
    expected = run(encoder, 20)[0]
    encoder.train()
    inhibitor, _ = at_first_site(encoder, name="memel", k=50)
    assert not torch.allclose(run(encoder, 20)[0], expected)
    encoder.eval()
    before = {name: tensor.clone() for name, tensor in inhibitor.state_dict().items()}
    assert torch.equal(run(encoder, 20)[0], expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in inhibitor.state_dict().items())


def test_an_entry_is_a_dimension_at_a_position_and_needs_a_fixed_length(encoder):
    """W24's reading: moments over the rows alone."""
    inhibitor, seen = at_first_site(encoder, reading="entry")
    moments = inhibitor.states["encoder.layer.1"].moments
    assert moments.mean.shape == (10 * 32,)
    mean, count = moments.mean.clone(), moments.count.item()
    run(encoder, 20)
    z = seen["before"].detach()
    assert count == 6 * 10 and torch.allclose(moments.mean, mean + (z.mean(0).flatten() - mean) / 11, atol=1e-5)
    with pytest.raises(ValueError, match="with neuron_axes above 1 pad all batches to one length"):
        run(encoder, length=11)
    neuron, _ = at_first_site(load_copy(encoder), reading="neuron")
    assert neuron.states["encoder.layer.1"].moments.mean.shape == (32,)
    run(neuron.model, length=11)


def load_copy(encoder):
    """The same encoder without hooks."""
    twin = type(encoder)(encoder.config, add_pooling_layer=False)
    twin.load_state_dict(encoder.state_dict())
    return twin.train()


def test_equal_methods_are_equal_and_bad_names_are_said():
    assert Method("memel", k=5) == Method("memel", k=5) != Method("memel", k=10)
    assert set(TITLES) == {"plain", *DEACTIVATING, "l2e"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        Method().k = 2
    with pytest.raises(UserError, match=r"no such method: 'relu'; expected one of plain, freeze, .*memel, l2e$"):
        Method("relu")
    with pytest.raises(UserError, match="no such reading: 'word'; expected one of entry, neuron"):
        Method(reading="word")
