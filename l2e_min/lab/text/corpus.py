"""The text that models are trained on: installed text by default, a folder, or a dataset of the Hugging Face hub.

    corpus = load_corpus("installed")
    for row in corpus.table():
        print(row)

Split by file with a stable hash: training text, validation text, and files reserved for the feature datasets, whose
rows are in neither. Contents move with package versions; `Corpus.fingerprint` says on which text a model was trained.
"""

from collections import defaultdict

from l2e_min.lab.errors import UserError
from l2e_min.lab.text import sources
from l2e_min.lab.text.document import VALIDATION, Corpus, Document


def load_corpus(text: str = "installed", *, max_bytes_per_family: int | None = None, cache: bool = True) -> Corpus:
    """The texts named by `text`, split into training and validation.

    text: "installed" (36 MB or so that every installation of this project has), a folder of text files, or
    "hub:NAME[:config]" (streamed from the Hugging Face hub until 40 MB are read).
    max_bytes_per_family: keep at most so much training text of each family, and a fifth of it for validation.
    cache: keep the installed text under BUILD/text (plain JSON), valid while packages and this code are unchanged.
    Raises UserError where there is no such folder, no text in it, or no way to the hub.
    """
    if max_bytes_per_family is not None and max_bytes_per_family < 1000:
        raise UserError(f"max_bytes_per_family is {max_bytes_per_family}; it must be at least 1000 bytes")
    if text == "installed":
        from l2e_min.lab.text.installed import installed_corpus

        corpus = installed_corpus(cache)
    else:
        from l2e_min.lab.text import own_text

        name, documents = own_text.hub(text) if text.startswith("hub:") else own_text.folder(text)
        corpus = Corpus(name, *_split_in_two(documents))
    if max_bytes_per_family is None:
        return corpus
    train = _at_most(corpus.train, max_bytes_per_family)
    validation = _at_most(corpus.validation, max_bytes_per_family // 5)
    return Corpus(corpus.name, train, validation, corpus.reserved, corpus.missing)


def _split_in_two(documents: list[Document]) -> tuple[list[Document], list[Document]]:
    """Splits by a hash of the source; a side left empty gets one file, or the end of the only one."""
    splits: dict[str, list[Document]] = {"train": [], "validation": []}
    for document in documents:
        splits["validation" if sources.unit(document.source, "split") < VALIDATION else "train"].append(document)
    train, validation = splits["train"], splits["validation"]
    if len(documents) == 1:
        only = documents[0]
        end = only.text.rfind("\n", 0, int(len(only.text) * (1 - VALIDATION))) + 1 or int(len(only.text) * 0.95)
        return [Document(only.text[:end], only.source, only.family)], [
            Document(only.text[end:], f"{only.source}#end", only.family)
        ]
    if not validation:
        validation.append(train.pop(max(range(len(train)), key=lambda i: sources.unit(train[i].source, "order"))))
    if not train:
        train.append(validation.pop())
    return train, validation


def _at_most(documents: list[Document], limit: int) -> list[Document]:
    """At most `limit` bytes of each family, files in an order without meaning, the last one cut after a line."""
    left: dict[str, int] = defaultdict(lambda: limit)
    kept = {}
    for index in sorted(range(len(documents)), key=lambda i: sources.unit(documents[i].source, "order")):
        document = documents[index]
        data = document.text.encode()
        if len(data) > left[document.family]:
            data = data[: left[document.family]]
            data = data[: data.rfind(b"\n") + 1]
        if len(data) >= 64:
            left[document.family] -= len(data)
            kept[index] = Document(data.decode(errors="ignore"), document.source, document.family)
    return [kept[index] for index in sorted(kept)]
