"""A task from a folder of TSV files: GLUE's own as they are published, or the reader's in one of their formats."""

from pathlib import Path

import numpy as np

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.carve import carve
from l2e_min.lab.finetuning.glue import MAX_TOKENS
from l2e_min.lab.finetuning.task import METRICS, Rows, Task
from l2e_min.lab.finetuning.tsv_file import Header, Table, place, read_header, read_table

LIKE = {
    ("#1 String", "Quality"): ("MRPC", "f1"),
    ("question1", "is_duplicate"): ("QQP", "f1"),
    ("question", "label"): ("QNLI", "accuracy"),
    ("sentence1", "gold_label"): ("MNLI", "accuracy"),
    ("sentence1", "score"): ("STS-B", "spearman"),
    ("sentence1", "label"): ("RTE", "accuracy"),
    ("sentence", "label"): ("SST-2", "accuracy"),
}
"""GLUE's task and its metric, by the columns of sentence A and of the label; CoLA is known by having no header."""

FEW = 10
"""Under a column named score, whole numbers of more than so many values are a scale, not classes."""

CARVED = "the rows that choose are cut out of train.tsv"


def folder_task(path: str | Path, metric: str | None = None, name: str | None = None) -> Task:
    """The task in a folder with train.tsv and dev.tsv (MNLI: dev_matched.tsv, dev_mismatched.tsv), and maybe test.tsv.

    With labels in test.tsv it is what is reported, and dev.tsv chooses. Without, as in GLUE's, dev.tsv is reported and
    the rows that choose are carved out of train.tsv. Labels are words or numbers; classes stand in sorted order, and F1
    is of the second one. Numbers with fractions, or many under "score", are a regression. ``metric``: one of `METRICS`
    (default: the format's own); "spearman" makes it a regression, any other does not. ``name``: default the folder's.
    Raises UserError, one line, for what cannot be read; it names file and line.
    """
    if metric not in (None, *METRICS):
        raise UserError(f"no such metric: {metric!r}; expected one of {', '.join(METRICS)}")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"no folder {str(folder)!r}; expected one with train.tsv and dev.tsv")
    files = {stem: _files(folder, stem) for stem in ("dev", "test")}
    for stem, there in (("train", (folder / "train.tsv").is_file()), ("dev", files["dev"])):
        if not there:
            raise UserError(_missing(folder, stem))
    header = read_header(folder / "train.tsv")
    train = read_table(folder / "train.tsv", header)
    classes = _classes(train, header, metric)
    taught = _rows(train, classes)
    headers = {file: read_header(file) for sides in files.values() for file in sides.values()}
    if not all(headers[file].label for file in files["test"].values()):
        files["test"] = {}  # labels hidden, as GLUE's are
    tables = {stem: _tables(sides, headers, header) for stem, sides in files.items()}
    reported = tables["test"] or tables["dev"]
    rows = {side: _rows(table, classes) for side, table in reported.items()}
    main, *others = rows
    dev = next(iter(tables["dev"].values()))
    taught, chosen = (taught, _rows(dev, classes)) if tables["test"] else carve(taught)
    like, metric = _metric(train.place, header, classes, metric)
    title = name or folder.resolve().name
    left_out = train.left_out + sum(table.left_out for table in (*tables["dev"].values(), *tables["test"].values()))
    return Task(
        name=title.lower(),
        title=title,
        kind="classification" if classes else "regression",
        metric=metric,
        classes=classes,
        train=taught,
        dev=chosen,
        test=rows[main],
        like=like,
        about=_about(header, reported[main], f"{dev.place} chooses" if tables["test"] else CARVED, left_out),
        max_tokens=MAX_TOKENS,
        more=tuple((side, rows[side]) for side in others),
    )


def _files(folder: Path, stem: str) -> dict[str, Path]:
    """The files of a split by side: {"": dev.tsv}, or MNLI's {"matched": ..., "mismatched": ...}; {} for none."""
    sides = {"": folder / f"{stem}.tsv"}
    if not sides[""].is_file():
        sides = {side: folder / f"{stem}_{side}.tsv" for side in ("matched", "mismatched")}
    return {side: file for side, file in sides.items() if file.is_file()}


def _missing(folder: Path, stem: str) -> str:
    """What to say where train.tsv or dev.tsv is not there."""
    here = sorted(file.name for file in folder.glob("*.tsv")) or ["no .tsv file"]
    below = sorted(file.parent.name for file in folder.glob("*/train.tsv"))
    hint = f"; did you mean a folder in it: {', '.join(below[:9])}?" if below else ""
    why = {"train": "the rows that teach", "dev": "rows with labels to choose by or to report"}[stem]
    return f"no {stem}.tsv ({why}) in {str(folder)!r}, which has {', '.join(here[:9])}{hint}"


def _tables(files: dict[str, Path], headers: dict[Path, Header], train: Header) -> dict[str, Table]:
    """The rows of a split by side. Raises UserError for other columns than train's."""
    for file in files.values():
        if (headers[file].texts, headers[file].label) != (train.texts, train.label):
            has, needed = ", ".join(map(repr, headers[file].names)), ", ".join((*train.texts, train.label))
            raise UserError(f"{place(file)} has the columns {has}; expected train.tsv's: {needed}")
    return {side: read_table(file, headers[file]) for side, file in files.items()}


def _classes(train: Table, header: Header, metric: str | None) -> tuple[str, ...]:
    """The names of the classes in the order of their numbers; () for a regression."""
    numbers = [_number(label) for label in train.labels]
    known = {number for number in numbers if number is not None}
    all_numbers, fractions = None not in numbers, any(not number.is_integer() for number in known)
    scale = header.label == "score" and (len(known) > FEW or (known and not all_numbers))
    if metric == "spearman" or (metric is None and (scale or (all_numbers and fractions))):
        if len(known) < 2 and all_numbers:
            raise UserError(f"every row of {train.place} has the {header.label} {train.labels[0]}; nothing to learn")
        return ()
    if all_numbers and fractions:
        _rows(train, ())  # where one is NaN, that is the trouble
        raise UserError(f"the labels of {train.place} are numbers with fractions; metric {metric} needs classes")
    if all_numbers:
        names = tuple(str(int(number)) for number in sorted(known))
    else:
        names = tuple(sorted(set(train.labels)))
    if len(names) < 2:
        raise UserError(f"every row of {train.place} has the label {names[0]!r}; at least two classes are needed")
    if len(names) > max(2, len(train.labels) / 2):
        raise UserError(
            f"{train.place} has {len(names)} labels in {len(train.labels)} rows; is {header.label} the right column?"
        )
    return names


def _rows(table: Table, classes: tuple[str, ...]) -> Rows:
    """A file's rows with class numbers, or values where ``classes`` is (); UserError for a label that is neither."""
    numbers = {name: number for number, name in enumerate(classes)}
    labels = []
    for text, line in zip(table.labels, table.lines, strict=True):
        value = _number(text)
        if classes:
            whole = value is not None and value.is_integer() and str(int(value)) in numbers
            value = numbers.get(text, numbers[str(int(value))] if whole else None)
            if value is None:
                known = ", ".join(classes[:9])
                raise UserError(f"{table.place}, line {line}: the label {text!r} is none of train.tsv's: {known}")
        elif value is None or not np.isfinite(value):
            raise UserError(f"{table.place}, line {line}: {text!r} is no number to learn; expected one such as 3.8")
        labels.append(value)
    return Rows(table.first, table.second, np.array(labels, np.int64 if classes else np.float64), ("",) * len(labels))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _metric(where: str, header: Header, classes: tuple[str, ...], metric: str | None) -> tuple[str, str]:
    """(GLUE's task that a format is of, or ""; the metric: the one asked for, or the format's where it fits)."""
    like, usual = LIKE.get((header.texts[0], header.label), ("", "accuracy"))
    if header.is_cola:
        like, usual = "CoLA", "matthews"
    if not classes:
        usual = "spearman"
    elif usual == "spearman" or (usual == "f1" and len(classes) != 2):
        usual = "accuracy"
    if metric == "f1" and len(classes) != 2:
        raise UserError(f"metric f1 is for two classes; {where} has {len(classes)}: use accuracy or matthews")
    return like, metric or usual


def _about(header: Header, reported: Table, chosen: str, left_out: int) -> str:
    """Two sentences for the page."""
    told = f"A row is {' and '.join(header.texts)} with its {header.label}. {reported.place} is reported, {chosen}"
    return f"{told}; lines left out as broken or undecided: {left_out}." if left_out else f"{told}."
