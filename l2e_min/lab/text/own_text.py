"""Text of the reader's own: a folder of text files, or a dataset of the Hugging Face hub."""

from pathlib import Path

from l2e_min.lab import hub as hub_ways
from l2e_min.lab.errors import UserError
from l2e_min.lab.text.document import Document
from l2e_min.lab.text.overlap import near_duplicates
from l2e_min.lab.text.places import MB
from l2e_min.lab.text.sources import read_text

HUB_BYTES = 40 * MB
"""How much of a hub dataset is read: as much as the installed text has, enough for the mini models."""

TEXT_COLUMNS = ("text", "content", "sentence", "document", "code", "article", "body")
"""Usual names of the column with the text, best first."""


def folder(path: str | Path) -> tuple[str, list[Document]]:
    """The text files below a folder, near-duplicates removed: (name, documents). The family of a file is its ending.

    Skips hidden files and what is not UTF-8 text of at least 64 characters. Raises UserError where nothing is left.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise UserError(f'no folder of text files at {str(path)!r}; give "installed", a folder, or "hub:NAME[:config]"')
    documents = []
    for file in sorted(root.rglob("*")):
        inside = file.relative_to(root)
        if file.is_file() and not any(part.startswith(".") for part in inside.parts):
            text = read_text(file)
            if text:
                documents.append(Document(text, inside.as_posix(), file.suffix.lstrip(".").lower() or "text"))
    repeated = set(near_duplicates([document.text for document in documents]))
    documents = [document for index, document in enumerate(documents) if index not in repeated]
    size = sum(len(document.text) for document in documents)
    if size < 2000:
        raise UserError(f"the folder {str(path)!r} holds {size} characters of UTF-8 text; at least 2000 are needed")
    return root.resolve().name, documents


def hub(text: str) -> tuple[str, list[Document]]:
    """`text` = "hub:NAME[:config]": the first 40 MB of the dataset's training split: (name, documents).

    Streams; runs no code of the dataset. Raises UserError where the hub, the dataset, or its text cannot be reached.
    """
    name, _, config = text.removeprefix("hub:").partition(":")
    if not name:
        raise UserError(
            f"no dataset named in {text!r}; write hub:NAME or hub:NAME:config, as in hub:roneneldan/TinyStories"
        )
    try:
        import datasets
    except ImportError:
        raise UserError('reading from the hub needs the package "datasets"; run: pip install "l2e-min[lab]"') from None
    if not hub_ways.reachable():
        raise hub_ways.trouble(f"read the dataset {text}", here=False)
    datasets.config.STREAMING_READ_MAX_RETRIES = 1  # each is five retries of its own, half a minute; 20 is ten minutes
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # nobody but the hub is told that a dataset is read
    try:
        rows = iter(datasets.load_dataset(name, config or None, split="train", streaming=True))
        first = next(rows, None)
    except Exception as error:  # the library raises many kinds: no network, no such name, no such config, no split
        raise hub_ways.trouble(f"read the dataset {text}", error) from error
    if first is None:
        raise UserError(f"the training split of {text!r} is empty")
    column = text_column(first, text)
    documents, taken = [], 0
    from tqdm.auto import tqdm

    with tqdm(total=HUB_BYTES, unit="B", unit_scale=True, desc=f"reading {name}", leave=False) as bar:
        row, number = first, 0
        while row is not None and taken < HUB_BYTES:
            value = row[column]
            if isinstance(value, str) and len(value) >= 64:
                documents.append(Document(value, f"{text}#{number}", "hub"))
                size = len(value.encode())
                taken += size
                bar.update(size)
            number += 1
            try:
                row = next(rows, None)
            except Exception as error:  # the hub went away, or a later file is broken
                raise hub_ways.trouble(f"read the dataset {text} beyond row {number}", error) from error
    if taken < 2000:
        raise UserError(f"the column {column!r} of {text!r} holds {taken} bytes of text; at least 2000 are needed")
    return text, documents


def text_column(row: dict[str, object], name: str = "the dataset") -> str:
    """The column of a dataset that holds its text: a usual name, or else the only column of strings."""
    strings = [column for column, value in row.items() if isinstance(value, str)]
    usual = [column for column in TEXT_COLUMNS if column in strings]
    if usual:
        return usual[0]
    if len(strings) == 1:
        return strings[0]
    raise UserError(f"no text column found in {name!r}: columns {sorted(row)}, of which strings: {sorted(strings)}")
