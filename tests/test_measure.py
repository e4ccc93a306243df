"""Neuron values: the right place, the right tokens, and no leak from padding or from the batch."""

import pytest
import torch

from l2e_min.lab.errors import UserError
from l2e_min.lab.measure import AGGREGATES, neuron_values, token_values
from l2e_min.lab.mini_pythia import untrained
from l2e_min.lab.tokenizer import train_tokenizer

TEXTS = ["a", "def f(x): return x", "longer text that has many more tokens than the others", "größe", "x" * 50]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS * 3, 280)


@pytest.fixture(scope="module")
def model():
    model = untrained("32x2", vocabulary=280)
    for block in model.gpt_neox.layers:  # biases apart from 0, so that a token that is padding has a value to leak
        torch.nn.init.normal_(block.mlp.dense_h_to_4h.bias, generator=torch.Generator().manual_seed(5))
    return model


def by_hand(model, tokenizer, text, aggregate):
    """The blocks computed one by one with the model's own parts, one text at a time, no padding: (layers, neurons)."""
    ids = torch.tensor([tokenizer(text).input_ids])
    with torch.no_grad():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
        rows = []
        for block, h in zip(model.gpt_neox.layers, states, strict=False):
            z = block.mlp.act(block.mlp.dense_h_to_4h(block.post_attention_layernorm(h)))[0]  # (t, n_neurons)
            rows.append({"mean": z.mean(0), "max": z.amax(0), "last": z[-1]}[aggregate])
    return torch.stack(rows)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_values_are_those_of_each_text_alone(model, tokenizer, aggregate, batch_size):
    got = neuron_values(model, tokenizer, TEXTS, aggregate=aggregate, batch_size=batch_size, progress=False)
    assert got.shape == (5, 2, 128) and got.dtype == torch.float32
    for row, text in zip(got, TEXTS, strict=True):
        torch.testing.assert_close(row, by_hand(model, tokenizer, text, aggregate), atol=1e-5, rtol=1e-5)


def test_layers_can_be_picked(model, tokenizer):
    everything = neuron_values(model, tokenizer, TEXTS, progress=False)
    last = neuron_values(model, tokenizer, TEXTS, layers=[-1], progress=False)
    torch.testing.assert_close(last[:, 0], everything[:, 1])


def test_tokens_of_a_text_and_their_values(model, tokenizer):
    tokens, values = token_values(model, tokenizer, TEXTS[1])
    assert "".join(tokens) == TEXTS[1] and values.shape == (len(tokens), 2, 128)
    mean = neuron_values(model, tokenizer, TEXTS[1:2], progress=False)[0]
    torch.testing.assert_close(values.mean(0), mean)


def test_texts_beyond_the_context_are_cut(model, tokenizer):
    long = "x y z " * 500
    tokens, values = token_values(model, tokenizer, long)
    assert len(tokens) == len(values) == 128
    assert neuron_values(model, tokenizer, [long], progress=False).isfinite().all()


def test_the_model_is_left_as_it_was(model, tokenizer):
    model.train()
    neuron_values(model, tokenizer, TEXTS, progress=False)
    assert model.training and all(not m._forward_pre_hooks for m in model.modules())
    model.eval()
    neuron_values(model, tokenizer, TEXTS, progress=False)
    assert not model.training


def test_hooks_go_even_where_the_model_fails(model, tokenizer):
    block = model.gpt_neox.layers[1].mlp.dense_4h_to_h
    handle = block.register_forward_hook(lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        neuron_values(model, tokenizer, TEXTS, progress=False)
    handle.remove()
    assert all(not m._forward_pre_hooks for m in model.modules())


def test_other_families_of_models_are_measured_too(tokenizer):
    from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
    bert = BertModel(BertConfig(vocab_size=280, max_position_embeddings=64, **small)).eval()
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=280, n_positions=64, n_embd=32, n_layer=3, n_head=2)).eval()
    for other, shape in ((bert, (5, 2, 96)), (gpt2, (5, 3, 128))):
        together = neuron_values(other, tokenizer, TEXTS, progress=False)
        alone = neuron_values(other, tokenizer, TEXTS, batch_size=1, progress=False)
        assert together.shape == shape
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "no texts"),
        ("one string", {}, "expected a list"),
        (["a", ""], {}, "text 1 is empty"),
        (["a"], {"aggregate": "median"}, "no such aggregate: 'median'"),
        (["a"], {"layers": [2]}, "no layer 2: the model has 2"),
        (["a"], {"layers": []}, "layers is empty"),
        (["a"], {"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_bad_input_is_named(model, tokenizer, texts, options, message):
    with pytest.raises(UserError, match=message):
        neuron_values(model, tokenizer, texts, progress=False, **options)
