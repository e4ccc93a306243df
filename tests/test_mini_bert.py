"""The mini BERT: its WordPiece is the same every time, its sizes and positions are what they say, and it loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from finetune_data import SIGNS, WORDS, texts, tiny_bert

from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_bert import (
    SPECIAL,
    bert_config,
    encoder_layers,
    is_bert,
    load_encoder,
    sinusoids,
    train_wordpiece,
    untrained_bert,
)

# --- WordPiece


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(texts(), 600, 64)


AGAIN = """
import sys
sys.path.insert(0, sys.argv[1])
from finetune_data import texts
from l2e_min.lab.mini_bert import train_wordpiece
print(train_wordpiece(texts(), 600, 64).backend_tokenizer.to_str())
"""


@pytest.mark.slow
def test_two_processes_learn_the_same_tokenizer(tokenizer):
    """The texts are full of pairs that are equally frequent; Rust's hash maps are seeded anew in every process."""
    run = subprocess.run(
        [sys.executable, "-c", AGAIN, str(Path(__file__).parent)], capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONHASHSEED": "7"}, check=True,
    )  # fmt: skip
    ours = json.loads(tokenizer.backend_tokenizer.to_str())
    assert json.loads(run.stdout) == ours
    for _ in range(3):
        assert json.loads(train_wordpiece(texts(), 600, 64).backend_tokenizer.to_str()) == ours


def test_the_vocabulary(tokenizer):
    assert len(tokenizer) == 600 and [tokenizer.convert_ids_to_tokens(i) for i in range(5)] == list(SPECIAL)
    assert set(tokenizer.all_special_tokens) == set(SPECIAL), "letters were special to the trainer alone"
    assert tokenizer.eos_token == "[SEP]" and tokenizer.model_max_length == 64
    assert tokenizer.tokenize(SIGNS[0]) == [SIGNS[0]], "a frequent word is one piece"
    letters = {piece for piece in tokenizer.get_vocab() if len(piece.removeprefix("##")) == 1}
    assert {"a", "##a", "z", "##z"} <= letters and len(letters) == 2 * len(set("".join((*WORDS, *SIGNS))))


def test_uncased_without_accents_and_back_again(tokenizer):
    word = WORDS[0]
    assert tokenizer(word.upper()).input_ids == tokenizer(word).input_ids
    accented = "".join({"a": "á", "e": "ê"}.get(letter, letter) for letter in "abe")
    assert tokenizer(accented).input_ids == tokenizer("abe").input_ids
    known = " ".join(WORDS[:20])
    assert tokenizer.decode(tokenizer(known).input_ids, skip_special_tokens=True) == known
    assert tokenizer.tokenize("日") == ["[UNK]"], "a letter that the texts lack"


def test_a_pair_is_cls_a_sep_b_sep_and_b_s_type_is_1(tokenizer):
    a, b = (tokenizer(word, add_special_tokens=False).input_ids for word in (WORDS[0], WORDS[7]))
    found = tokenizer(WORDS[0], WORDS[7])
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert found.input_ids == [cls, *a, sep, *b, sep]
    assert found.token_type_ids == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    one = tokenizer(WORDS[0])
    assert one.input_ids == [cls, *a, sep] and one.token_type_ids == [0] * (len(a) + 2)
    assert (cls, sep) == (2, 3) and set(found) == {"input_ids", "token_type_ids", "attention_mask"}


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    folder = tiny_bert(tmp_path, vocabulary=600)
    loaded = load_encoder(folder)[1]
    text = f"{texts(1, seed=5)[0]} Unknown 日"
    assert loaded(text, text).data == tokenizer(text, text).data
    assert loaded.mask_token_id == 4 and loaded.pad_token_id == 0 and loaded.eos_token == "[SEP]"


def test_a_tokenizer_that_cannot_be_made_is_said():
    with pytest.raises(UserError, match="a WordPiece vocabulary needs at least 500 entries, got 499"):
        train_wordpiece(texts(), 499)
    for nothing in ([], ["", ""]):
        with pytest.raises(UserError, match="needs some text to learn from, and there is none"):
            train_wordpiece(nothing)


# --- the model


@pytest.mark.parametrize(("positions", "width"), [(1, 2), (7, 4), (64, 32)])
def test_sinusoids_are_those_of_the_paper(positions, width):
    """Vaswani et al. (2017), 3.5, entry by entry in float64; their mean square of 1/2 is brought to 1."""
    slow = np.zeros((positions, width))
    for p in range(positions):
        for i in range(width // 2):
            slow[p, 2 * i] = np.sin(p / 10000 ** (2 * i / width))
            slow[p, 2 * i + 1] = np.cos(p / 10000 ** (2 * i / width))
    found = sinusoids(positions, width).double().numpy()
    np.testing.assert_allclose(found, np.sqrt(2) * slow, atol=2e-5)
    assert np.mean(found**2) == pytest.approx(1, abs=1e-5)


def test_an_untrained_model_starts_at_sinusoids_and_is_seeded():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    model, again, other = (untrained_bert("bert-32x2", seed=s, vocabulary=500, context=16) for s in (0, 0, 1))
    assert torch.equal(torch.rand(2), expected), "and leaves the global random state alone"
    scale = model.config.initializer_range
    assert scale == pytest.approx(np.sqrt(2 / (5 * 32)))
    assert torch.allclose(model.bert.embeddings.position_embeddings.weight, sinusoids(16, 32) * scale)
    state = model.state_dict()
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in state.items())
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(state[query], other.state_dict()[query])
    assert not model.training and model.bert.pooler is None
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def test_sizes():
    config = bert_config("bert-64x3", vocabulary=700, context=32)
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (64, 3, 256)
    assert (config.vocab_size, config.max_position_embeddings, config.pad_token_id) == (700, 32, 0)
    assert config.hidden_size // config.num_attention_heads == bert_config("bert-128x4").hidden_size // 4
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0, 0)
    assert is_bert("bert-128x4") and not any(map(is_bert, ("128x4", "bert-128x4x2", "hub:bert-1x1")))


@pytest.mark.parametrize("size", ["128x4", "bert-128", "bert-33x2", "bert-0x2", "bert-32x0", "bert-32x2 ", "BERT-32x2"])
def test_a_size_that_is_none_is_said(size):
    with pytest.raises(UserError, match=f"no such size: '{size}'; expected bert-HIDDENxLAYERS such as bert-128x4"):
        bert_config(size)


def test_the_blocks_are_found_and_a_stranger_is_told(tmp_path):
    model = untrained_bert("bert-32x2", vocabulary=500, context=16)
    assert list(encoder_layers(model)) == list(model.bert.encoder.layer) == list(encoder_layers(model.bert))
    with pytest.raises(UserError, match=r"no encoder.layer in Linear; expected a BERT"):
        encoder_layers(torch.nn.Linear(2, 2))


def test_loading_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"no model in .*: expected a folder with config.json"):
        load_encoder(tmp_path)
    folder = Path(tiny_bert(tmp_path))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"no tokenizer.json in .*: expected a folder with one, or hub:NAME"):
        load_encoder(folder)
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot load the model"):
        load_encoder(folder)


def test_loading_says_nothing_about_the_head_it_leaves_out(tmp_path, caplog):
    """Else a page of warnings at every run of a comparison."""
    from transformers.utils import logging

    folder, before = tiny_bert(tmp_path), logging.get_verbosity()
    load_encoder(folder, pooler=True)
    assert caplog.text == "" and logging.get_verbosity() == before
