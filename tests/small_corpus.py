"""A small corpus of made-up docstrings and code: enough text for every task of the mini GLUE, and nothing installed."""

import numpy as np

from l2e_min.lab.text.document import Corpus, Document

PACKAGES = ("stdlib", "scipy", "sklearn", "networkx", "torch", "transformers")
FUNCTION = ("the", "of", "in", "is", "for", "with", "a", "to", "and", "by")
NAMES = ("axis", "alpha", "nodes", "weight", "tol", "solver", "shape", "graph")


def small_corpus(files: int = 10, seed: int = 0) -> Corpus:
    """`files` docstring files and as many Python files of each of six packages."""
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

    documents = []
    for package in PACKAGES:
        for number in range(files):
            text = "\n\n".join([paragraph(), described(), paragraph(), paragraph()])
            documents.append(Document(text, f"{package}/part{number % 3}/notes{number}.py", "docstrings"))
            code = "\n".join(
                f'def {rng.choice(vocabulary)}(self, {rng.choice(vocabulary)}, {rng.choice(vocabulary)}=1):\n'
                f'    """{sentence(8)}"""\n    # {sentence(9)}\n    return 0\n'
                for _ in range(4)
            )  # fmt: skip
            documents.append(Document(code, f"{package}/part{number % 3}/code{number}.py", "python"))
    return Corpus("small", documents[::2], documents[1::2])
