"""The mini GLUE, cut from a small made-up corpus: split, balance, repeats, determinism; the pieces it is made of."""

import itertools
import json
from collections import Counter, defaultdict

import numpy as np
import pytest
from small_corpus import small_corpus

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.mini_glue import MINI_GLUE, describe, load, mini_glue, mini_task
from l2e_min.lab.finetuning.mini_glue.accept import disturb
from l2e_min.lab.finetuning.mini_glue.assemble import deranged
from l2e_min.lab.finetuning.mini_glue.pieces import (
    JACCARD,
    comments,
    described,
    functions,
    near_copies,
    sentences_of,
    summary_of,
    words,
)
from l2e_min.lab.finetuning.split import PARTS, part_of
from l2e_min.lab.text.document import Corpus, Document

PAIRS = ("match", "halves", "paraphrase")


SLOW_FIXTURES = {"build", "tasks"}  # five tasks cut, some of them twice


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "BUILD", folder)
        yield folder


@pytest.fixture(scope="module")
def tasks(build):
    return {task.name: task for task in mini_glue(corpus=small_corpus())}


@pytest.mark.parametrize("name", MINI_GLUE)
def test_no_file_is_in_two_parts(tasks, name):
    for part in PARTS:
        rows = getattr(tasks[name], part)
        assert len(rows) >= 2
        assert {part_of(source) for source in rows.sources} == {part}


@pytest.mark.parametrize("name", MINI_GLUE)
def test_classes_are_equally_large(tasks, name):
    for part in PARTS:
        counts = Counter(getattr(tasks[name], part).labels.tolist())
        assert len(counts) == (tasks[name].n_classes if tasks[name].classes else 4)
        assert len(set(counts.values())) == 1


@pytest.mark.parametrize("name", [*PAIRS, "sts"])
@pytest.mark.parametrize("side", ["first", "second"])
def test_every_text_stands_equally_often_on_every_label(tasks, name, side):
    for part in PARTS:
        rows = getattr(tasks[name], part)
        by_text = defaultdict(list)
        for text, label in zip(getattr(rows, side), rows.labels.tolist(), strict=True):
            by_text[text].append(label)
        labels = set(rows.labels.tolist())
        for text, found in by_text.items():
            assert len({found.count(label) for label in labels}) == 1, (text, found)


@pytest.mark.parametrize("name", ["accept", "topic"])
def test_single_sentences_are_used_once(tasks, name):
    texts = [text for part in PARTS for text in getattr(tasks[name], part).first]
    assert len(set(texts)) == len(texts)


def jaccard(a, b):
    a, b = set(words(a)), set(words(b))
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("name", MINI_GLUE)
def test_no_text_of_test_is_nearly_one_of_train(tasks, name):
    if name == "halves":  # a half is no unit of its own: "of the axis" ends many sentences
        pytest.skip("whole sentences are kept apart, their halves need not be")
    train, test = (set(getattr(tasks[name], part).first) for part in ("train", "test"))
    assert max(jaccard(a, b) for a in test for b in itertools.islice(sorted(train), 300)) <= JACCARD


@pytest.mark.parametrize("name", PAIRS)
def test_wrong_partners_are_wrong(tasks, name):
    for part in PARTS:
        rows = getattr(tasks[name], part)
        pairs = list(zip(rows.first, rows.second, strict=True))
        right = {pair for pair, label in zip(pairs, rows.labels, strict=True) if label == 1}
        assert not right & {pair for pair, label in zip(pairs, rows.labels, strict=True) if label == 0}


def test_wrong_halves_are_as_long_as_the_right_ones(tasks):
    rows = tasks["halves"].train
    size = {label: {} for label in (0, 1)}
    for first, second, label in zip(rows.first, rows.second, rows.labels.tolist(), strict=True):
        size[label][first] = len(second.split())
    assert max(abs(size[0][first] - size[1][first]) for first in size[1]) <= 1


def test_the_same_corpus_gives_the_same_tasks(tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(load, "BUILD", tmp_path)  # an empty cache: all is built again
    for again in mini_glue(corpus=small_corpus()):
        for part in PARTS:
            new, old = getattr(again, part), getattr(tasks[again.name], part)
            assert (new.first, new.second, new.sources) == (old.first, old.second, old.sources)
            assert new.labels.tolist() == old.labels.tolist() and new.labels.dtype == old.labels.dtype


def test_the_cache_is_read_and_a_damaged_one_is_built_again(tasks, build, monkeypatch):
    path = next(build.glob("mini_glue/accept-*.json"))
    with monkeypatch.context() as patch:
        patch.setitem(load._BUILDERS, "accept", None)  # cannot be built
        assert mini_task("accept", small_corpus()).test.first == tasks["accept"].test.first
    whole = path.read_text()
    for damaged in (whole[: len(whole) // 2], json.dumps({"name": "accept"})):
        path.write_text(damaged)
        assert mini_task("accept", small_corpus()).test.first == tasks["accept"].test.first
        assert path.read_text() == whole


def test_names_choose_tasks_and_an_unknown_one_is_refused(tasks):
    assert [task.name for task in mini_glue(["sts", "accept"], small_corpus())] == ["sts", "accept"]
    with pytest.raises(UserError, match="no task 'cola' in the mini GLUE; expected one of accept"):
        mini_glue(["accept", "cola"])


def test_a_corpus_without_sentences_is_refused(build):
    corpus = Corpus("bare", [Document("x = 1\n" * 20, "stdlib/a.py", "python")], [])
    with pytest.raises(UserError, match="too little text"):
        mini_task("accept", corpus)


def test_the_table_says_what_is_there(tasks):
    table = describe(list(tasks.values()))
    assert len(table) == 3 * len(MINI_GLUE)
    for row in table:
        rows = getattr(tasks[row["task"]], row["split"])
        assert row["rows"] == len(rows) and row["files"] == len(set(rows.sources))
        assert row["largest class"] == pytest.approx(1 / row["classes"], abs=1e-3)
        assert row["example"].startswith(rows.first[0])


@pytest.mark.slow
def test_topic_masks_the_packages_names():
    corpus = small_corpus()
    named = [Document(d.text.replace(" is ", " NumPy torch "), d.source, d.family) for d in corpus.train]
    task = mini_task("topic", Corpus("named", named, corpus.validation))
    texts = " ".join((*task.train.first, *task.test.first)).lower()
    assert "name name" in texts
    assert not {"numpy", "torch", "sklearn", "scipy"} & set(words(texts))


@pytest.mark.parametrize("seed", range(4))
def test_near_copies_equal_a_comparison_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    vocabulary = [a + b for a in "bdfgklmnpr" for b in "aeiou"]
    base = [list(rng.choice(vocabulary, size=rng.integers(4, 9), replace=False)) for _ in range(20)]
    copies = [
        [*text[int(rng.integers(0, 3)) :], "only" + vocabulary[i]] for i, text in enumerate(base)
    ]  # rarest: its own
    texts = [" ".join(text) for text in (*base, *copies)] + ["", "12 34"]
    kept, expected = [], []
    for text in texts:
        again = not words(text) or any(jaccard(text, other) > JACCARD for other in kept)
        expected.append(again)
        kept += [] if again else [text]
    assert near_copies(texts) == expected
    assert any(expected) and not all(expected)


@pytest.mark.parametrize("seed", range(4))
def test_partners_are_a_permutation_inside_groups_that_fits(seed):
    rng = np.random.default_rng(seed)
    group, colour = rng.integers(0, 3, 60), rng.integers(0, 4, 60)
    wrong = deranged(group.tolist(), lambda i, j: colour[i] != colour[j], rng)
    assert sorted(wrong) == sorted(wrong.values()) and len(wrong) > 50
    assert all(group[i] == group[j] and colour[i] != colour[j] for i, j in wrong.items())


def test_who_finds_no_partner_is_left_out():
    colour = np.array([0] * 6 + [1] * 2)
    wrong = deranged([0] * 8, lambda i, j: colour[i] != colour[j], np.random.default_rng(0))
    assert len(wrong) == 4 and {6, 7} <= set(wrong)  # two of the six stay with the two
    assert deranged(list("ab"), lambda i, j: j >= 0, np.random.default_rng(0)) == {}


def test_disturbing_keeps_ends_and_changes_the_inside():
    sentence = "Return the index of the largest value in an array of numbers."
    found = {disturb(sentence, np.random.default_rng(seed)) for seed in range(50)}
    assert len(found) > 20 and sentence not in found
    for text in found:
        assert text.startswith("Return ") and text.endswith(" numbers.")
        assert set(text.split()) <= {*sentence.split(), "the", "are"}  # nothing new but another form
    assert disturb("Yes.", np.random.default_rng(0)) is None


def test_sentences_are_plain_prose():
    block = (
        "Return the mean of the values given.  The array x[0] is not changed by this.\nToo short. It is a value that is"
        "\nreturned in the end."
    )
    assert sentences_of(block) == ["Return the mean of the values given.", "It is a value that is returned in the end."]
    assert sentences_of(">>> print(1)\nThis is the output that is to be seen here.") == []
    assert sentences_of("") == []


def test_comments_functions_summaries_and_parameters():
    assert (
        comments("x = 1\n# One line,\n# and the next.\ny = 2\n// another one")
        == "One line,\nand the next.\n\nanother one"
    )
    assert list(functions("def f(:")) == []
    code = 'def take(self, rows: int = 3) -> str:\n    """Take so many of the rows. And go."""'
    ((signature, docstring),) = functions(code)
    assert "rows: int=3" in signature and signature.endswith(") -> str")
    assert summary_of(docstring) == "Take so many of the rows."
    assert summary_of("Short.") == ""
    numpy_style = "Parameters\n----------\naxis : int\n    The number of the axis to sum over. Default 0.\n"
    google_style = "Args:\n    axis (`int`): The number of the axis to sum over.\n"
    assert described(numpy_style) == described(google_style) == [("axis", "The number of the it to sum over.")]
