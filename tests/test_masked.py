"""Masked rows: what is asked and hidden, the same after a resume; and a mini BERT's pretraining killed at any time."""

import hashlib
import os
import random
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from finetune_data import texts

from l2e_min.lab.mini_bert import train_wordpiece, untrained_bert
from l2e_min.lab.training import pretrain as p
from l2e_min.lab.training.blocks import encode_stream
from l2e_min.lab.training.masked import HIDDEN_SHARE, NOT_ASKED, MaskedBlocks, masked_loss
from l2e_min.lab.training.objective import tokens_asked
from l2e_min.lab.training.recipe import PretrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")

CONTEXT = 34


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(texts(), 500, CONTEXT)


@pytest.fixture(scope="module")
def stream(tokenizer):
    return encode_stream(tokenizer, [f"{text} 日" for text in texts(300)], cache=False)


def blocks(stream, tokenizer, seed=0) -> MaskedBlocks:
    return MaskedBlocks(stream, CONTEXT, tokenizer, seed)


def asked_of(tokens, seed, special, vocabulary):
    """The rule of Devlin et al. (2019), 3.1, token by token, from the same draws: (input, target) of one row."""
    draws = np.random.default_rng(seed).random((3, len(tokens)))
    inputs, targets = [], []
    for token, first, second, third in zip(tokens, *draws, strict=True):
        hidden, target = token, -100
        if first < 0.2 and token not in special:
            target = token
            if second < 0.8:
                hidden = 4
            elif second >= 0.9:
                hidden = int(third * vocabulary)
        inputs.append(hidden)
        targets.append(target)
    return [2, *inputs, 3], [-100, *targets, -100]


def test_rows_are_those_of_a_slow_version(stream, tokenizer):
    masked = blocks(stream, tokenizer, seed=6)
    special = {tokenizer.convert_tokens_to_ids(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")}
    n = masked.n_blocks
    assert n == (len(stream) - 1) // (CONTEXT - 2)
    for position in (0, 5, n - 1, n, 2 * n + 3):
        epoch, place = divmod(position, n)
        row = int(np.random.default_rng([6, epoch]).permutation(n)[place])
        tokens = stream[row * 32 : row * 32 + 32].astype(int).tolist()
        inputs, targets = masked.read(position, 1)
        assert (inputs[0].tolist(), targets[0].tolist()) == asked_of(tokens, [6, epoch, row], special, 500)
        fixed = masked.rows([row])
        assert (fixed[0][0].tolist(), fixed[1][0].tolist()) == asked_of(tokens, [row], special, 500)


def test_a_fifth_is_asked_of_which_80_10_10(stream, tokenizer):
    masked = blocks(stream, tokenizer)
    inputs, targets = (side.numpy() for side in masked.read(0, masked.n_blocks))
    inner = inputs[:, 1:-1]
    whole = np.concatenate([stream[r * 32 : r * 32 + 32][None] for r in masked.order(0)]).astype(np.int64)
    asked = targets[:, 1:-1] != NOT_ASKED
    ordinary = ~np.isin(whole, [0, 1, 2, 3, 4])
    assert (inputs[:, 0] == 2).all() and (inputs[:, -1] == 3).all() and inputs.shape[1] == CONTEXT
    assert (targets[:, [0, -1]] == NOT_ASKED).all() and inputs.dtype == targets.dtype == np.int64
    assert not asked[~ordinary].any(), "[SEP] between documents and [UNK] are never asked for"
    assert (whole == 3).sum() > 200 and (whole == 1).sum() > 200
    np.testing.assert_array_equal(targets[:, 1:-1][asked], whole[asked])
    np.testing.assert_array_equal(inner[~asked], whole[~asked])
    n = ordinary.sum()
    assert asked.sum() == pytest.approx(HIDDEN_SHARE * n, abs=5 * np.sqrt(0.2 * 0.8 * n))
    k = asked.sum()
    mask, same = inner[asked] == 4, inner[asked] == whole[asked]
    for found, share in ((mask, 0.8), (same, 0.1), (~mask & ~same, 0.1)):
        assert found.sum() == pytest.approx(share * k, abs=5 * np.sqrt(share * (1 - share) * k) + k / 500)
    others = inner[asked][~mask & ~same]
    assert len(np.unique(others)) > 0.5 * min(len(others), 500), "another token is any token"


def test_a_resumed_run_reads_the_same_rows(stream, tokenizer):
    """One call over the end of an epoch, and the same rows one by one by a new object, give the same."""
    masked = blocks(stream, tokenizer, seed=2)
    start = masked.n_blocks - 3
    whole = masked.read(start, 8)
    for at in range(8):
        pieces = blocks(stream, tokenizer, seed=2).read(start + at, 1)
        assert torch.equal(pieces[0][0], whole[0][at]) and torch.equal(pieces[1][0], whole[1][at])


def test_every_reading_hides_others_but_validation_always_the_same(stream, tokenizer):
    masked = blocks(stream, tokenizer)
    where = {int(row): place for place, row in enumerate(masked.order(1))}
    first = int(masked.order(0)[0])
    once, again = masked.read(0, 1)[1], masked.read(masked.n_blocks + where[first], 1)[1]
    assert not torch.equal(once, again), "the same row in another epoch"
    other = blocks(stream, tokenizer, seed=1)
    rows = masked.spread(9)
    for one, two in zip(masked.rows(rows), other.rows(rows), strict=True):
        assert torch.equal(one, two), "whatever the seed of the training is"
    alone = masked.rows(rows[4:5])
    assert torch.equal(alone[1][0], masked.rows(rows)[1][4]), "whatever stands beside it"


def test_the_loss_is_the_mean_over_what_is_asked(stream, tokenizer):
    """By hand in float64, and as transformers computes it with the head on every token."""
    model = untrained_bert("bert-32x2", vocabulary=500, context=CONTEXT)
    inputs, targets = blocks(stream, tokenizer).read(0, 6)
    off = torch.autocast("cpu", torch.bfloat16, enabled=False)
    loss = masked_loss(model, inputs, targets, off)
    with torch.no_grad():
        log_p = torch.log_softmax(model(input_ids=inputs).logits.double(), -1).numpy()
    terms = [-log_p[i, j, targets[i, j]] for i, j in np.argwhere(targets.numpy() != -100)]
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-6) and len(terms) == tokens_asked(targets).item()
    assert loss.item() == pytest.approx(model(input_ids=inputs, labels=targets).loss.item(), rel=1e-6)
    loss.backward()
    assert model.bert.embeddings.word_embeddings.weight.grad.abs().sum() > 0
    half = masked_loss(model, inputs, targets, torch.autocast("cpu", torch.bfloat16))
    assert half.dtype == torch.float32 and half.item() == pytest.approx(loss.item(), rel=0.01)


# --- pretraining a mini BERT

TINY = {"size": "bert-32x1", "steps": 30, "batch": 4, "context": 16, "log_every": 5, "validate_every": 10,
        "vocabulary": 500, "device": "cpu", "validation_rows": 8}  # fmt: skip


@pytest.fixture(scope="module")
def corpus():
    draw = random.Random(0)
    words = ["the", "neuron", "def", "return", "value", "of", "layer", "x"]
    documents = [SimpleNamespace(text=" ".join(draw.choice(words) for _ in range(200))) for _ in range(12)]
    return SimpleNamespace(name="words", train=documents[:10], validation=documents[10:], fingerprint="b" * 64)


def train(out, corpus, **changes):
    settings = PretrainSettings(**{**TINY, **changes})
    return p.pretrain(settings, out, checkpoint_every=7, corpus=corpus, progress=False)


def fingerprints(out: Path) -> dict[str, str]:
    files = [out / "model" / "model.safetensors", out / "training_log.csv"]
    files += sorted((out / "checkpoints").glob("step-*/*.safetensors"))
    return {str(f.relative_to(out)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def killed_before(step: int, out: Path, corpus, **changes) -> None:
    """A child trains in ``out`` and is killed right before its own step ``step``."""
    child = os.fork()
    if child == 0:
        steps, whole_step = 0, p.training_step

        def deadly(*args, **kwargs):
            nonlocal steps
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole_step(*args, **kwargs)

        p.training_step = deadly
        try:
            train(out, corpus, **changes)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("method", ["plain", "l2e"])
@pytest.mark.slow
def test_killed_and_resumed_a_bert_ends_in_the_same_bits(tmp_path, corpus, method):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(whole, corpus, method=method)
    for step in (3, 9, 12):
        killed_before(step, killed, corpus, method=method)
    train(killed, corpus, method=method)
    assert fingerprints(killed) == fingerprints(whole) and len(fingerprints(whole)) > 6


@pytest.mark.slow
def test_a_bert_learns_and_can_be_fine_tuned_from_its_folder(tmp_path, corpus):
    from l2e_min.lab.mini_bert import load_encoder

    result = train(tmp_path, corpus, steps=150, learning_rate=1e-2)
    lines = (tmp_path / "training_log.csv").read_text().splitlines()
    first, last = (float(lines[i].split(",")[2]) for i in (1, -1))
    assert last < 0.6 * first and result["validation_loss"] < 1.15 * np.log(8), "eight words, equally likely"
    encoder, tokenizer = load_encoder(tmp_path / "model")
    assert encoder(**tokenizer("the neuron", return_tensors="pt")).last_hidden_state.shape == (1, 4, 32)
