"""Text in ten natural languages that is installed anyway: Sphinx's message catalogues and Babel's names (Unicode CLDR).

A language's text is a set of short strings, so it is split by *string*, not by file, and by the string's key (its
English original or its place in CLDR): the same message falls on the same side of the split in every language.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from l2e_min.lab.text.sources import locate, unit

LANGUAGES = ("fr", "ca", "sq", "pt_BR", "sv", "es", "en_GB", "sk", "id", "tr")
"""The labels of the feature dataset natural_language: those with enough text (FEASIBILITY: 47 to 70 kB each)."""

MORE_LANGUAGES = ("de", "it", "nl", "pl", "cs", "da", "fi", "hu", "ro", "lt", "lv", "et", "nb", "hr", "sl", "eu", "gl")
"""Training text only, so that a model meets more than ten languages' worth of letters and words."""

CATALOGUES = ("sphinx", "sphinxcontrib", "sphinx_book_theme", "pydata_sphinx_theme", "sphinx_togglebutton",
              "sphinx_exercise", "sphinx_proof")  # fmt: skip
CLDR_TABLES = ("territories", "languages", "scripts", "variants", "currency_names", "currency_names_plural",
               "time_zones", "meta_zones", "unit_display_names", "unit_patterns", "date_fields", "months", "days",
               "quarters", "eras", "day_periods", "measurement_systems")  # fmt: skip

BUCKETS = 20
"""Documents a language. A phrase's bucket depends on its key: a bucket holds the same messages in all languages."""

SMOOTH = 0.1
"""Added to each count of a trigram, of about 5,000 a language."""

_MARKUP = re.compile(
    r"\b\w*_\w*\b|:[\w:+-]+:`[^`]*`|``[^`]*``|`[^`']*[`']|https?://\S+|<[^>]*>"  # names_in_code, roles, links
    r"|%\([^)]*\)[#0\- +]*\d*(?:\.\d+)?[a-zA-Z]|%[#0\-+]*\d*(?:\.\d+)?[rsdif%]|\{[^{}]*\}"  # %(name)s, %s, {name}
)


@dataclass(frozen=True)
class Phrase:
    """One string of one language. `key` names it across languages, `source` says which package it comes from."""

    key: str
    text: str
    source: str


def clean_message(text: str) -> str:
    """Takes placeholders and markup out of a message; they are the same in every language and would betray nothing."""
    text = _MARKUP.sub(" ", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+([,.;:!?)])", r"\1", text)
    return re.sub(r"[\"'“”«»()\[\]]\s*[\"'“”«»()\[\]]", " ", text).strip(" -:;,/|")


def language_documents(missing: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yields (family, source, text): the phrases of a language in `BUCKETS` documents, one phrase a line.

    The family is the language, or "other_languages". Phrases stand in an order without meaning, so that a stretch
    of text mixes messages and names. What is absent is added to `missing`.
    """
    missing.extend(name for name in ("sphinx", "babel") if locate(name) is None)
    for languages, family in ((LANGUAGES, None), (MORE_LANGUAGES, "other_languages")):
        for language, phrases in read_phrases(languages).items():
            buckets = defaultdict(list)
            for phrase in sorted(phrases, key=lambda p: (unit(p.key, "order"), p.key)):
                buckets[int(unit(phrase.key, "bucket") * BUCKETS)].append(phrase.text)
            for bucket in sorted(buckets):
                yield family or language, f"phrases/{language}/{bucket:02d}", "\n".join(buckets[bucket]) + "\n"


def read_phrases(languages: tuple[str, ...] = LANGUAGES) -> dict[str, list[Phrase]]:
    """Every usable phrase of each language, wrong-language ones removed; none where the packages are absent."""
    found = {language: [*_messages(language), *_names(language)] for language in languages}
    # The trigram check takes a second for ten languages; text that is for training only goes without.
    return drop_wrong_language(found, margin=0.35 if languages == LANGUAGES else math.inf)


def _messages(language: str) -> Iterator[Phrase]:
    try:
        from babel.messages.pofile import read_po  # Babel comes with the extra "lab"
    except ImportError:
        return
    for package in CATALOGUES:
        folder = locate(package)
        for path in sorted(folder.glob(f"**/{language}/LC_MESSAGES/*.po")) if folder else []:
            with path.open("rb") as file:
                catalogue = read_po(file)
            for message in catalogue:
                original, translated = _singular(message.id), _singular(message.string)
                same = translated == original and not language.startswith("en")  # left untranslated
                if original and translated and not message.fuzzy and not same:
                    yield Phrase(
                        f"message:{original}", clean_message(translated), path.relative_to(folder.parent).as_posix()
                    )


def _singular(text: str | tuple[str, ...] | None) -> str:
    return (text[0] if isinstance(text, tuple) else text) or ""


def _names(language: str) -> Iterator[Phrase]:
    try:
        from babel import localedata

        data = localedata.load(language if localedata.exists(language) else language.split("_")[0])
    except (ImportError, OSError):
        return
    for table in CLDR_TABLES:
        for key, text in _leaves(data.get(table, {}), table):
            yield Phrase(f"name:{key}", clean_message(text), f"babel/{language}")


def _leaves(node: object, key: str) -> Iterator[tuple[str, str]]:
    """The strings below a node of CLDR's tree. Aliases (other types) repeat strings from elsewhere: left out."""
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, dict):
        for name in sorted(node, key=str):
            if name not in ("narrow", "abbreviated"):
                yield from _leaves(node[name], f"{key}/{name}")


def drop_wrong_language(found: dict[str, list[Phrase]], margin: float = 0.35) -> dict[str, list[Phrase]]:
    """Removes strings that are no evidence of their language. Returns phrases unique within and across languages.

    Dropped: strings without letters, repeats, messages that two languages share after folding case and punctuation
    (names: more than four languages; "Tanzania" is honest Swedish and Spanish), and strings that another language's
    character trigrams explain better by more than `margin` nats a character. (Albanian's catalogue has held Portuguese
    sentences; a string's own counts are taken out before its language judges it.)
    """
    owners: dict[str, set[str]] = defaultdict(set)
    for language, phrases in found.items():
        for phrase in phrases:
            owners[_fold(phrase.text)].add(language)
    kept: dict[str, list[Phrase]] = {}
    for language, phrases in found.items():
        unique = {}
        for phrase in phrases:
            fold = _fold(phrase.text)
            letters = sum(character.isalpha() for character in phrase.text)
            limit = 4 if phrase.key.startswith("name:") else 1
            if letters >= 4 and letters >= 0.6 * len(phrase.text) and len(owners[fold]) <= limit:
                unique.setdefault(fold, phrase)
        kept[language] = list(unique.values())
    wrong = _strangers(kept, margin) if margin < math.inf else set()
    return {name: [p for p in phrases if (name, p.key, p.text) not in wrong] for name, phrases in kept.items()}


def _fold(text: str) -> str:
    return re.sub(r"[\W\d_]+", " ", text.casefold()).strip()


def _strangers(kept: dict[str, list[Phrase]], margin: float) -> set[tuple[str, str, str]]:
    counts = {name: Counter() for name, phrases in kept.items() if phrases}
    for name in counts:
        for phrase in kept[name]:
            counts[name].update(_trigrams(phrase.text))
    totals = {name: sum(counts[name].values()) + SMOOTH * 5000 for name in counts}
    logs = {name: {gram: math.log((n + SMOOTH) / totals[name]) for gram, n in counts[name].items()} for name in counts}
    wrong = set()
    for name, seen in counts.items():
        others = [(logs[other], math.log(SMOOTH / totals[other])) for other in counts if other != name]
        for phrase in kept[name]:
            grams = _trigrams(phrase.text)
            if len(grams) < 20 or not others:  # short names carry too little evidence; shared ones are gone already
                continue
            own = Counter(grams)
            home = sum(n * math.log((seen[gram] - n + SMOOTH) / (totals[name] - len(grams))) for gram, n in own.items())
            away = max(sum(table.get(gram, unseen) for gram in grams) for table, unseen in others)
            if away - home > margin * len(grams):
                wrong.add((name, phrase.key, phrase.text))
    return wrong


def _trigrams(text: str) -> list[str]:
    padded = f" {_fold(text)} "
    return [padded[i : i + 3] for i in range(len(padded) - 2)]
