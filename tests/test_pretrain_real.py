"""The real Pythias' names take the same path, with text streamed from the hub; here both are small stand-ins."""

import json
import random

import datasets
import numpy as np
import pytest
import torch

from l2e_min.lab import hub
from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import PYTHIA
from l2e_min.lab.text.document import VALIDATION
from l2e_min.lab.text.sources import unit
from l2e_min.lab.tokenizer import load_tokenizer, train_tokenizer
from l2e_min.lab.training import pretrain as p
from l2e_min.lab.training import streamed
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.lab.training.streamed import StreamedBlocks
from l2e_min.sites import mlp_sites

NAME = "hub:someone/texts"
REAL = {"size": "pythia-70m", "steps": 12, "batch": 4, "context": 32, "log_every": 4, "validate_every": 12}


def documents() -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(["the", "neuron", "def", "return", "value", "of"], k=40)) for _ in range(120)]


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A data set in two files, which load_dataset streams for whatever name; the list of names asked for."""
    rows = [json.dumps({"text": text}) for text in documents()]
    rows[7] = json.dumps({"text": "too short"})
    files = [tmp_path / f"{number}.jsonl" for number in range(2)]
    for number, file in enumerate(files):
        file.write_text("\n".join(rows[60 * number : 60 * (number + 1)]) + "\n")
    load, asked = datasets.load_dataset, []

    def stand_in(name, config, **options):
        asked.append(name)
        return load("json", data_files=[str(file) for file in files], cache_dir=str(tmp_path / "cache"), **options)

    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    monkeypatch.setattr(hub, "reachable", lambda *_: True)
    return asked


@pytest.fixture
def small(monkeypatch):
    """pythia-70m, with a hidden size of 16, two blocks and a vocabulary of 320."""
    monkeypatch.setitem(PYTHIA, "pythia-70m", (16, 2, 2, 320, 1e-3))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(documents(), 300, 32).save_pretrained(folder)
    return load_tokenizer(folder)


def train(out, tokenizer_folder="train", every=5, **changes):
    options = {**REAL, "text": NAME, "tokenizer": tokenizer_folder, "vocabulary": 300, "device": "cpu", **changes}
    return p.pretrain(PretrainSettings(**options), out, checkpoint_every=every, progress=False)


def by_hand(tokenizer) -> np.ndarray:
    """The whole training text as one stream, twice over."""
    stream = []
    for number, text in enumerate(documents()):
        if unit(f"{NAME}#{number}", "split") >= VALIDATION and number != 7:
            stream += [*tokenizer(text).input_ids, tokenizer.eos_token_id]
    return np.array(stream * 2)


def test_the_stream_is_the_documents_in_their_order_and_then_again(served, tokenizer):
    stream, rows = by_hand(tokenizer), StreamedBlocks(NAME, tokenizer, 32)
    position = 0
    while (position + 7) * 32 < len(stream):
        inputs, targets = rows.read(position, 7)
        piece = stream[position * 32 : (position + 7) * 32 + 1]
        assert np.array_equal(inputs.flatten(), piece[:-1]) and np.array_equal(targets.flatten(), piece[1:])
        position += 7
    assert position * 32 > len(stream) // 2, "the end of the data set was passed"
    with pytest.raises(ValueError, match="forwards only"):
        rows.read(0, 1)


def test_processes_that_read_their_own_rows_read_the_same_stream(served, tokenizer):
    stream, first, second = by_hand(tokenizer), *(StreamedBlocks(NAME, tokenizer, 32) for _ in range(2))
    for step in range(6):
        got = torch.cat([rows.read(8 * step + 4 * rank, 4)[0] for rank, rows in enumerate((first, second))])
        assert np.array_equal(got.flatten(), stream[8 * step * 32 : 8 * (step + 1) * 32])


@pytest.mark.parametrize("after", [3, 20, 60])
def test_reading_goes_on_where_it_was(served, tokenizer, monkeypatch, after):
    monkeypatch.setattr(streamed, "ENCODE_AT_ONCE", 5)  # so that documents are left to read
    rows = StreamedBlocks(NAME, tokenizer, 32)
    for position in range(after):
        rows.read(position, 1)
    state = rows.state_dict()
    want = rows.read(after, 30)
    again = StreamedBlocks(NAME, tokenizer, 32)
    again.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(again.read(after, 30), want, strict=True))


def test_a_real_name_trains_with_streamed_text_and_resumes_bit_for_bit(served, small, tmp_path, monkeypatch):
    result = train(tmp_path / "whole", method="l2e")
    assert result["text"]["streamed"] and result["settings"]["learning_rate"] == 1e-3
    step, done = p.training_step, []

    def dying(*arguments):
        done.append(1)
        if len(done) == 8:
            raise KeyboardInterrupt
        assert arguments[0].config._attn_implementation == "sdpa"
        return step(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(p, "training_step", dying)
        train(tmp_path / "parts", method="l2e")
    train(tmp_path / "parts", method="l2e")
    for name in ("model/model.safetensors", "training_log.csv", "checkpoints/step-00000012/text.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


def test_a_mini_scale_reads_the_beginning_of_the_dataset_shuffled(served, tmp_path):
    result = train(tmp_path, size="16x1", steps=4)
    assert "streamed" not in result["text"]


def test_a_tokenizer_that_does_not_fit_is_refused(served, tmp_path, monkeypatch):
    monkeypatch.setitem(PYTHIA, "pythia-70m", (16, 2, 2, 260, 1e-3))
    with pytest.raises(UserError, match=r"the tokenizer has \d+ entries, pythia-70m has room for 260"):
        train(tmp_path)


def test_too_long_a_context_is_refused():
    with pytest.raises(UserError, match="pythia-70m sees 2048 tokens at most, got a context of 4096"):
        PretrainSettings(size="pythia-70m", context=4096, device="cpu")


def test_every_real_name_has_its_blocks_where_the_methods_look(small):
    """Only the shapes: the models are made on no device at all."""
    from transformers import GPTNeoXForCausalLM

    from l2e_min.lab.mini_pythia import config_for

    for name in PYTHIA:
        with torch.device("meta"):
            model = GPTNeoXForCausalLM(config_for(name))
        assert len(mlp_sites(model)) == PYTHIA[name][1]


def test_a_hub_that_goes_away_is_one_line(served, tokenizer, monkeypatch):
    rows = StreamedBlocks(NAME, tokenizer, 32)
    rows.read(0, 1)

    def gone(*_):
        raise ConnectionError("no route to host")

    rows.documents = map(gone, range(3))
    with pytest.raises(UserError, match=r"cannot read the dataset hub:someone/texts beyond row \d+: no route to host"):
        rows.read(1, 500)


def test_a_dataset_without_text_is_refused(served, tokenizer):
    rows = StreamedBlocks(NAME, tokenizer, 32)
    rows.dataset = [{"text": "short"}] * 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("l2e_min.lab.training.streamed.open_dataset", lambda _: [{"text": "short"}] * 3)
        with pytest.raises(UserError, match="there is no text to learn from in the training split"):
            rows.read(0, 1)
