"""The pieces that tasks are made of: sentences, functions with their summaries, and described parameters.

Cut from the docstrings, comments, manuals and readmes of the corpus, each piece with its file and part of the split. A
piece that repeats another (same words, Jaccard above .7) is dropped, across parts too.
"""

import ast
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from l2e_min.lab.finetuning.split import parts
from l2e_min.lab.text.document import Corpus
from l2e_min.lab.text.sources import unit

JACCARD = 0.7
"""Two pieces are near-copies where their sets of words agree by more than this."""

ORDER = ("test", "dev", "train")
"""Of two near-copies the one in the earlier part stays: training text is plenty, test text is not."""


@dataclass(frozen=True)
class Piece:
    """A piece of text. `where`: the number of its paragraph in the file; `place`: of the sentence in the paragraph."""

    text: str
    source: str
    part: str
    where: int = 0
    place: int = 0
    key: str = ""
    """What the piece belongs to: of a parameter its name, of a summary the function's signature."""

    @property
    def package(self) -> str:
        return self.source.split("/", 1)[0]

    @property
    def folder(self) -> str:
        return self.source.rsplit("/", 1)[0]


@dataclass(frozen=True)
class Pieces:
    """Everything cut from one corpus, free of near-copies, in the order of ``ORDER`` and then of the corpus."""

    sentences: list[Piece]
    summaries: list[Piece]
    parameters: list[Piece]


def cut(corpus: Corpus) -> Pieces:
    """All pieces of a corpus (its training and validation documents)."""
    sentences, summaries, parameters = [], [], []
    split = parts(corpus)
    for part in ORDER:
        for document in split[part]:
            if document.family in ("docstrings", "manual", "readmes"):
                texts = [document.text]
            elif document.family in ("cpp", "c", "cython"):
                texts = [comments(document.text)]
            elif document.family == "python":
                found = list(functions(document.text))
                summaries += [Piece(summary_of(doc), document.source, part, i, 0, signature)
                              for i, (signature, doc) in enumerate(found) if summary_of(doc)]  # fmt: skip
                texts = [*(doc for _, doc in found), comments(document.text)]
            else:
                continue
            paragraph = 0
            for text in texts:
                for name, about in described(text):
                    parameters.append(Piece(about, document.source, part, 0, 0, name))
                for block in text.split("\n\n"):
                    paragraph += 1
                    for place, sentence in enumerate(sentences_of(block)):
                        sentences.append(Piece(sentence, document.source, part, paragraph, place))
    return Pieces(*(distinct(pieces) for pieces in (sentences, summaries, parameters)))


def distinct(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces whose text is no near-copy of an earlier one's."""
    again = near_copies([piece.text for piece in pieces])
    return [piece for piece, repeated in zip(pieces, again, strict=True) if not repeated]


def words(text: str) -> list[str]:
    """Lower-case words; names are taken apart at underscores and capitals ("maxIter_2": max, iter)."""
    return re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower())


def near_copies(texts: Sequence[str], jaccard: float = JACCARD) -> list[bool]:
    """Which texts repeat an earlier kept one: Jaccard of the sets of words above `jaccard` (exact, no sampling).

    Two sets that agree so far share one of their rarest words, as many as may differ and one more: only those meet.
    """
    sets = [frozenset(words(text)) for text in texts]
    common = Counter(word for group in sets for word in group)
    holders: dict[str, list[frozenset[str]]] = defaultdict(list)
    repeated = []
    for group in sets:
        rare = sorted(group, key=lambda word: (common[word], word))[: len(group) - math.ceil(jaccard * len(group)) + 1]
        seen = {id(other): other for word in rare for other in holders[word]}.values()
        again = not group or any(alike(group, other) > jaccard for other in seen)
        repeated.append(again)
        if not again:
            for word in rare:
                holders[word].append(group)
    return repeated


def alike(first: frozenset[str], second: frozenset[str]) -> float:
    """Jaccard index of two sets: shared over all; 0 for two empty ones."""
    shared = len(first & second)
    return shared / max(1, len(first) + len(second) - shared)


_ODD = re.compile(r"[^A-Za-z0-9 ,;:'\"()./-]|\.\.|://|\w\.\w|--")  # code, links, lists: not a sentence
_END = re.compile(r"(?<=[a-z)])\.\s+(?=[A-Z])")


def sentences_of(block: str, least: int = 6, most: int = 35) -> list[str]:
    """The plain sentences of one paragraph: capital first, full stop last, `least` to `most` words, no code."""
    lines = block.strip("\n").split("\n")
    if any(line.lstrip().startswith((">>>", "...", "..", "-", "*", "|", "+", "=", ":", "@")) for line in lines):
        return []
    found = []
    for sentence in _END.split(" ".join(" ".join(lines).split())):
        sentence = sentence.rstrip(".: ") + "."
        n = sentence.count(" ") + 1
        if least <= n <= most and sentence[0].isupper() and not _ODD.search(sentence) and _prose(sentence):
            found.append(sentence)
    return found


def _prose(sentence: str) -> bool:
    """Whether nearly all is words in lower case, as in a sentence and not in a heading or a reference."""
    tokens = sentence.split()[1:]
    return sum(bool(re.fullmatch(r"[a-z'-]+[,.;:)]?|\([a-z'-]+", token)) for token in tokens) >= 0.85 * len(tokens)


_COMMENT = re.compile(r"^[ \t]*(?:#|//+|/\*+|\*)[!<]?[ \t]?(.*?)(?:\*/)?$")


def comments(code: str) -> str:
    """The comments of code that fill lines, markers off, blank lines between those that do not touch."""
    lines, code_before = [], False
    for line in code.split("\n"):
        match = _COMMENT.match(line)
        if match:
            lines += [""] * code_before + [match[1]]
        code_before = not match and bool(lines)
    return "\n".join(lines)


def functions(code: str) -> Iterator[tuple[str, str]]:
    """(signature, docstring) of everything that has a docstring; modules and classes have the signature "".

    A signature is "name(arguments) -> type".
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            doc = ast.get_docstring(node)
            if doc and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
                yield f"{node.name}({ast.unparse(node.args)}){returns}", doc
            elif doc:
                yield "", doc


def summary_of(docstring: str) -> str:
    """The first sentence of a docstring; "" where it is none of 5 to 20 words."""
    found = re.split(r"(?<=[a-z)`'])\.(?:\s|$)", " ".join(docstring.split("\n\n", 1)[0].split()))[0]
    n = found.count(" ") + 1
    return found + "." if 5 <= n <= 20 and len(found) < 140 and "::" not in found else ""


_NUMPY = re.compile(r"^( *)(\w{2,}) : [^\n]+\n((?:\1 {2,}\S[^\n]*\n?)+)", re.MULTILINE)
_GOOGLE = re.compile(r"^( +)(\w{2,}) ?\([^\n]*?\) ?: *([^\n]*\n(?:\1 {2,}\S[^\n]*\n?)*)", re.MULTILINE)


def described(docstring: str) -> list[tuple[str, str]]:
    """(name, first sentence about it) of the parameters in NumPy's and Google's style, 5 to 20 words, name masked."""
    found = []
    for pattern in (_NUMPY, _GOOGLE):
        for match in pattern.finditer(docstring + "\n"):
            name, about = match[2], re.split(r"(?<=\w)\.\s", " ".join(match[3].split()) + " ")[0].strip(" .")
            about = re.sub(rf"\W?\b{re.escape(name)}s?\b\W?", " it ", about, flags=re.IGNORECASE)
            about = re.sub(r"[`*]+", "", " ".join(about.split()))
            if 5 <= about.count(" ") + 1 <= 20 and about[0].isalpha() and len(about) < 140:
                found.append((name.lower(), about[0].upper() + about[1:] + "."))
    return found


def shuffled(pieces: Sequence[Piece], salt: str) -> list[Piece]:
    """An order that depends on the texts and the salt alone."""
    return sorted(pieces, key=lambda piece: unit(piece.source + piece.text, salt))
