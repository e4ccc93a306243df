"""Tasks from folders: files as GLUE publishes them, the reader's own, and what is said where they are broken."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.tsv import folder_task
from l2e_min.lab.finetuning.tsv_file import BROKEN

WORDS = np.array("the a cat dog market \" ' bank's rose , fell 1.5 % \x85 \u2028 again ( 2001 ) naïve 日本".split(" "))
"""Quotes that are never closed, and characters that end lines for Python, stand in published texts."""


def text(rng) -> str:
    return " ".join(rng.choice(WORDS, 9)) + " "


def binary(number: int) -> str:
    return str(number * number % 3 % 2)


def entailment(number: int) -> str:
    return ("entailment", "not_entailment")[number % 2]


def three(number: int) -> str:
    return ("neutral", "contradiction", "entailment")[number % 3]


MNLI = ("index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
        "sentence1 sentence2").split()  # fmt: skip
STS = "index genre filename year old_index source1 source2 sentence1 sentence2".split()
# name -> header of train and dev, of test (None: no file), text columns, label column, label of a row, metric
GLUE = {
    "SST-2": (["sentence", "label"], ["index", "sentence"], [0], 1, binary, "accuracy"),
    "CoLA": (None, ["index", "sentence"], [3], 1, binary, "matthews"),
    "MRPC": (["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
             ["index", "#1 ID", "#2 ID", "#1 String", "#2 String"], [3, 4], 0, binary, "f1"),
    "QQP": (["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
            ["id", "question1", "question2"], [3, 4], 5, binary, "f1"),
    "QNLI": (["index", "question", "sentence", "label"],
             ["index", "question", "sentence"], [1, 2], 3, entailment, "accuracy"),
    "RTE": (["index", "sentence1", "sentence2", "label"],
            ["index", "sentence1", "sentence2"], [1, 2], 3, entailment, "accuracy"),
    "STS-B": ([*STS, "score"], STS, [7, 8], 9, lambda i: f"{i % 11 / 2:.3f}", "spearman"),
    "MNLI": ([*MNLI, "label1", "gold_label"], MNLI, [8, 9], 11, three, "accuracy"),
}  # fmt: skip


def write(path: Path, header: list[str] | None, rows: list[list[str]], end: str = "\n", mark: str = ""):
    lines = ["\t".join(row) for row in ([header] if header else []) + rows]
    path.write_bytes((mark + end.join(lines) + end).encode())


def rows_of(kind: str, count: int, seed: int, columns: list[str] | None = None) -> list[list[str]]:
    """Rows in the published columns of a task of GLUE."""
    header, _, texts, label, label_of, _ = GLUE[kind]
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        row = [f"x{i}" for i in range(len(header or "1234"))]
        for column in texts:
            row[column] = text(rng)
        row[label] = label_of(number)
        if kind == "CoLA":
            row[2] = ["*", ""][int(row[1])]
        rows.append(row)
    return rows


def glue_folder(folder: Path, kind: str, train: int = 30, **style) -> Path:
    """A folder as GLUE's download script leaves it, with few rows."""
    folder = folder / kind
    folder.mkdir(parents=True)
    header, hidden, *_ = GLUE[kind]
    write(folder / "train.tsv", header, rows_of(kind, train, 1), **style)
    for side, seed in (("_matched", 2), ("_mismatched", 3)) if kind == "MNLI" else (("", 2),):
        among = [
            *MNLI,
            "label1",
            "label2",
            "label3",
            "label4",
            "label5",
            "gold_label",
        ]  # dev has all annotators' labels
        rows = rows_of(kind, 8, seed)
        if kind == "MNLI":
            rows = [[*row[:11], "a", "b", "c", "d", row[11]] for row in rows]
        write(folder / f"dev{side}.tsv", among if kind == "MNLI" else header, rows, **style)
        write(folder / f"test{side}.tsv", hidden, [[text(np.random.default_rng(9))] * len(hidden)] * 4, **style)
    return folder


def read_again(path: Path, kind: str) -> list[tuple[str, ...]]:
    """Text columns and label of a file by the csv module, as public readers of GLUE take it (QUOTE_NONE)."""
    header, _, texts, label, *_ = GLUE[kind]
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(*(row[i] for i in texts), row[-1 if kind == "MNLI" else label]) for row in rows[header is not None :]]


def told(rows, classes) -> list[tuple[str, ...]]:
    labels = [classes[label] for label in rows.labels] if classes else [f"{label:.3f}" for label in rows.labels]
    columns = [rows.first, *([rows.second] if rows.second else []), labels]
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize("style", [{}, {"end": "\r\n", "mark": "\ufeff"}], ids=["unix", "windows"])
@pytest.mark.parametrize("kind", list(GLUE))
def test_glue_as_it_is_published(tmp_path, kind, style):
    folder = glue_folder(tmp_path, kind, **style)
    task = folder_task(folder)
    dev = "dev_matched.tsv" if kind == "MNLI" else "dev.tsv"
    assert told(task.test, task.classes) == read_again(folder / dev, kind), "dev is reported: test's labels are hidden"
    taught = told(task.train, task.classes) + told(task.dev, task.classes)
    assert sorted(taught) == sorted(read_again(folder / "train.tsv", kind)) and len(task.dev) == 3
    more = {"mismatched": read_again(folder / "dev_mismatched.tsv", kind)} if kind == "MNLI" else {}
    assert {side: told(rows, task.classes) for side, rows in task.more} == more
    assert (task.like, task.title, task.name, task.metric) == (kind, kind, kind.lower(), GLUE[kind][-1])
    assert task.kind == ("regression" if kind == "STS-B" else "classification")
    assert task.pair == (kind not in ("SST-2", "CoLA")) and task.max_tokens == 128
    expected = () if kind == "STS-B" else tuple(sorted({GLUE[kind][4](i) for i in range(6)}))
    assert task.classes == expected and task.test.labels.dtype == (np.int64 if expected else np.float64)
    assert task.score(task.test.labels, task.test.labels) == pytest.approx(100)
    assert f"{kind}/{dev} is reported, the rows that choose are cut out of train.tsv" in task.about


def test_the_few_broken_lines_of_qqp_are_left_out_and_told(tmp_path):
    folder = glue_folder(tmp_path, "QQP", train=3000)
    lines = (folder / "train.tsv").read_text().split("\n")
    lines[1500:1500] = ["7\t8\t9\tWhat is", '"\tWas he real?\t0']  # a line break inside a question, as in line 97,931
    (folder / "train.tsv").write_text("\n".join(lines))
    task = folder_task(folder)
    assert len(task.train) + len(task.dev) == 3000 and "broken or undecided: 2." in task.about
    assert BROKEN * 3000 == 3


def test_rows_that_annotators_did_not_agree_on_are_left_out(tmp_path):
    folder = glue_folder(tmp_path, "MNLI")
    rows = rows_of("MNLI", 4, 5)
    rows[2][11] = "-"
    write(folder / "dev_matched.tsv", GLUE["MNLI"][0], rows)
    task = folder_task(folder)
    assert len(task.test) == 3 and "-" not in task.classes and "broken or undecided: 1." in task.about


def own(folder: Path, header: str, train: list[str], dev: list[str], test: list[str] | None = None) -> Path:
    """A folder of the reader's own; rows with "|" where a tab belongs."""
    for name, rows in (("train", train), ("dev", dev), ("test", test)):
        if rows is not None:
            write(folder / f"{name}.tsv", header.split("|"), [row.split("|") for row in rows])
    return folder


def test_with_labels_in_test_dev_chooses_and_test_is_reported(tmp_path):
    folder = own(tmp_path, "text|label", ["a|no", "b|yes", "c|no"], ["d|yes"], ["e|no", "f|yes"])
    task = folder_task(folder, name="Mine")
    assert (task.train.first, task.dev.first, task.test.first) == (("a", "b", "c"), ("d",), ("e", "f"))
    assert task.test.labels.tolist() == [0, 1] and task.classes == ("no", "yes")
    assert (task.name, task.title, task.like, task.metric) == ("mine", "Mine", "", "accuracy")
    assert re.search("test.tsv is reported, .*dev.tsv chooses", task.about)


@pytest.mark.parametrize(
    ("header", "first", "second"),
    [
        ("label|premise|hypothesis", "A", "B"),
        ("label|text1|text2", "A", "B"),
        ("label|sentence2|sentence1", "B", "A"),
        ("label|text|id", "A", None),
        ("label|sentence|id", "A", None),
        ("score|question|sentence", "A", "B"),
    ],
)
def test_columns_are_found_by_name(tmp_path, header, first, second):
    task = folder_task(own(tmp_path, header, ["u|A|B", "v|A|B", "u|A|B", "v|A|B"], ["u|A|B"]))
    assert task.test.first == (first,) and task.test.second == (second and (second,)) and task.classes == ("u", "v")


@pytest.mark.parametrize(
    ("column", "labels", "metric", "classes", "chosen"),
    [
        ("label", "10 9 2 10 9 2", None, ("2", "9", "10"), "accuracy"),
        ("label", "1.0 0 1 0.0 1 0", None, ("0", "1"), "accuracy"),
        ("label", "1 2 other 1 2 other", None, ("1", "2", "other"), "accuracy"),
        ("label", "b a b a b a", "matthews", ("a", "b"), "matthews"),
        ("label", "-1 1 -1 1 1 1", "f1", ("-1", "1"), "f1"),
        ("score", "5 1 5 1 5 1", None, ("1", "5"), "accuracy"),
        ("score", "5 1 5 1 5 1", "spearman", (), "spearman"),
        ("score", " ".join(map(str, range(12))), None, (), "spearman"),
        ("label", "0.5 1 2 1 1 1", None, (), "spearman"),
        ("Quality", "a b c a b c", None, ("a", "b", "c"), "accuracy"),
    ],
)
def test_classes_or_values(tmp_path, column, labels, metric, classes, chosen):
    rows = [f"text {i}|more {i}|{label}" for i, label in enumerate(labels.split())]
    task = folder_task(own(tmp_path, f"#1 String|#2 String|{column}", rows, rows[:3], rows), metric)
    assert (task.classes, task.metric) == (classes, chosen)
    assert task.kind == ("classification" if classes else "regression")
    names = [classes[label] for label in task.test.labels] if classes else task.test.labels.tolist()
    for name, label in zip(names, labels.split(), strict=True):
        assert name == label or float(name) == float(label)


def test_a_class_that_only_dev_or_test_has_is_refused_in_its_line(tmp_path):
    rows = ["a|x", "b|y", "c|x"]
    for name in ("dev", "test"):
        folder = tmp_path / name
        folder.mkdir()
        own(folder, "text|label", rows, rows, rows)
        write(folder / f"{name}.tsv", ["text", "label"], [["a", "x"], ["b", "z"]])
        with pytest.raises(
            UserError, match=rf"^{name}/{name}.tsv, line 3: the label 'z' is none of train.tsv's: x, y$"
        ):
            folder_task(folder)


GOOD = ["a|x", "b|y", "c|x", "d|y"]


@pytest.mark.parametrize(
    ("train", "metric", "says"),
    [
        ("", None, "train.tsv is empty; expected .*sentence1 and sentence2.*label"),
        ("\n\n", None, "train.tsv is empty"),
        ("text\tlabel\n", None, "train.tsv has a header and no rows"),
        (
            "text\tclass\na\tx\n",
            None,
            "has the columns 'text', 'class'; expected .*, text, and one of gold_label.*score",
        ),
        ("body\tlabel\na\tx\n", None, "has the columns 'body', 'label'; expected"),
        ("text,label\na,x\n", None, "has the columns 'text,label'; expected"),
        ("text\tlabel\na\tx\n\nb\nc\tx\n", None, r"train.tsv, line 4 has 1 fields, not 2 \(1 such lines\)"),
        ("text\tlabel\na\tx\nb\tc\ty\n", None, "train.tsv, line 3 has 3 fields, not 2"),
        ("text\tlabel\na\tx\nb\t \n", None, "train.tsv, line 3: no label"),
        ("text\tlabel\na\tx\nb\tx\n", None, "every row of .*train.tsv has the label 'x'; at least two classes"),
        ("text\tlabel\na\t0\nb\t0\n", None, "every row of .*has the label '0'"),
        ("text\tscore\na\t.5\nb\t.5\n", None, "every row of .*has the score .5; nothing to learn"),
        ("text\tscore\na\t.5\nb\tnan\n", None, "train.tsv, line 3: 'nan' is no number"),
        ("text\tscore\na\t.5\nb\tn/a\n", None, "train.tsv, line 3: 'n/a' is no number"),
        ("text\tlabel\na\t1\nb\t0\nc\tinf\n", None, "train.tsv, line 4: 'inf' is no number"),
        ("text\tlabel\na\t1\nb\t0\nc\tnan\n", "accuracy", "train.tsv, line 4: 'nan' is no number"),
        ("text\tlabel\na\tx\nb\ty\n", "spearman", "train.tsv, line 2: 'x' is no number"),
        ("text\tlabel\na\t.5\nb\t1\n", "accuracy", "numbers with fractions; metric accuracy needs classes"),
        ("text\tlabel\na\tx\nb\ty\nc\tz\na\tx\nb\ty\nc\tz\n", "f1", "f1 is for two classes; .*train.tsv has 3"),
        ("text\tlabel\na\tx\nb\ty\nc\tz\n", None, "3 labels in 3 rows; is label the right column"),
        (b"text\tlabel\na\tx\ncaf\xe9\ty\n", None, "train.tsv, line 3: not UTF-8"),
        ("text\tlabel\na\tx\n".encode("utf-16"), None, "train.tsv, line 1: not UTF-8"),
        ("text\tlabel\na\tx\nb\ty\n", "bleu", "no such metric: 'bleu'; expected one of accuracy, f1"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, train, metric, says):
    own(tmp_path, "text|label", GOOD, GOOD)
    assert len(folder_task(tmp_path).test) == 4
    (tmp_path / "train.tsv").write_bytes(train if isinstance(train, bytes) else train.encode())
    with pytest.raises(UserError, match=says) as raised:
        folder_task(tmp_path, metric)
    assert "\n" not in str(raised.value)


def test_what_is_wrong_with_dev_is_said_of_dev(tmp_path):
    own(tmp_path, "text|label", GOOD, GOOD)
    for rows, says in (
        ("", r"/dev.tsv is empty"),
        ("text\tlabel\n", r"/dev.tsv has a header and no rows"),
        ("text\na\n", r"/dev.tsv has the columns 'text'; expected train.tsv's: text, label"),
        ("sentence\tlabel\na\tx\n", r"/dev.tsv has the columns 'sentence', 'label'; expected train.tsv's: text, label"),
        ("text\tlabel\na\n", r"/dev.tsv, line 2 has 1 fields"),
    ):
        (tmp_path / "dev.tsv").write_text(rows)
        with pytest.raises(UserError, match=says):
            folder_task(tmp_path)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match=r"no folder '.*none'; expected one with train.tsv and dev.tsv"):
        folder_task(tmp_path / "none")
    with pytest.raises(UserError, match=r"no train.tsv .* which has no .tsv file$"):
        folder_task(tmp_path)
    glue_folder(tmp_path, "RTE")
    with pytest.raises(UserError, match=r"no train.tsv .*did you mean a folder in it: RTE\?"):
        folder_task(tmp_path)
    (tmp_path / "RTE/dev.tsv").unlink()
    with pytest.raises(UserError, match=r"no dev.tsv .*RTE', which has test.tsv, train.tsv$"):
        folder_task(tmp_path / "RTE")
