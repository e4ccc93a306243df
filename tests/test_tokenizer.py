"""The tokenizer: the same texts give the same one, every text comes back, saved and loaded it stays itself."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2e_min.lab.errors import UserError
from l2e_min.lab.tokenizer import END_OF_TEXT, PADDING, load_tokenizer, spread_sample, train_tokenizer

TEXTS = [f"def neuron_{i}(value):\n    return value * {i}  # größer als 夢\n" for i in range(40)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 320)


def test_it_has_the_size_and_the_special_tokens_of_pythia(tokenizer):
    assert len(tokenizer) == 320
    assert tokenizer.convert_tokens_to_ids([END_OF_TEXT, PADDING]) == [0, 1]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1)


def test_the_same_texts_give_the_same_tokenizer(tokenizer):
    assert train_tokenizer(TEXTS, 320).backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
@pytest.mark.slow
def test_every_text_comes_back(tokenizer, text):
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    if END_OF_TEXT not in text and PADDING not in text:
        assert tokenizer.decode(ids) == text


def test_it_compresses_what_it_has_seen(tokenizer):
    assert len(tokenizer(TEXTS[3]).input_ids) < 0.5 * len(TEXTS[3].encode())


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded(TEXTS[0]).input_ids == tokenizer(TEXTS[0]).input_ids
    assert (loaded.eos_token_id, loaded.pad_token_id, len(loaded)) == (0, 1, 320)
    assert loaded.decode(loaded(" a  b .\n").input_ids) == " a  b .\n", "no clean-up of spaces"


def test_the_sample_spreads_over_all_texts():
    texts = [str(i % 10) * 100 for i in range(1000)]
    sample = spread_sample(texts, 10_000)
    assert 8_000 <= sum(map(len, sample)) <= 12_000 and sample[0] == texts[0] and texts.index(sample[-1]) is not None
    assert spread_sample(texts, 10**9) == texts


@pytest.mark.parametrize(("texts", "size", "message"), [(TEXTS, 200, "at least 258 entries"), ([""], 300, "none")])
def test_what_cannot_work_is_refused(texts, size, message):
    with pytest.raises(UserError, match=message):
        train_tokenizer(texts, size)


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no tokenizer\.json in"):
        load_tokenizer(tmp_path)
