"""A task's rows as batches: cut, padded, in standard units, every row once and in an order that a seed draws."""

import numpy as np
import pytest
import torch
from finetune_data import WORDS, planted_task, sentence, texts

from l2e_min.lab.finetuning.batches import GROUPED, Encoded
from l2e_min.lab.finetuning.task import Rows
from l2e_min.lab.mini_bert import train_wordpiece


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(texts(), 500, 64)


def encoded(tokenizer, **kind):
    task = planted_task(**kind)
    return Encoded(task.train, tokenizer, task), task


def test_a_batch_is_the_rows_padded_to_its_longest(tokenizer):
    data, task = encoded(tokenizer, pair=True)
    index = np.array([5, 0, 17, 3])
    inputs, labels = data.batch(index)
    assert labels.tolist() == task.train.labels[index].tolist() and labels.dtype == torch.int64
    longest = 0
    for place, row in enumerate(index):
        alone = tokenizer(task.train.first[row], task.train.second[row], truncation=True, max_length=task.max_tokens)
        n = len(alone.input_ids)
        longest = max(longest, n)
        assert inputs["input_ids"][place].tolist() == alone.input_ids + [0] * (inputs["input_ids"].shape[1] - n)
        assert inputs["token_type_ids"][place, :n].tolist() == alone.token_type_ids
        assert inputs["attention_mask"][place].nonzero().flatten().tolist() == list(range(n))
    assert {tensor.shape for tensor in inputs.values()} == {(4, longest)}
    assert {tensor.dtype for tensor in inputs.values()} == {torch.int64}
    assert data.batch(index, pad_to=40)[0]["attention_mask"].shape == (4, 40)
    wide = data.batch(index, pad_to=40)[0]
    assert all(
        torch.equal(wide[name][:, :longest], inputs[name]) and not wide[name][:, longest:].any() for name in wide
    )


@pytest.mark.parametrize("pair", [False, True])
def test_long_rows_are_cut_and_keep_their_ends(tokenizer, pair):
    rng = np.random.default_rng(0)
    first, second = (tuple(sentence(rng, 30, 40) for _ in range(3)) for _ in range(2))
    rows = Rows(first, second if pair else None, np.array([0, 1, 0]), ("",) * 3)
    task = planted_task(max_tokens=20, pair=pair)
    data = Encoded(rows, tokenizer, task)
    assert data.lengths.tolist() == [20] * 3
    for ids, types in zip(data.ids, data.types, strict=True):
        assert ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id
        assert ids.count(tokenizer.sep_token_id) == 1 + pair
        assert sum(types) in ((9, 10) if pair else (0,)), "both sentences of a pair are cut alike"


def test_values_are_in_standard_units_of_the_training_labels(tokenizer):
    data, task = encoded(tokenizer, values=True)
    known = task.train.labels
    mean = sum(known) / len(known)
    deviation = np.sqrt(sum((known - mean) ** 2) / len(known))
    assert deviation > 1 and data.labels.dtype == torch.float32
    np.testing.assert_allclose(data.labels.numpy(), (known - mean) / deviation, rtol=1e-6)
    other = Rows(("a",), None, np.array([mean + 2 * deviation]), ("",))
    assert Encoded(other, tokenizer, task).labels.tolist() == pytest.approx([2], rel=1e-6), "of dev and test rows, too"


def test_every_epoch_holds_every_row_once(tokenizer):
    data, _ = encoded(tokenizer, train=203)
    for epoch in range(3):
        batches = list(data.epoch(8, seed=1, epoch=epoch))
        assert sorted(np.concatenate(batches)) == list(range(203))
        assert sorted(len(batch) for batch in batches) == [3] + [8] * 25
    assert sorted(np.concatenate(list(data.in_order(16)))) == list(range(203)) and len(data) == 203


def test_the_order_is_the_seed_s_and_changes_with_the_epoch(tokenizer):
    data, _ = encoded(tokenizer)
    torch.manual_seed(0)
    np.random.seed(0)

    def order(seed, epoch):
        return np.concatenate(list(data.epoch(8, seed, epoch))).tolist()

    first = order(0, 0)
    torch.manual_seed(1)
    np.random.seed(1)
    assert order(0, 0) == first, "and nothing else decides"
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_batches_are_of_rows_of_similar_length_in_random_order(tokenizer):
    """Two in three of the tokens of batches drawn without regard to length would be padding here, or near it."""
    rng = np.random.default_rng(0)
    n, batch = 400, 10
    rows = Rows(
        tuple(" ".join(rng.choice(WORDS, rng.choice([2, 18]))) for _ in range(n)), None, np.zeros(n, int), ("",) * n
    )
    data = Encoded(rows, tokenizer, planted_task(max_tokens=64))

    def waste(batches):
        return 1 - data.lengths.sum() / sum(len(b) * data.lengths[b].max() for b in batches)

    grouped = list(data.epoch(batch, 0, 0))
    at_random = np.split(rng.permutation(n), n // batch)
    assert waste(grouped) < 0.25 < 0.4 < waste(at_random)
    longest = np.array([data.lengths[b].max() for b in grouped])
    assert 0 < np.mean(np.diff(longest[: n // batch // 2]) > 0) < 1, "not from short to long"
    assert waste(list(data.in_order(batch))) <= waste(grouped) and GROUPED * batch < n


def test_labels_follow_their_rows(tokenizer):
    """The sign that tells the class is in the batch's own ids."""
    data, task = encoded(tokenizer)
    signs = [tokenizer(name, add_special_tokens=False).input_ids for name in task.classes]
    for index in data.epoch(16, 0, 0):
        inputs, labels = data.batch(index)
        for ids, label in zip(inputs["input_ids"].tolist(), labels.tolist(), strict=True):
            assert ",".join(map(str, signs[label])) in ",".join(map(str, ids))
