"""A small corpus of made-up docstrings and code: enough text for every task of the mini GLUE, and nothing installed."""

import numpy as np

from l2e_min.lab.finetuning.split import part_of
from l2e_min.lab.text.document import Corpus, Document

PACKAGES = ("stdlib", "scipy", "sklearn", "networkx", "torch", "transformers")
FUNCTION = ("the", "of", "in", "is", "for", "with", "a", "to", "and", "by")
FILES = {"train": 6, "dev": 2, "test": 3}
NAMES = ("axis", "alpha", "nodes", "weight", "tol", "solver", "shape", "graph")


def sources(stem: str) -> list[str]:
    """Names of files such that each part of the split has some: `FILES`."""
    found = {part: [] for part in FILES}
    for number in range(400):
        name = f"{stem}{number}.py"
        part = part_of(name)
        if len(found[part]) < FILES[part]:
            found[part].append(name)
    return [name for names in found.values() for name in names]


def small_corpus(seed: int = 0) -> Corpus:
    """Docstring files and Python files of six packages, `FILES` of each."""
    rng = np.random.default_rng(seed)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    vocabulary = ["".join(rng.choice(syllables, 3)) for _ in range(1200)]

    def sentence(n: int) -> str:
        words = [str(rng.choice(FUNCTION if i % 3 == 1 else vocabulary)) for i in range(n)]
        return " ".join([words[0].capitalize(), *words[1:]]) + "."

    def described() -> str:
        return "".join(f"{name} : int\n    {sentence(9)}\n" for name in rng.choice(NAMES, 2, replace=False))

    def paragraph() -> str:
        return "\n".join(sentence(int(rng.integers(8, 17))) for _ in range(3))

    def function() -> str:
        name, one, two = rng.choice(vocabulary, 3)
        return f'def {name}(self, {one}, {two}=1):\n    """{sentence(8)}"""\n    # {sentence(9)}\n    return 0\n'

    again = [sentence(14) for _ in range(4)]  # stand in every docstring file, one word changed: near-copies to be found
    documents = []
    for package in PACKAGES:
        for source in sources(f"{package}/notes"):
            copies = [line.replace(line.split()[3], str(rng.choice(vocabulary)), 1) for line in again]
            text = "\n\n".join([paragraph(), described(), paragraph(), paragraph(), "\n".join(copies)])
            documents.append(Document(text, source, "docstrings"))
        for source in sources(f"{package}/code"):
            documents.append(Document("\n".join(function() for _ in range(4)), source, "python"))
    return Corpus("small", documents[::2], documents[1::2])
