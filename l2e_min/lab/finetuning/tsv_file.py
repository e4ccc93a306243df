"""One file of rows with labels, in the formats of GLUE's published files: tabs, no quoting, mostly a header."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from l2e_min.lab.errors import UserError

TEXTS = (
    ("#1 String", "#2 String"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("premise", "hypothesis"),
    ("sentence",),
    ("text",),
)
"""The columns of sentence A (and B) that are known: the first of these that a header has whole."""

LABELS = ("gold_label", "is_duplicate", "Quality", "label", "score")
"""The columns with labels that are known, first found first."""

COLA = ("source", "label", "judgement", "sentence")
"""CoLA's columns: its train.tsv and dev.tsv have no header."""

BROKEN = 1e-3
"""Share of lines with too few or too many fields that is left out: QQP's published train.tsv has some, cut by line
breaks inside a question. More than that is a file to mend."""


@dataclass(frozen=True)
class Header:
    """What the first line of a file says."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    """One or two of the names; () where none is known."""

    label: str
    """ "" where there is none, as in GLUE's test files."""

    is_cola: bool
    """The first line is a row, not a header."""


@dataclass(frozen=True)
class Table:
    """The rows of a file: n lines of text columns, labels as written, and where they stand."""

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: tuple[str, ...]
    lines: tuple[int, ...]
    """Line numbers, from 1."""

    place: str
    """ "RTE/train.tsv"."""

    left_out: int
    """Broken lines, and rows on whose label GLUE's annotators did not agree ("-")."""


def read_header(path: Path) -> Header:
    """Raises UserError for a file that is empty, or not UTF-8."""
    fields = next(_lines(path), (1, None))[1]
    if fields is None:
        raise UserError(f"{place(path)} is empty; expected {expected()}")
    if len(fields) == 4 and fields[1] in ("0", "1"):
        return Header(COLA, ("sentence",), "label", True)
    names = tuple(field.strip() for field in fields)
    texts = next((columns for columns in TEXTS if set(columns) <= set(names)), ())
    return Header(names, texts, next((column for column in LABELS if column in names), ""), False)


def read_table(path: Path, header: Header) -> Table:
    """The rows of a file, by the columns that its header has.

    Raises UserError for missing columns, no rows, lines without a label, and more than a few broken lines.
    """
    if not header.texts or not header.label:
        raise UserError(f"{place(path)} has the columns {', '.join(map(repr, header.names))}; expected {expected()}")
    wanted = [header.names.index(column) for column in (*header.texts, header.label)]
    rows, numbers, broken, undecided, first_broken = [], [], 0, 0, ""
    for number, fields in _lines(path):
        if number == 1 and not header.is_cola:
            continue
        while len(fields) > len(header.names) and not fields[-1]:
            fields.pop()  # tabs at the end of a line, as spreadsheets leave them
        if len(fields) != len(header.names):
            broken += 1
            first_broken = first_broken or f"line {number} has {len(fields)} fields, not {len(header.names)}"
        elif not (label := fields[wanted[-1]].strip()):
            raise UserError(f"{place(path)}, line {number}: no {header.label}; leave the row out, or give it one")
        elif label == "-" and header.label == "gold_label":
            undecided += 1
        else:
            rows.append((*(fields[i] for i in wanted[:-1]), label))
            numbers.append(number)
    if broken > BROKEN * (len(rows) + broken):
        raise UserError(
            f"{place(path)}, {first_broken} ({broken} such lines); one tab parts two columns, and a text holds neither "
            "tabs nor line breaks"
        )
    if not rows:
        raise UserError(f"{place(path)} has a header and no rows")
    columns = list(zip(*rows, strict=True))
    second = columns[1] if len(header.texts) == 2 else None
    return Table(columns[0], second, columns[-1], tuple(numbers), place(path), broken + undecided)


def place(path: Path) -> str:
    """A file in an error message: its folder's name and its own."""
    return f"{path.resolve().parent.name}/{path.name}"


def expected() -> str:
    """The columns that are known, for an error message."""
    return f"{', '.join(' and '.join(columns) for columns in TEXTS)}, and one of {', '.join(LABELS)}"


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of every line that is not blank: what csv.reader gives with QUOTE_NONE.

    A line ends at a line feed alone: other characters that end lines for Python do stand inside of published texts.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")  # MRPC's published file has the mark
            except UnicodeDecodeError as error:
                raise UserError(f"{place(path)}, line {number}: not UTF-8 ({error.reason}); save it as UTF-8") from None
            if line := line.rstrip("\r\n"):
                yield number, line.split("\t")
