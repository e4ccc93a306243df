"""Scoring multiple choice: planted models, a slow loop without batches or caches, intervals, bad input."""

from dataclasses import replace
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from l2e_min.lab.choice.evaluate import BETWEEN, TaskScore, evaluate, hard_and_easy
from l2e_min.lab.choice.item import ChoiceTask, Item
from l2e_min.lab.choice.scoring import loglikelihoods
from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import untrained
from l2e_min.lab.tokenizer import train_tokenizer

WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu".split()
BEGIN = 0


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([" ".join(WORDS) * 3], 300)


def task(score="pmi", items=40, shots=0, name="planted", seed=0) -> ChoiceTask:
    """Contexts and choices of many lengths; the answers' places are balanced."""
    rng = np.random.default_rng(seed)

    def text(n: int) -> str:
        return " ".join(rng.choice(WORDS, n))

    made = []
    for i in range(items):
        choices = tuple(f" {text(int(rng.integers(1, 6)))} {i}{j}" for j in range(4))
        examples = tuple(text(4) for _ in range(shots))
        made.append(Item(f"{i} {text(int(rng.integers(2, 9)))}", choices, i % 4, f"file{i % 5}", "x", examples))
    return ChoiceTask(name, name, score, shots, tuple(made))


class Cache:
    """What a model has read: rows of tokens, with the one method that scoring asks of a cache."""

    def __init__(self, ids):
        self.ids = ids

    def batch_repeat_interleave(self, n):
        self.ids = self.ids.repeat_interleave(n, 0)


class Planted(nn.Module):
    """A model with hand-made logits: `rule(tokens so far)` gives the logits of the next one, (V,)."""

    def __init__(self, rule, vocabulary=300, context=1000):
        super().__init__()
        self.rule, self.vocabulary = rule, vocabulary
        self.config = SimpleNamespace(max_position_embeddings=context)
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, input_ids, past_key_values=None, logits_to_keep=0, use_cache=True):
        old = past_key_values.ids if past_key_values else input_ids[:, :0]
        rows = torch.cat([old, input_ids], 1)
        logits = torch.stack([
            torch.stack([self.rule(tuple(row[: t + 1].tolist())) for t in range(old.shape[1], rows.shape[1])])
            for row in rows
        ])  # fmt: skip
        return SimpleNamespace(logits=logits[:, -logits_to_keep:], past_key_values=Cache(rows))


def knows(tokenizer, tasks, shift=0):
    """A rule that, behind the context of an item, goes on with choice number answer + shift; elsewhere it is flat."""
    following = {}
    for one in tasks:
        for item in one.items:
            context = [BEGIN, *tokenizer(item.context).input_ids]
            choice = tokenizer(item.choices[(item.answer + shift) % 4]).input_ids
            for t in range(len(choice)):
                following[tuple(context + choice[:t])] = choice[t]

    def rule(seen):
        logits = torch.zeros(300)
        if seen in following:
            logits[following[seen]] = 20.0
        return logits

    return rule


# --- planted models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", ["pmi", "sum"])
@pytest.mark.slow
def test_a_model_that_knows_scores_one_and_one_that_is_sure_of_another_scores_zero(tokenizer, score):
    tasks = [task(score)]
    right = evaluate(Planted(knows(tokenizer, tasks)), tokenizer, tasks)["planted"]
    assert right.accuracy == 1 and right.correct.all() and right.n == 40 and right.high == 1 and right.low > 0.9
    wrong = evaluate(Planted(knows(tokenizer, tasks, shift=1)), tokenizer, tasks)["planted"]
    assert wrong.accuracy == 0 and wrong.low == 0


def test_a_model_that_knows_nothing_scores_chance(tokenizer):
    same = task("pmi", items=40)
    flat = evaluate(Planted(lambda seen: torch.zeros(300)), tokenizer, [same])["planted"]
    assert flat.accuracy == pytest.approx(0.25, abs=0.15)

    def noise(seen):
        return torch.randn(300, generator=torch.Generator().manual_seed(hash(seen) % 2**31))

    for score in ("pmi", "sum"):
        many = evaluate(Planted(noise), tokenizer, [task(score, items=200)])["planted"]
        assert many.low < 0.25 < many.high


def test_shuffled_answers_give_chance(tokenizer):
    honest = task("pmi", items=200)
    rng = np.random.default_rng(3)
    answers = rng.permutation([item.answer for item in honest.items])
    mixed = tuple(replace(item, answer=int(a)) for item, a in zip(honest.items, answers, strict=True))
    shuffled = ChoiceTask("shuffled", "", "pmi", 0, mixed)
    scores = evaluate(Planted(knows(tokenizer, [honest])), tokenizer, [honest, shuffled])
    assert scores["planted"].accuracy == 1
    assert scores["shuffled"].low < 0.25 < scores["shuffled"].high


def test_pmi_takes_away_what_a_choice_is_worth_by_itself(tokenizer):
    """A model that loves one wrong choice everywhere, and the right one a little more behind its context."""
    item = Item("alpha", (" beta", " gamma", " delta", " mu"), 1, "f", "x")
    loved, right = tokenizer(" mu").input_ids[0], tokenizer(" gamma").input_ids[0]

    def rule(seen):
        logits = torch.zeros(300)
        logits[loved] = 9.0
        logits[right] = 3.0 if len(seen) > 1 else 0.0
        return logits

    pmi, plain = ChoiceTask("pmi", "", "pmi", 0, (item,) * 4), ChoiceTask("sum", "", "sum", 0, (item,) * 4)
    scores = evaluate(Planted(rule), tokenizer, [pmi, plain])
    assert scores["pmi"].accuracy == 1 and scores["sum"].accuracy == 0 and scores["pmi"].alone == 0


def test_no_normalization_by_length(tokenizer):
    """Every token costs the same: the shortest choice has the highest sum, the averages are equal."""
    items = tuple(
        Item("alpha", tuple(f" {' '.join(['beta'] * n)}" for n in (4, 3, 1, 2)), 2, "f", "x") for _ in range(4)
    )
    score = evaluate(Planted(lambda seen: torch.zeros(300)), tokenizer, [ChoiceTask("t", "", "sum", 0, items)])["t"]
    assert score.accuracy == 1 and score.alone == 1


# --- against a slow loop ----------------------------------------------------------------------------------------------


def slow(model, context, choice) -> float:
    """Log-likelihood of `choice` behind `context`: one whole pass, no padding, no cache, float64 NumPy."""
    ids = list(context) + list(choice)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double().numpy()
    total = 0.0
    for t in range(len(context), len(ids)):
        row = logits[t - 1]
        total += row[ids[t]] - (row.max() + np.log(np.exp(row - row.max()).sum()))
    return total


def sharp(context=128):
    """Random weights, enlarged so that what stands where matters."""
    model = untrained("32x2", vocabulary=300, context=context, seed=1)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4.0)
    return model


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_log_likelihoods_are_those_of_each_text_alone(batch_size):
    model, rng = sharp(), np.random.default_rng(0)
    contexts = [rng.integers(2, 300, n).tolist() for n in (1, 7, 7, 7, 30, 12, 7)]
    choices = [[rng.integers(2, 300, rng.integers(1, 9)).tolist() for _ in range(4)] for _ in contexts]
    got = loglikelihoods(model, contexts, choices, batch_size)
    want = [[slow(model, context, choice) for choice in four] for context, four in zip(contexts, choices, strict=True)]
    assert got.shape == (7, 4) and got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shots", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_evaluate_equals_a_slow_loop(tokenizer, shots):
    model = sharp(context=32)
    tasks = [task("pmi", 30, shots, "a", 5), task("sum", 30, shots, "b", 6)]
    got = evaluate(model, tokenizer, tasks, batch_size=7)
    for one in tasks:
        fitted, correct = [], []
        for item in one.items:
            choices = [tokenizer(c).input_ids for c in item.choices]
            for shown in range(len(item.examples), -1, -1):
                examples = [tokenizer(e + BETWEEN).input_ids for e in item.examples[len(item.examples) - shown :]]
                context = [BEGIN, *chain(*examples), *tokenizer(item.context).input_ids]
                if len(context) + max(map(len, choices)) - 1 <= 32:
                    break
            value = [slow(model, context, c) - (slow(model, [BEGIN], c) if one.score == "pmi" else 0) for c in choices]
            correct.append(int(np.argmax(value)) == item.answer)
            fitted.append(shown)
        assert got[one.name].correct.tolist() == correct
        assert got[one.name].examples == pytest.approx(np.mean(fitted))
        assert not shots or 0.2 < got[one.name].examples < 3  # some of them fit, not all


def test_a_context_that_is_too_long_is_cut_on_the_left(tokenizer):
    model = sharp(context=24)
    long, end = "alpha " * 40 + "beta gamma", "beta gamma"
    choices = (" mu", " eta", " iota", " zeta")
    tasks = [ChoiceTask(name, "", "sum", 0, (Item(context, choices, 0, "f", "x"),) * 4)
             for name, context in (("long", long), ("end", end))]  # fmt: skip
    assert evaluate(model, tokenizer, tasks)["long"].n == 4
    with pytest.raises(UserError, match="longer than the model's context of 24"):
        far = Item("a", (" alpha" * 60, " b", " c", " d"), 0, "some/file", "x")
        evaluate(model, tokenizer, [ChoiceTask("t", "", "sum", 0, (far,) * 4)])


def test_the_model_is_left_as_it_was(tokenizer):
    model = sharp()
    model.train()
    evaluate(model, tokenizer, [task(items=4)])
    assert model.training


# --- intervals, hard and easy, bad input ------------------------------------------------------------------------------


def test_the_interval_is_wilsons(tokenizer):
    one = task("sum", items=40)
    few = knows(tokenizer, [ChoiceTask("half", "", "sum", 0, one.items[:30])])
    score = evaluate(Planted(few), tokenizer, [one])["planted"]
    p, n, z = score.accuracy, 40, 1.959964
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert 0.7 < p < 1
    assert score.interval == pytest.approx((middle - half, middle + half), abs=1e-6)


def test_hard_tasks_are_those_least_above_chance():
    scores = {"a": 0.9, "b": 0.2, "c": 0.4, "d": 0.6}
    assert hard_and_easy(scores) == (["b", "c"], ["d", "a"])
    assert hard_and_easy({**scores, "e": 0.5}) == (["b", "c", "e"], ["d", "a"])  # the middle one is hard
    other = {name: TaskScore(1 - value, 10, 0, 1, 0, 0, np.ones(10, bool)) for name, value in scores.items()}
    assert hard_and_easy([scores, other, other]) == (["a", "d"], ["c", "b"])
    for wrong in ([], [scores, {"a": 1.0}], {"a": 0.5}):
        with pytest.raises(UserError):
            hard_and_easy(wrong)


def test_bad_input_is_named(tokenizer):
    model, one = sharp(), task(items=4)
    for tasks, batch_size, message in (([], 8, "no tasks"), ([one, one], 8, "one name"), ([one], 0, "batch_size")):
        with pytest.raises(UserError, match=message):
            evaluate(model, tokenizer, tasks, batch_size)
    empty = ChoiceTask("t", "", "sum", 0, (Item("a", (" b", "", " c", " d"), 0, "some/file", "x"),) * 4)
    with pytest.raises(UserError, match="some/file is empty"):
        evaluate(model, tokenizer, [empty])
    with pytest.raises(UserError, match="expected pmi or sum"):
        evaluate(model, tokenizer, [ChoiceTask("t", "", "mean", 0, one.items)])
    with torch.no_grad():
        model.gpt_neox.embed_in.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        evaluate(model, tokenizer, [one])
