"""The promises of the feature datasets: rows of their label, spread over files, none repeated, none trained on."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from l2e_min.lab.errors import UserError
from l2e_min.lab.settings import PROFILES
from l2e_min.lab.text.corpus import Document, load_corpus
from l2e_min.lab.text.features import FEATURE_SETS, PROSE, load_features, rows_of, spread

NAMES = list(FEATURE_SETS)


SLOW_FIXTURES = {"corpus", "datasets"}  # of all installed text


@pytest.fixture(scope="module")
def corpus():
    return load_corpus("installed")


@pytest.fixture(scope="module")
def datasets():
    return {name: load_features(name) for name in NAMES}


def shares_characters(rows: list[str], texts: list[str], window: int = 40) -> set[str]:
    """Which 40-character windows of the rows occur in the texts; slow and exact, without the package's hashes.

    A shared window of 40 characters holds a shared window of 21 that begins at a multiple of 20 in the text.
    """
    half = window // 2 + 1
    wanted = defaultdict(list)
    for row in rows:
        for i in range(len(row) - half + 1):
            wanted[row[i : i + half]].append((row, i))
    found = set()
    for text in texts:
        for at in range(0, len(text) - half + 1, window // 2):
            for row, i in wanted.get(text[at : at + half], ()):
                left = 0
                while at - left > 0 and i - left > 0 and text[at - left - 1] == row[i - left - 1]:
                    left += 1
                right = half
                while at + right < len(text) and i + right < len(row) and text[at + right] == row[i + right]:
                    right += 1
                if left + right >= window:
                    found.add(row[i - left : i + right])
    return found


def test_the_slow_check_itself_sees_a_planted_window():
    text = "".join(chr(97 + i * i % 26) + str(i) for i in range(500))
    for at in range(100, 125):
        assert shares_characters(["#" * 30 + text[at : at + 40] + "#" * 30], [text])
        assert not shares_characters(["#" * 30 + text[at : at + 39] + "#" * 30], [text])


@pytest.mark.parametrize("name", NAMES)
def test_sizes_labels_and_lengths(datasets, name):
    data = datasets[name]
    assert data.name == name and tuple(data.features) == FEATURE_SETS[name]
    assert len(data.features) == {"natural_language": 10, "code_language": 9, "data_subset": 7}[name]
    assert data.labels.dtype == np.int64 and np.bincount(data.labels).tolist() == [200] * len(data.features)
    assert len(data.texts) == len(data.sources) == len(data.labels)
    assert all(125 <= len(text.encode()) <= 128 for text in data.texts)
    assert "\ufffd" not in "".join(data.texts)
    assert [row["rows"] for row in data.table()] == [200] * len(data.features)


@pytest.mark.parametrize("name", NAMES)
def test_no_row_is_repeated_or_has_two_labels(datasets, name):
    assert len(set(datasets[name].texts)) == len(datasets[name].texts)
    for label in range(len(datasets[name].features)):
        own = [t for t, l in zip(datasets[name].texts, datasets[name].labels, strict=True) if l == label]
        rest = [t for t, l in zip(datasets[name].texts, datasets[name].labels, strict=True) if l != label]
        assert not shares_characters(own, rest)


def test_no_row_is_in_the_training_or_validation_text(datasets, corpus):
    rows = [text for data in datasets.values() for text in data.texts]
    texts = [document.text for document in [*corpus.train, *corpus.validation]]
    assert shares_characters(rows, texts) == set()


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_spread_over_files(datasets, name):
    for row in datasets[name].table():
        assert row["files"] >= 8 and row["most from one file"] <= 60, row


@pytest.mark.parametrize("name", NAMES)
def test_rows_begin_at_a_line_or_a_word(datasets, corpus, name):
    pieces = defaultdict(list)
    for document in corpus.reserved:
        pieces[document.family, document.source].append("\n" + document.text)
    data = datasets[name]
    for text, label, source in zip(data.texts, data.labels, data.sources, strict=True):
        feature = data.features[label]
        before = {piece[piece.index(text) - 1] for piece in pieces[feature, source] if text in piece}
        assert before and all(c.isspace() if feature in PROSE else c == "\n" for c in before), text


def test_the_seed_fixes_the_rows(datasets):
    again, other = load_features("code_language"), load_features("code_language", seed=1)
    first = datasets["code_language"]
    assert again.texts == first.texts and again.sources == first.sources
    assert other.texts != first.texts and other.labels.tolist() == first.labels.tolist()


def test_natural_languages_are_what_they_say(datasets):
    """Trigrams of half the messages tell the language of the other half: wrong labels or copied rows would show."""
    data = datasets["natural_language"]
    rows = list(zip(data.texts, data.labels, data.sources, strict=True))
    is_test = {source: i % 2 for i, source in enumerate(sorted(set(data.sources)))}

    def grams(text):
        return [text[i : i + 3] for i in range(len(text) - 2)]

    counts = [Counter() for _ in data.features]
    for text, label, source in rows:
        if not is_test[source]:
            counts[label].update(grams(text.lower()))
    logs = [{g: np.log((n + 0.1) / (c.total() + 500)) for g, n in c.items()} for c in counts]
    unseen = [np.log(0.1 / (c.total() + 500)) for c in counts]
    right = []
    for text, label, source in rows:
        if is_test[source]:
            own = grams(text.lower())
            scores = [sum(log.get(g, none) for g in own) for log, none in zip(logs, unseen, strict=True)]
            right.append(int(np.argmax(scores)) == label)
    assert np.mean(right) > 0.9, np.mean(right)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_do_not_overlap_or_split_characters():
    text = "".join(f"zeile {i}: größer über äöü ß\n" for i in range(60))
    for prose in (True, False):
        rows = [row for row, _ in rows_of([Document(text, "s", "f")], 64, prose)]
        assert all(61 <= len(row.encode()) <= 64 for row in rows)
        at = [text.index(row) for row in rows]
        assert all(a + len(row) <= b for a, b, row in zip(at, at[1:], rows, strict=False))
        assert len(rows) > 15


def test_blank_rows_are_skipped():
    text = " " * 400 + "\n" + "some words of text " * 20 + "\n" + "    \n" * 100
    rows = [row for row, _ in rows_of([Document(text, "s", "f")], 64, False)]
    assert len(rows) == 1 and rows[0].startswith("some words")


def test_spread_takes_evenly_from_long_and_short_files():
    rows = [(f"a{i}", "a") for i in range(100)] + [("b0", "b"), ("b1", "b")] + [(f"c{i}", "c") for i in range(50)]
    drawn = spread(rows, 22, np.random.default_rng(0))
    assert Counter(source for _, source in drawn) == {"a": 10, "c": 10, "b": 2}
    assert len(set(drawn)) == 22


# --- a folder of one's own --------------------------------------------------------------------------------------------


def words(rng, n):
    return "\n".join(" ".join(str(rng.integers(10**6)) for _ in range(8)) for _ in range(n))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("red", "blue"):
        (tmp_path / label / "deep").mkdir(parents=True)
        for i in range(3):
            (tmp_path / label / "deep" / f"{i}.txt").write_text(words(rng, 40))
    return tmp_path


def test_a_folder_gives_its_sub_folders_as_labels(folder):
    data = load_features(str(folder), rows_per_feature=20)
    assert data.features == ["blue", "red"] and len(data.texts) == 40 and data.name == folder.name
    assert data.sources[0].startswith("blue/deep/") and data.sources[-1].startswith("red/deep/")


def test_a_row_of_two_labels_is_left_out(folder):
    common = words(np.random.default_rng(9), 200)
    for label in ("red", "blue"):
        (folder / label / "common.txt").write_text(common)
    data = load_features(str(folder), rows_per_feature=20)
    assert not any("common" in source for source in data.sources)


@pytest.mark.slow
def test_too_few_rows_says_how_many_there_are(folder):
    with pytest.raises(UserError, match=r"'blue' has \d+ rows of 128 bytes, 5000 are asked for.*give more text"):
        load_features(str(folder), rows_per_feature=5000)
    with pytest.raises(UserError, match=r"'sv' has \d+ rows|'\w+' has \d+ rows"):
        load_features("natural_language", rows_per_feature=5000)


def test_bad_input_is_a_user_error(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("one")
    (empty / "only").mkdir()
    cases = [
        (
            "no_such_set",
            {},
            "no feature dataset 'no_such_set'; give one of natural_language, code_language, data_subset",
        ),
        (str(empty), {}, "has 1 sub-folders; at least 2 labels"),
        (str(folder), {"rows_per_feature": 1}, "at least 2 rows"),
        (str(folder), {"row_bytes": 8}, "at least 16 bytes"),
    ]
    for name, settings, says in cases:
        with pytest.raises(UserError, match=says):
            load_features(name, **settings)
    (folder / "green").mkdir()
    (folder / "green" / "data.bin").write_bytes(b"\0\xff" * 500)
    with pytest.raises(UserError, match=r"the label 'green' .* has no UTF-8 text in its 1 files"):
        load_features(str(folder), rows_per_feature=20)


@pytest.mark.slow
def test_every_profile_asks_for_rows_that_are_there():
    most = max(settings.rows_per_feature for settings in PROFILES.values())
    for name in FEATURE_SETS:
        assert len(load_features(name, most).texts) == most * len(FEATURE_SETS[name])
