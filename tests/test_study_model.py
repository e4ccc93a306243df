"""One model's study: its loss in bits per byte, neurons switched off, and what is no language model."""

import json
import math

import numpy as np
import pytest
import torch
from study_data import FAMILIES, LAYERS, NEURONS, dataset, tiny, tokenizer

from l2e_min.lab.errors import UserError
from l2e_min.lab.measure import neuron_values
from l2e_min.lab.record import rounded
from l2e_min.lab.study import switched_off as module
from l2e_min.lab.study.ablation import held_at, rises, text_losses
from l2e_min.lab.study.dataset import observe
from l2e_min.lab.study.measures import measures
from l2e_min.lab.study.model import bits_per_byte, check_causal, held_out_rows, study_model, token_means
from l2e_min.lab.study.switched_off import OFF, RANDOM_DRAWS, best_by_feature, lowest_phi, switched_off

QUIET = {"batch_size": 16, "progress": False}
TEXTS = ["to be or not to be", "größe und maß", "def f(x): return x", "l'état, c'est moi"]


@pytest.fixture(scope="module")
def words():
    return tokenizer()


@pytest.fixture(
    scope="module", params=[FAMILIES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES[1:])]
)
def family(request, words):
    """(model, what two passes kept, neurons switched off)."""
    model, data = tiny(request.param), dataset()
    seen = observe(model, words, data, **QUIET)
    return model, seen, switched_off(model, words, seen, batch_size=16)


# ---- switched off ------------------------------------------------------------------------------------------------


def pairs(numbers):
    return [[int(n) // NEURONS, int(n) % NEURONS] for n in numbers]


def test_rises_are_the_loss_with_the_neurons_held(family, words):
    """Again from the probes, the moments and the loss of the held-out texts alone."""
    model, seen, off = family
    rows = seen.held.nonzero()[:, 0]
    texts, labels = [seen.data.texts[i] for i in rows], seen.labels[rows]
    loss, tokens = text_losses(model, words, texts)
    for l in range(3):
        mine = labels == l
        assert off["loss"][l] == pytest.approx((loss[mine].sum() / tokens[mine].sum()).item(), rel=1e-5)
    for g in range(3):
        best = seen.probes.neuron[seen.probes.feature == g][:10]
        with held_at(model, pairs(best), seen.first.mu[best]):
            after, _ = text_losses(model, words, texts)
        for l in range(3):
            mine = labels == l
            expected = ((after - loss)[mine].sum() / tokens[mine].sum()).item()
            assert off["rise_matrix"][g][l] == pytest.approx(expected, abs=1e-5)
    assert off["rise"] == [off["rise_matrix"][g][g] for g in range(3)]
    assert np.ptp(off["rise_matrix"]) > 0.01, "the model hears its neurons"


def test_without_the_matrix_the_rises_are_the_same(family, words):
    model, seen, off = family
    own = switched_off(model, words, seen, batch_size=5, matrix=False)
    assert own.keys() == off.keys() - {"rise_matrix"}
    for name in own:
        assert own[name] == pytest.approx(off[name], abs=1e-5), name


def test_every_group_is_ten_different_neurons(family, words, monkeypatch):
    model, seen, off = family
    asked = []

    def watched(*arguments, **options):
        asked.append((torch.stack(arguments[4]), torch.stack(arguments[5])))
        return rises(*arguments, **options)

    monkeypatch.setattr(module, "rises", watched)
    assert switched_off(model, words, seen, batch_size=16) == off, "drawn by the seed alone"
    assert len(asked) == 1 + RANDOM_DRAWS + 1
    for neurons, values in asked:
        assert neurons.shape == (3, OFF, 2) and OFF == 10
        numbers = neurons[..., 0] * NEURONS + neurons[..., 1]
        assert all(len(group.unique()) == OFF for group in numbers)
        torch.testing.assert_close(values, seen.first.mu[numbers])
    draws = torch.stack([neurons for neurons, _ in asked[1:4]])
    assert len({str(group.tolist()) for draw in draws for group in draw}) == 9, "other neurons each time"
    found = torch.stack([rises_of(model, words, seen, *asked[k]) for k in (1, 2, 3)]).mean(0)
    assert off["rise_random"] == pytest.approx(found.tolist(), abs=1e-6)
    assert off["rise_lowest"] == pytest.approx(rises_of(model, words, seen, *asked[4]).tolist(), abs=1e-6)
    other = switched_off(model, words, seen, batch_size=16, seed=1)
    assert other["rise"] == off["rise"] and other["rise_random"] != off["rise_random"]


def rises_of(model, words, seen, neurons, values):
    rows = seen.held.nonzero()[:, 0]
    texts = [seen.data.texts[i] for i in rows]
    return rises(model, words, texts, seen.labels[rows], list(neurons), list(values), only_own=True, batch_size=16)


def test_the_groups_are_the_best_probed_and_the_lowest(family):
    _, seen, _ = family
    best, lowest = best_by_feature(seen), lowest_phi(seen)
    scores = seen.first.scores(1)
    for feature in range(3):
        mine = seen.probes.feature == feature
        assert best[feature].tolist() == seen.probes.neuron[mine].tolist()
        assert (np.diff(seen.probes.f1_train[mine]) <= 0).all()
        rest = np.setdiff1d(np.arange(LAYERS * NEURONS), lowest[feature])
        assert scores[feature, lowest[feature]].max() <= scores[feature, rest].min()


def test_where_few_neurons_are_alive_all_of_them_are_taken(words):
    model = tiny("gpt_neox")
    for layer in model.gpt_neox.layers:
        layer.mlp.dense_h_to_4h.weight.data[2:].zero_()
    seen = observe(model, words, dataset(), **QUIET)
    off = switched_off(model, words, seen, batch_size=16)
    assert best_by_feature(seen).shape == lowest_phi(seen).shape == (3, 6)
    for other in ("rise_random", "rise_lowest"):
        assert off["rise"] == pytest.approx(off[other], abs=1e-6)


# ---- bits per byte -----------------------------------------------------------------------------------------------


def surprise(model, ids) -> float:
    """The sum of -log2 p of all tokens but the first."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    return -sum((logits[i].log_softmax(0)[ids[i + 1]] / math.log(2)).item() for i in range(len(ids) - 1))


@pytest.mark.parametrize("name", FAMILIES)
def test_bits_per_byte_are_of_the_bytes_that_are_predicted(name, words):
    model = tiny(name)
    ids = [words(text)["input_ids"] for text in TEXTS]
    n_bytes = sum(len(words.decode(row[1:]).encode()) for row in ids)
    assert n_bytes < sum(len(text.encode()) for text in TEXTS) - 3
    expected = sum(surprise(model, row) for row in ids) / n_bytes
    assert bits_per_byte(model, words, TEXTS, batch_size=3) == pytest.approx(expected, rel=1e-4)


def test_a_mark_of_the_beginning_is_no_text():
    """As Llama's tokenizer puts it before every text."""
    from tokenizers.processors import TemplateProcessing

    words = tokenizer()
    plain = [words(text)["input_ids"] for text in TEXTS]
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    assert [words(text)["input_ids"] for text in TEXTS] == [[0, *row] for row in plain]
    model = tiny("llama")
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    expected = sum(surprise(model, [0, *row]) for row in plain) / n_bytes
    assert bits_per_byte(model, words, TEXTS) == pytest.approx(expected, rel=1e-4)


def test_bytes_beyond_the_context_do_not_count(words):
    model = tiny("gpt_neox")
    model.config.max_position_embeddings = 5
    ids = [words(text)["input_ids"][:5] for text in TEXTS]
    n_bytes = sum(len(words.decode(row[1:]).encode()) for row in ids)
    assert bits_per_byte(model, words, TEXTS) == pytest.approx(sum(surprise(model, r) for r in ids) / n_bytes, rel=1e-4)


# ---- the whole ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_study_is_its_parts(words):
    model, data = tiny("llama"), [dataset()]
    found = study_model(model, words, data, TEXTS, random_neurons=20, seed=3, **QUIET)
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["bits_per_byte"] == pytest.approx(bits_per_byte(model, words, TEXTS))
    seen = observe(model, words, data[0], random_neurons=20, seed=3, **QUIET)
    off = switched_off(model, words, seen, seed=3, batch_size=16)
    assert rounded(found["datasets"]["words"]) == rounded(measures(seen, seed=3) | off)  # NaN is not equal to itself
    assert json.loads(json.dumps(rounded(found))) == rounded(found)
    without = study_model(model, words, data, TEXTS, random_neurons=20, seed=3, off=False, **QUIET)
    assert rounded(without["datasets"]["words"]) == rounded(measures(seen, seed=3))


@pytest.mark.parametrize("aggregate", ["max", "last"])
@pytest.mark.slow
def test_neurons_are_held_at_their_mean_over_tokens_whatever_is_measured(words, aggregate, monkeypatch):
    model, data = tiny("gpt2"), dataset()
    held = []
    monkeypatch.setattr(module, "rises", lambda *a, **o: (held.append((a[4], a[5])), rises(*a, **o))[1])
    study_model(model, words, [data], TEXTS, aggregate=aggregate, **QUIET)
    means = neuron_values(model, words, data.texts, progress=False).double().mean(0).flatten()
    torch.testing.assert_close(token_means(model, words, data.texts, 7), means, rtol=1e-5, atol=1e-6)
    neurons, values = (torch.stack(list(x)) for x in held[0])
    torch.testing.assert_close(values, means[neurons[..., 0] * NEURONS + neurons[..., 1]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_causal_models_pass(name, dtype):
    model = tiny(name).to(dtype).train()
    check_causal(model)
    assert model.training


def test_what_is_no_causal_language_model_is_named(words):
    import transformers as t

    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    bert = t.BertLMHeadModel(t.BertConfig(vocab_size=1024, **size))
    with pytest.raises(UserError, match="BertLMHeadModel sees the tokens that it predicts"):
        study_model(bert, words, [dataset()], TEXTS, **QUIET)
    bert.config.is_decoder = True
    check_causal(t.BertLMHeadModel(bert.config))
    with pytest.raises(UserError, match="predicts no next token"):
        study_model(tiny("gpt_neox").gpt_neox, words, [dataset()], TEXTS, **QUIET)
    mamba = t.MambaForCausalLM(t.MambaConfig(vocab_size=1024, hidden_size=16, num_hidden_layers=1, state_size=4))
    with pytest.raises(UserError, match="no MLP blocks known in MambaForCausalLM"):
        study_model(mamba, words, [dataset()], TEXTS, **QUIET)


@pytest.mark.slow
def test_held_out_rows_are_validation_text_in_an_order_of_the_seed():
    from l2e_min.lab.text.corpus import load_corpus

    rows = held_out_rows(n=50)
    assert len(set(rows)) == 50 and rows == held_out_rows(n=60)[:50] != held_out_rows(n=50, seed=1)
    corpus = load_corpus("installed")
    assert all(len(row.encode()) in range(125, 129) for row in rows)
    assert all(any(row in d.text for d in corpus.validation) for row in rows[:10])
