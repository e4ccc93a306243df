"""The questions: true, from held-out files, balanced, the same again; what a text lacks is named."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from l2e_min.lab.choice import cache as shelf
from l2e_min.lab.choice.brackets import PAIRS, closing_bracket
from l2e_min.lab.choice.indentation import indentation
from l2e_min.lab.choice.names import far_copied_name
from l2e_min.lab.choice.passages import other_file, same_file
from l2e_min.lab.choice.phrases import right_language
from l2e_min.lab.choice.pool import choice_after, context_before, dealt, pool
from l2e_min.lab.choice.sentences import next_sentence
from l2e_min.lab.choice.tasks import TASKS, choice_tasks
from l2e_min.lab.errors import UserError
from l2e_min.lab.text.corpus import load_corpus
from l2e_min.lab.text.document import Corpus, Document
from l2e_min.lab.text.languages import LANGUAGES
from l2e_min.lab.text.overlap import overlapping

SLOW_FIXTURES = {"corpus", "tasks", "files"}  # of all installed text


@pytest.fixture(scope="module")
def corpus():
    return load_corpus("installed")


@pytest.fixture(scope="module")
def tasks(corpus):
    return {task.name: task for task in choice_tasks(corpus=corpus, shots=5)}


@pytest.fixture(scope="module")
def files(corpus):
    """Text of every held-out file, its pieces one behind the other."""
    whole = {}
    for document in (*corpus.validation, *corpus.reserved):
        source = document.source.split("#")[0]
        whole[source] = whole.get(source, "") + "\0" + document.text
    return whole


# --- the installed text -----------------------------------------------------------------------------------------------


def test_all_seven_tasks_come_with_four_different_choices_and_balanced_answers(tasks):
    assert list(tasks) == list(TASKS)
    for task in tasks.values():
        assert len(task.items) == 320 and task.shots == 5
        assert Counter(item.answer for item in task.items) == dict.fromkeys(range(4), 80)
        for item in task.items:
            assert len(set(item.choices)) == 4 and all(choice.strip() for choice in item.choices)
            assert len(item.examples) == 5 == len(set(item.examples))
        assert len({(item.context, item.choices) for item in task.items}) > 310


def test_no_window_is_in_the_training_text(tasks, corpus):
    texts = [part for task in tasks.values() for item in task.items
             for part in (item.context + item.choices[item.answer], *item.choices, *item.examples)]  # fmt: skip
    assert not overlapping(texts, (d.text for d in corpus.train)).any()
    # The same once more by plain search, for some windows: the hashes of `overlapping` made the questions, too.
    rng, training = np.random.default_rng(0), "\0".join(d.text for d in corpus.train)
    long = [text for text in texts if len(text) >= 60]
    for i in rng.choice(len(long), 60, replace=False):
        start = rng.integers(len(long[i]) - 40)
        assert long[i][start : start + 40] not in training
    assert training[5_000_000:5_000_040] in training


def test_the_right_choice_is_what_the_file_says(tasks, files):
    for name, task in tasks.items():
        for item in task.items:
            text = item.context + item.choices[item.answer]
            whole = files[item.source]
            if name == "next_sentence":  # white space was made one
                assert text.strip() in " ".join(whole.replace("\0", " ").split())
            else:
                assert text in whole, (name, item.source)


def test_wrong_choices_come_from_where_they_should(tasks, files):
    elsewhere = 0
    for item in tasks["other_file"].items:
        for choice in set(item.choices) - {item.choices[item.answer]}:
            elsewhere += choice not in files[item.source]
    assert elsewhere > 0.98 * 3 * 320  # short lines may stand in both
    for item in tasks["same_file"].items:
        assert all(choice in files[item.source] for choice in item.choices)
    for item in tasks["right_language"].items:
        owners = [{s.split("/")[1] for s in files if s.startswith("phrases/") and choice in files[s]}
                  for choice in item.choices]  # fmt: skip
        assert item.family in owners[item.answer] and item.family in LANGUAGES
        assert all(owner - {item.family} for i, owner in enumerate(owners) if i != item.answer)
    assert Counter(item.family for item in tasks["right_language"].items) == dict.fromkeys(LANGUAGES, 32)


def test_the_bracket_closes_what_is_open(tasks):
    right = Counter(item.choices[item.answer] for item in tasks["closing_bracket"].items)
    assert right == dict.fromkeys(PAIRS, 80)
    for item in tasks["closing_bracket"].items:
        closing = item.choices[item.answer]
        stack = []
        for character in item.context if closing != ">" else "":  # from the left, as the maker does from the right
            if character in "([{":
                stack.append(character)
            elif character in ")]}" and stack and stack[-1] == PAIRS[character]:
                stack.pop()
        assert closing == ">" or stack[-1] == PAIRS[closing], item
        assert closing != ">" or "<" in item.context[-90:], item


def test_each_indentation_is_right_equally_often_and_copying_the_line_above_is_not_enough(tasks):
    items = tasks["indentation"].items
    width = Counter(len(re.match(r"\n( *)", item.choices[item.answer])[1]) for item in items)
    assert width == {0: 80, 4: 80, 8: 80, 12: 80}
    copied = [re.search(r"\n( *)\S[^\n]*$", item.context)[1] == re.match(r"\n( *)", item.choices[item.answer])[1]
              for item in items]  # fmt: skip
    assert 0.4 < np.mean(copied) < 0.85


def test_a_copied_name_stands_far_back_and_the_others_nowhere(tasks):
    for item in tasks["far_copied_name"].items:
        name = item.choices[item.answer].strip()
        assert re.search(rf"\b{name}\b", item.context[:-60]) and not re.search(rf"\b{name}\b", item.context[-60:])
        assert all(choice.strip() not in item.context for i, choice in enumerate(item.choices) if i != item.answer)


def test_contexts_end_before_white_space(tasks):
    for name, task in tasks.items():
        for item in task.items:
            assert not item.context[-1].isspace()
            assert name == "closing_bracket" or all(choice[0].isspace() for choice in item.choices)


def test_examples_come_from_other_files(tasks, files):
    shared = 0
    for name in ("same_file", "far_copied_name", "indentation"):
        for item in tasks[name].items[:60]:
            shared += sum(example in files[item.source] for example in item.examples)
    assert shared < 0.02 * 3 * 60 * 5  # a few short ones stand in many files


def test_the_same_text_and_seed_give_the_same_questions(tasks, corpus):
    name = "closing_bracket"
    again = choice_tasks([name], corpus, shots=5, cache=False)[0]
    assert again == tasks[name]
    without = choice_tasks([name], corpus)[0]
    assert without.items == tuple(replace(item, examples=()) for item in again.items)


# --- planted text -----------------------------------------------------------------------------------------------------


def prose(rng, words=400):
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    drawn = ["".join(rng.choice(letters, rng.integers(3, 9))) for _ in range(words)]
    return "\n".join(" ".join(drawn[i : i + 8]) for i in range(0, words, 8)) + "\n"


@pytest.fixture
def planted():
    """Five held-out files, of which one repeats the training text."""
    rng = np.random.default_rng(0)
    train = [Document(prose(rng), "train.py", "python")]
    held_out = [Document(prose(rng), f"held{i}.py", "python") for i in range(4)]
    return Corpus("planted", train, [*held_out, Document(train[0].text, "copy.py", "python")])


def test_a_file_that_repeats_the_training_text_gives_no_question(planted):
    assert {d.source for d in pool(planted)} == {f"held{i}.py" for i in range(4)}
    for task in choice_tasks(["other_file", "same_file"], planted, items=8, cache=False):
        assert {item.source for item in task.items} <= {f"held{i}.py" for i in range(4)}


def test_questions_that_normalizing_brings_into_the_training_text_are_left_out():
    """The held-out text breaks its lines elsewhere, so only its sentences, with one space, repeat the training text."""
    rng = np.random.default_rng(1)

    def sentence():
        return prose(rng, 8).strip().capitalize() + "."

    known = [sentence() for _ in range(8)]
    paragraphs = [[sentence() for _ in range(4)] for _ in range(10)]
    held = ["\n\n".join("\n  ".join(" ".join(p).split()) for p in [*paragraphs[i : i + 5], known[i : i + 4]])
            for i in (0, 5)]  # fmt: skip
    train = [Document(" ".join(known) * 2, "train.md", "md")]
    held_out = [Document(text, f"held{i}.md", "md") for i, text in enumerate(held)]
    corpus = Corpus("planted", train, held_out)
    task = choice_tasks(["next_sentence"], corpus, items=8, cache=False)[0]
    drafts = next_sentence(pool(corpus), np.random.default_rng(0))
    assert any(d.right.strip()[:30] in train[0].text for d in drafts)  # the maker alone would ask about them
    for item in task.items:
        assert not overlapping([item.context + item.choices[item.answer]], [train[0].text]).any()


def test_makers_take_what_is_asked_for_and_nothing_else():
    rng = np.random.default_rng(0)

    def made(maker, text, family="python"):
        return maker([Document(text, "f", family)], rng, short=True)

    filler = "a = 1\n" * 8
    code = f"{filler}if call(first, second) and items[first_key] :\n    x = 2\n"
    assert [d.right for d in made(closing_bracket, code)] == [")", "]"]
    assert made(closing_bracket, f"{filler}x = (aaaaa]\n") == []  # does not match
    assert made(closing_bracket, f"{filler}x = (a) \n") == []  # too near
    assert made(closing_bracket, "#include <vector/things> \n" * 2, "cpp")[0].right == ">"
    nested = f"{filler}class A:\n    def f(self):\n        return value\n"
    assert {d.right for d in made(indentation, nested)} <= {"\na", "\n    def", "\n        return", "\nclass"}
    assert all(len(d.right) > 1 and len(set(d.wrong)) == 3 for d in made(indentation, nested))
    assert made(indentation, "x\n" * 40, "css") == made(right_language, "x\n" * 40) == []
    assert made(same_file, "one line\n") == made(other_file, "one line\n" * 40) == made(far_copied_name, "a b\n") == []


def test_cuts_are_before_white_space():
    text = "one two  three\nfour"
    assert context_before(text, 14, 8) == "  three" and context_before(text, 7, 99) == "one two"
    assert choice_after(text, 3, 6) == " two" and choice_after(text, 3, 11) == " two  three"
    assert choice_after(text, 14, 99) == ""  # the last word may be cut
    assert choice_after(text, 3, 2) == "" and context_before("onelongword", 11, 4) == ""


def test_every_beginning_of_a_deal_is_spread():
    from l2e_min.lab.choice.item import Draft

    drafts = [Draft(str(i), "r", ("a", "b", "c"), f"file{i % 7}", "xy"[i % 7 > 0], "pq"[i % 10 == 0])
              for i in range(200)]  # fmt: skip
    order = dealt(drafts, np.random.default_rng(0))
    assert sorted(d.context for d in order) == sorted(d.context for d in drafts)
    assert Counter(d.kind for d in order[:20]) == {"p": 10, "q": 10}
    assert 6 <= Counter(d.family for d in order[:20])["x"] <= 12  # of 200 drafts one in seven is of x


def test_another_seed_asks_other_questions(planted):
    first, again, other = (choice_tasks(["other_file"], planted, items=8, seed=s, cache=False)[0] for s in (0, 0, 1))
    assert first == again and first.items != other.items


# --- cache and bad input ----------------------------------------------------------------------------------------------


def test_the_cache_is_used_and_a_damaged_one_is_not(planted, tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "BUILD", tmp_path)
    made = choice_tasks(["other_file"], planted, items=8)
    (path,) = (tmp_path / "choice").iterdir()
    assert choice_tasks(["other_file"], planted, items=8) == made
    path.write_text(path.read_text().replace(made[0].items[0].source, "from the cache"))
    assert choice_tasks(["other_file"], planted, items=8)[0].items[0].source == "from the cache"
    path.write_text('{"name": "other_file"')
    assert choice_tasks(["other_file"], planted, items=8) == made
    choice_tasks(["other_file"], planted, items=12)
    changed = Corpus("planted", planted.train, planted.validation[1:], tuple(planted.validation[:1]))
    choice_tasks(["other_file"], changed, items=8)
    assert len(list((tmp_path / "choice").iterdir())) == 3


def test_bad_input_is_named(planted):
    for options, message in (
        ({"names": ["riddles"]}, "no such task: riddles; the tasks are other_file"),
        ({"names": []}, "none named"),
        ({"items": 3}, "items is 3"),
        ({"shots": -1}, "shots is -1"),
        ({"names": ["right_language"]}, "right_language: this text has 0 questions of 320"),
        ({"names": ["other_file"]}, r"other_file: this text has \d+ questions of 320"),
        ({"names": ["other_file"], "items": 4, "shots": 2000}, "examples of 2000 asked for"),
    ):
        with pytest.raises(UserError, match=message):
            choice_tasks(**{"corpus": planted, "cache": False, **options})
