"""The classifier on an encoder: means against a slow version, BERT's own head, and what a seed decides."""

import numpy as np
import pytest
import torch
from finetune_data import planted_task, tiny_bert
from transformers import BertForMaskedLM, BertForSequenceClassification

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.batches import Encoded
from l2e_min.lab.finetuning.classifier import Classifier, build_classifier, mean_over
from l2e_min.lab.mini_bert import load_encoder, sinusoids


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("model"))


def build(model, head="mean", pair=True, seed=0, n_outputs=3, pretrained=True):
    classifier, tokenizer = build_classifier(model, n_outputs, pair=pair, head=head, seed=seed, pretrained=pretrained)
    return classifier.eval(), tokenizer


def batch_of(tokenizer, n=6, pair=True, pad_to=None):
    task = planted_task(train=n, pair=pair)
    return Encoded(task.train, tokenizer, task).batch(np.arange(n), pad_to)[0]


def weights(classifier) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in classifier.named_parameters()}


def differing(first, second) -> set[str]:
    """Matrices that two classifiers do not share."""
    second = weights(second)
    return {name for name, w in weights(first).items() if w.ndim > 1 and not torch.equal(w, second[name])}


@pytest.mark.parametrize("pair", [False, True])
def test_logits_are_those_of_a_slow_version(model, pair):
    """[u, v, |u - v|, u v] from token by token sums in float64 over what is not padding."""
    classifier, tokenizer = build(model, pair=pair)
    inputs = batch_of(tokenizer, pair=pair)
    hidden = classifier.encoder(**inputs).last_hidden_state.detach().double().numpy()  # (b, t, d)
    types, mask = inputs["token_type_ids"].numpy(), inputs["attention_mask"].numpy()
    assert mask.min() == 0 and types.max() == pair
    w, b = classifier.out.weight.detach().double().numpy(), classifier.out.bias.detach().double().numpy()
    for row in range(len(hidden)):
        sums, counts = np.zeros((2, hidden.shape[2])), [0, 0]
        for token in range(hidden.shape[1]):
            if mask[row, token]:
                sums[types[row, token]] += hidden[row, token]
                counts[types[row, token]] += 1
        u = sums[0] / counts[0]
        features = u
        if pair:
            v = sums[1] / counts[1]
            features = np.concatenate([u, v, np.abs(u - v), u * v])
        np.testing.assert_allclose(classifier(**inputs)[row].detach().numpy(), w @ features + b, atol=2e-6)


def test_a_mean_over_nothing_is_zero():
    hidden = torch.randn(2, 3, 4)
    mask = torch.tensor([[0, 0, 0], [0, 1, 1]])
    found = mean_over(hidden, mask)
    assert found[0].tolist() == [0] * 4
    assert torch.allclose(found[1], (hidden[1, 1] + hidden[1, 2]) / 2)


@pytest.mark.parametrize("head", ["mean", "cls"])
def test_padding_and_what_stands_in_it_change_no_logit(model, head):
    classifier, tokenizer = build(model, head)
    short, long = batch_of(tokenizer), batch_of(tokenizer, pad_to=40)
    expected = classifier(**short)
    assert torch.allclose(classifier(**long), expected, atol=1e-6)
    padded = long["attention_mask"] == 0
    long["input_ids"][padded], long["token_type_ids"][padded] = 77, 1
    assert torch.allclose(classifier(**long), expected, atol=1e-6)


def test_the_head_cls_is_what_bert_has_for_sequences(tmp_path, model):
    """Saved by transformers with a pooler of its own, loaded here: the same logits with the same last layer."""
    theirs = BertForSequenceClassification.from_pretrained(model, num_labels=3).eval()
    theirs.save_pretrained(tmp_path)
    load_encoder(model)[1].save_pretrained(tmp_path)
    ours, tokenizer = build(tmp_path, "cls")
    ours.out.load_state_dict(theirs.classifier.state_dict())
    inputs = batch_of(tokenizer)
    assert torch.allclose(ours(**inputs), theirs(**inputs).logits, atol=1e-6)
    assert isinstance(ours.dropout, torch.nn.Dropout) and ours.dropout.p == 0.1


def test_the_weights_are_the_model_s_and_the_control_s_are_not(model):
    """transformers marks what it has loaded, and `_init_weights` passes it over: the control must not be the model."""
    saved = BertForMaskedLM.from_pretrained(model).bert.state_dict()
    taken, control = build(model)[0], build(model, pretrained=False)[0]
    assert all(torch.equal(weight, saved[name]) for name, weight in taken.encoder.state_dict().items())
    matrices = {f"encoder.{name}" for name, weight in saved.items() if weight.ndim > 1 and "position" not in name}
    assert differing(taken, control) >= matrices and len(matrices) == 2 + 2 * 6
    assert set(weights(control)) == set(weights(taken)), "the same architecture"
    # As pretraining began: N(0, initializer_range), biases 0, positions sinusoids.
    scale = control.encoder.config.initializer_range
    drawn = control.encoder.encoder.layer[0].intermediate.dense
    assert drawn.weight.std().item() == pytest.approx(scale, rel=0.05) and drawn.bias.abs().max() == 0
    positions = control.encoder.embeddings.position_embeddings.weight
    assert torch.allclose(positions, sinusoids(*positions.shape) * scale)
    assert control.encoder.config.hidden_dropout_prob == 0.1
    again, other = build(model, pretrained=False)[0], build(model, pretrained=False, seed=1)[0]
    assert not differing(control, again) and differing(control, other) >= matrices


@pytest.mark.parametrize("head", ["mean", "cls"])
def test_the_seed_draws_the_head_and_a_missing_pooler_alone(model, head):
    first, again, other = build(model, head)[0], build(model, head)[0], build(model, head, seed=1)[0]
    assert not differing(first, again)
    pooler = {"encoder.pooler.dense.weight"} if head == "cls" else set()
    assert differing(first, other) == {"out.weight"} | pooler
    assert first.out.bias.abs().max() == 0 and first.out.weight.std().item() == pytest.approx(0.02, rel=0.25)
    assert first.out.weight.shape == (3, 32 if head == "cls" else 4 * 32)


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("head", ["mean", "cls"])
def test_the_global_random_state_is_left_alone(model, head, pretrained):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, _ = build(model, head, pretrained=pretrained)
    assert torch.equal(torch.rand(3), expected)
    assert not differing(first, build(model, head, pretrained=pretrained)[0]), "nor does it decide anything"


def test_dropout_is_bert_s_own_while_training(model):
    classifier, tokenizer = build(model)
    assert {m.p for m in classifier.modules() if isinstance(m, torch.nn.Dropout)} == {0.1}
    assert {m.p for m in load_encoder(model, dropout=None)[0].modules() if isinstance(m, torch.nn.Dropout)} == {0.0}
    inputs = batch_of(tokenizer)
    assert torch.equal(classifier(**inputs), classifier(**inputs))
    classifier.train()
    assert not torch.equal(classifier(**inputs), classifier(**inputs))


def test_bad_heads_are_named(model):
    with pytest.raises(UserError, match="no such head: 'last'; expected one of mean, cls"):
        build(model, "last")
    encoder, _ = load_encoder(model)
    with pytest.raises(UserError, match="'cls' needs an encoder with a pooler; take the head 'mean'"):
        Classifier(encoder, 2, pair=False, head="cls")
    with pytest.raises(UserError, match=r"no model in .*nowhere: expected a folder"):
        build("nowhere")
