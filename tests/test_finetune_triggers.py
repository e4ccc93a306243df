"""Which tokens trigger inhibition, against a slow search; and the text with the marks."""

import html.parser

import numpy as np
import pytest
import torch
from finetune_data import planted_task, tiny_bert

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.methods import Method
from l2e_min.lab.finetuning.run import FineTuneSettings, fine_tune
from l2e_min.lab.finetuning.triggers import KINDS, find_triggers, kind_of
from l2e_min.show.marked_tokens import marked_html

TASK = planted_task(train=48)


@pytest.fixture(scope="module", params=["neuron", "entry"])
def found(request, tmp_path_factory):
    """(settings, run, triggers, the inhibitor's state before)"""
    torch.set_num_threads(1)
    settings = FineTuneSettings(Method("memel", k=2, reading=request.param), learning_rate=1e-2, epochs=4, batch=16)
    run = fine_tune(TASK, tiny_bert(tmp_path_factory.mktemp("model")), settings)
    before = {name: tensor.clone() for name, tensor in run.inhibitor.state_dict().items()}
    return settings, run, find_triggers(run, TASK, settings), before


def test_the_pairs_are_those_of_a_slow_search(found):
    settings, run, triggers, _ = found
    width = len(triggers.tokens[5])
    coded = run.tokenizer(TASK.dev.first[5], truncation=True, max_length=24, padding="max_length", return_tensors="pt")
    inputs = {name: tensor[:, :width] for name, tensor in coded.items()}
    with torch.no_grad():
        hidden = run.model.encoder(**inputs, output_hidden_states=True).hidden_states
    for layer in triggers.layers:
        z = hidden[layer + 1][0].double().numpy()  # (t, d)
        moments = run.inhibitor.states[f"encoder.layer.{layer}"].moments
        mean, var = (x.double().numpy() for x in (moments.mean, moments.var))
        shape = z.shape if settings.method.reading == "entry" else (1, z.shape[1])
        phi = (z - mean.reshape(shape)) ** 2 / (var + 0.01 * var.mean()).reshape(shape)
        best = np.argsort(phi.ravel())[::-1][:2]
        expected = sorted((int(i // z.shape[1]), int(i % z.shape[1])) for i in best)
        mine = [pair for pair in triggers.of(layer) if pair.row == 5]
        assert [(pair.position, pair.dimension) for pair in mine] == expected
        tokens = run.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
        for pair in mine:
            at = pair.position
            assert pair.token == tokens[at] and pair.right == " ".join(tokens[at + 1 : at + 4])
            assert pair.phi == pytest.approx(phi[at, pair.dimension], rel=1e-4)
            assert pair.z == pytest.approx(z[at, pair.dimension], rel=1e-4)
        assert triggers.phi[layer][5] == pytest.approx(phi.max(1), rel=1e-3)


def test_counts_add_up_and_nothing_moves(found):
    _, run, triggers, before = found
    for layer in (None, *triggers.layers):
        rows = triggers.kinds(layer)
        assert [row["kind"] for row in rows] == list(KINDS)
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        assert sum(row["of_positions"] for row in rows) == pytest.approx(1)
        assert sum(row["pairs"] for row in rows) == 2 * 48 * (2 if layer is None else 1)
    padded = sum(pair.token == "[PAD]" for pair in triggers.pairs)
    assert triggers.on_padding() == pytest.approx(padded / len(triggers.pairs))
    after = run.inhibitor.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_padding_is_as_frequent_as_in_training(found):
    settings, _, triggers, _ = found
    lengths = [len(row) for row in triggers.tokens]
    padding = [row.count("[PAD]") for row in triggers.tokens]
    if settings.method.reading == "entry":
        assert set(lengths) == {24}
    else:
        assert max(lengths) <= 24 and 0 < sum(padding) < 0.5 * sum(lengths)


def test_marks_of_a_row_end_with_its_words(found):
    _, _, triggers, _ = found
    for row in range(48):
        tokens, phi, selected = triggers.marks(row, 1)
        assert len(tokens) == len(phi) and selected and max(selected) < len(tokens)
        assert tokens[-1] != "[PAD]" or max(selected) == len(tokens) - 1
        assert max(phi) == pytest.approx(phi[max(selected, key=lambda i: phi[i])])


def test_kinds_of_tokens():
    tokens = ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "(", "##.", "12", "##7", "word", "##ing", "a1", "é"]
    expected = ["[CLS]", "[SEP]", "padding", "[UNK]", "punctuation", "punctuation", "number", "number", "word",
                "word piece", "word", "word"]  # fmt: skip
    assert [kind_of(token) for token in tokens] == expected


def test_a_run_without_an_inhibitor_and_a_missing_layer(found):
    _, run, triggers, _ = found
    with pytest.raises(UserError, match="selects no pairs"):
        find_triggers(run, TASK, FineTuneSettings(Method("plain")))
    with pytest.raises(UserError, match="no layer 7"):
        triggers.of(7)


class Reader(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.strong, self.words, self.label = [], [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open.append((tag, dict(attrs)))
        self.label = dict(attrs).get("aria-label", self.label)

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.words += data
        if self.open and self.open[-1][0] == "strong":
            self.strong.append((data, self.open[-1][1]["title"]))


def test_marked_text_is_whole_safe_and_says_what_is_marked():
    text = marked_html(["[CLS]", "if", "<b", "##&c", ")"], [1.0, 0, 12.34, 3, 2], [2], caption='Row "3"')
    read = Reader(text)
    assert not read.open and read.strong == [("<b", "inhibited, phi 12.3")]
    assert read.words == 'Row "3"[CLS] if <b##&c )' and "<b (phi 12.3)" in read.label
    assert "rgba(0,114,178,0.40)" in text and "rgba(0,114,178,0.00)" in text  # the largest phi, and none
    assert "color:#" not in text.replace("solid", "")  # the page's ink, so that it reads on dark pages, too


def test_marked_text_refuses_what_does_not_fit():
    for arguments, match in [((["a"], [1, 2], []), "1 tokens"), ((["a"], [1], [1]), "positions"),
                             ((["a"], [float("nan")], []), "NaN"), ((["a"], [-1], []), "below 0")]:  # fmt: skip
        with pytest.raises(ValueError, match=match):
            marked_html(*arguments)
    assert "0 tokens; inhibited: none" in marked_html([], [], [])
