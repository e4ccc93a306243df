"""Hand-made features of a pair of texts: how much they share, and how their lengths compare. No model reads them."""

from collections.abc import Sequence

import numpy as np

from l2e_min.lab.finetuning.mini_glue.pieces import alike, words

FEATURES = ("words shared", "of A in B", "of B in A", "rare words shared", "rarest shared", "stems shared",
            "letters shared", "length ratio", "length of A", "length of B")  # fmt: skip
STEM = 5  # letters: "returned", "returns" and "return" share them


class PairFeatures:
    """Features of pairs; how rare a word is it learns from the training texts."""

    def __init__(self, first: Sequence[str], second: Sequence[str]):
        texts = [frozenset(words(text)) for text in (*dict.fromkeys(first), *dict.fromkeys(second))]
        self.n = len(texts)
        self.holders: dict[str, int] = {}
        for group in texts:
            for word in group:
                self.holders[word] = self.holders.get(word, 0) + 1

    def rarity(self, word: str) -> float:
        """log((1 + texts) / (1 + texts that hold the word)): inverse document frequency."""
        return float(np.log((1 + self.n) / (1 + self.holders.get(word, 0))))

    def __call__(self, first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        """(n, len(FEATURES)) float64."""
        return np.array([self._pair(a, b) for a, b in zip(first, second, strict=True)])

    def _pair(self, first: str, second: str) -> list[float]:
        listed_a, listed_b = words(first), words(second)
        a, b = frozenset(listed_a), frozenset(listed_b)
        rarity = {word: self.rarity(word) for word in a | b}
        common = [rarity[word] for word in a & b]
        triples_a, triples_b = _triples(" ".join(listed_a)), _triples(" ".join(listed_b))
        return [
            alike(a, b),
            len(common) / max(1, len(a)),
            len(common) / max(1, len(b)),
            sum(common) / max(1e-9, sum(rarity.values())),
            max(common, default=0.0),
            alike(frozenset(w[:STEM] for w in a), frozenset(w[:STEM] for w in b)),
            alike(triples_a, triples_b),
            np.log((1 + len(listed_a)) / (1 + len(listed_b))),
            np.log(1 + len(listed_a)),
            np.log(1 + len(listed_b)),
        ]


def _triples(text: str) -> frozenset[str]:
    return frozenset(text[i : i + 3] for i in range(len(text) - 2))
