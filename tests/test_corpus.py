"""The promises of the training text: real, split by file, free of repeats, stable, honest about what is absent."""

import json
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from l2e_min.lab.errors import UserError
from l2e_min.lab.text import installed, languages, overlap, own_text, places, sources
from l2e_min.lab.text.corpus import load_corpus
from l2e_min.lab.text.document import Corpus, Document, split_of

GOLDEN = [0.457639, 0.086944, 0.722264, 0.074719, 0.284987]


def prose(rng: np.random.Generator, words: int) -> str:
    """Random words in lines: text that repeats nothing by chance."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    drawn = ["".join(rng.choice(letters, rng.integers(3, 9))) for _ in range(words)]
    return "\n".join(" ".join(drawn[i : i + 10]) for i in range(0, words, 10)) + "\n"


# --- windows and repeats ----------------------------------------------------------------------------------------------


def test_window_hashes_agree_exactly_where_windows_agree():
    data = np.random.default_rng(0).integers(97, 100, 4000, dtype=np.uint8).tobytes()  # three letters: many repeats
    for window in (1, 7, 12):
        hashes = overlap.window_hashes(data, window).tolist()
        slices = [data[i : i + window] for i in range(len(data) - window + 1)]
        assert len(hashes) == len(slices)
        assert len(set(hashes)) == len(set(slices)) == len(set(zip(hashes, slices, strict=True)))
    assert overlap.window_hashes(b"short", 6).shape == (0,)


def test_near_duplicates_follow_the_jaccard_index():
    rng = np.random.default_rng(1)
    base = prose(rng, 2000)
    other = prose(rng, 2000)
    lines, strange = base.splitlines(True), other.splitlines(True)
    texts = [base, base]  # the same text twice
    for changed in (6, 40, 120):  # of 200 lines
        texts.append("".join(strange[:changed] + lines[changed:]))

    def jaccard(a: str, b: str) -> float:
        first, second = ({t[i : i + 24] for i in range(len(t) - 23)} for t in (a, b))
        return len(first & second) / len(first | second)

    exact = [jaccard(base, text) for text in texts]
    assert exact[2] > 0.9 and 0.6 < exact[3] < 0.7 and exact[4] < 0.3, exact
    assert overlap.near_duplicates(texts) == [1, 2]
    assert overlap.near_duplicates(texts, jaccard=0.5) == [1, 2, 3]


def test_near_duplicates_of_different_lengths_and_short_texts():
    rng = np.random.default_rng(2)
    long = prose(rng, 3000)
    assert overlap.near_duplicates([long, long[: int(len(long) * 0.85)], "a", "a", "b"]) == [1, 3]


def test_near_duplicates_are_judged_rightly_in_short_texts():
    """Licences have about 1,500 characters: one shingle in 64 would leave 25 of them, and chance to decide."""
    rng = np.random.default_rng(11)
    alike, different = [], []
    for _ in range(40):
        lines, strange = prose(rng, 250).splitlines(True), prose(rng, 250).splitlines(True)
        alike += ["".join(lines), "".join(strange[:3] + lines[3:])]  # Jaccard about .8
        different += ["".join(lines), "".join(strange[:6] + lines[6:])]  # about .6
    assert overlap.near_duplicates(alike) == list(range(1, 80, 2))
    assert len(overlap.near_duplicates(different)) == 0


def test_overlapping_finds_one_shared_window_and_no_shorter_one():
    rng = np.random.default_rng(3)
    text, row = prose(rng, 5000), prose(rng, 30)[:128]
    inside = row[:50] + text[1000:1040] + row[50:88]
    shorter = row[:50] + "#" + text[1001:1040] + "#" + row[50:87]
    assert overlap.overlapping([row, inside, shorter], [text]).tolist() == [False, True, False]
    assert overlap.overlapping([row], []).tolist() == [False]


def test_cut_out_leaves_whole_lines_without_the_bad_windows():
    text = "".join(f"line number {i} of the text\n" for i in range(40))
    bad = np.zeros(len(text) - 39, bool)
    bad[300] = True
    pieces = overlap.cut_out(text, bad)
    assert len(pieces) == 2 and pieces[0] == text[:300]
    assert pieces[1].startswith("line number") and text.endswith(pieces[1]) and len(pieces[1]) > len(text) - 300 - 70
    assert overlap.cut_out(text, np.zeros_like(bad)) == [text]
    assert overlap.cut_out(text, np.ones_like(bad)) == []


def test_the_reserve_shares_nothing_with_training_text_or_between_families():
    rng = np.random.default_rng(4)
    secret, common, repeated = prose(rng, 40), prose(rng, 40), prose(rng, 40)
    reserved = [
        Document(prose(rng, 100) + secret + prose(rng, 100), "a/1", "a"),
        Document(prose(rng, 100) + common + repeated + prose(rng, 100), "a/2", "a"),
        Document(prose(rng, 100) + common + prose(rng, 100) + repeated, "b/1", "b"),
        Document(prose(rng, 100) + prose(rng, 100), "b/2", "b"),
    ]
    reserved.append(Document(reserved[3].text[:400] + prose(rng, 100), "b/3", "b"))
    train = [Document(prose(rng, 500) + secret + prose(rng, 100), "train", "a")]
    kept = installed.clean_reserve(reserved, train)
    together = {family: "".join(d.text for d in kept if d.family == family) for family in "ab"}
    assert not overlap.overlapping([d.text for d in kept], [train[0].text]).any()
    assert not overlap.overlapping([together["a"]], [together["b"]]).any()
    assert common[:60] not in together["a"] + together["b"]
    assert together["b"].count(reserved[3].text[100:180]) == 1  # the first of two stays
    assert sum(len(d.text) for d in kept) > 0.6 * sum(len(d.text) for d in reserved)


# --- the split --------------------------------------------------------------------------------------------------------


def test_the_split_depends_on_names_alone_and_stays():
    # Written down so that a change of the hash is seen: it would move files between training and validation.
    names = ["stdlib/json/decoder.py", "stdlib/ast.py", "torch/nn/init.py", "torch/optim/adam.py", "stdlib/enum.py"]
    assert [round(sources.unit(name, "split"), 6) for name in names] == GOLDEN
    split = Counter(split_of("html", f"package/page{i}.html") for i in range(4000))
    assert abs(split["reserved"] / 4000 - 0.65) < 0.03 and abs(split["validation"] / 4000 - 0.05) < 0.015
    assert {split_of("yaml", f"p/{i}.yaml") for i in range(500)} == {"train", "validation"}  # no feature, no reserve


def test_a_phrase_is_on_the_same_side_in_every_language_with_the_same_reserve():
    assert [split_of("sv", f"phrases/sv/{b:02d}") for b in (0, 17, 18, 19)] == [
        "reserved", "reserved", "validation", "train"
    ]  # fmt: skip
    for bucket in range(languages.BUCKETS):
        assert split_of("fr", f"phrases/fr/{bucket:02d}") == split_of("es", f"phrases/es/{bucket:02d}")


# --- languages --------------------------------------------------------------------------------------------------------


def phrases(texts: list[str], kind: str = "message") -> list[languages.Phrase]:
    return [languages.Phrase(f"{kind}:{i}:{text[:5]}", text, "here") for i, text in enumerate(texts)]


def test_strings_of_the_wrong_language_are_dropped():
    found = languages.read_phrases(("sq", "pt_BR", "fr"))
    if not found["sq"]:
        pytest.skip("Sphinx or Babel is not installed")
    intruders = phrases([
        "O arquivo de configuração não existe ou não pode ser lido",
        "As opções fornecidas para a diretiva não são válidas",
        "Le fichier de configuration n'existe pas ou ne peut pas être lu",
    ])  # fmt: skip
    kept = languages.drop_wrong_language({**found, "sq": [*found["sq"], *intruders]})
    assert not set(intruders) & set(kept["sq"])
    for name, before in found.items():  # and those of the right language stay
        assert len(kept[name]) > 0.97 * len(before)


def test_a_string_does_not_vouch_for_itself():
    found = languages.read_phrases(("id", "es"))
    if not found["id"]:
        pytest.skip("Sphinx or Babel is not installed")
    long = [phrase for phrase in found["id"] if len(phrase.text) > 40][
        :25
    ]  # a small catalogue: every string weighs much
    (intruder,) = phrases(["O arquivo de configuração não existe ou não pode ser lido pelo programa"])
    kept = languages.drop_wrong_language({"id": [*long, intruder], "es": found["es"]})
    assert intruder not in kept["id"] and len(kept["id"]) >= 11


def test_what_two_languages_share_and_what_is_no_word_is_dropped():
    shared = phrases(["módulo de índice", "Módulo de índice!"])
    places_ = phrases(["Tanzania"], "name")
    found = {"es": [*shared[:1], *places_, *phrases(["12 345 %", "hola", "hola"])], "pt": [*shared[1:], *places_]}
    kept = languages.drop_wrong_language(found)
    assert [p.text for p in kept["es"]] == ["Tanzania", "hola"]
    assert [p.text for p in kept["pt"]] == ["Tanzania"]


def test_placeholders_and_markup_leave_a_message():
    clean = languages.clean_message
    assert clean("la section %s est dans %(path)s, {name!r} aussi: ``x``") == "la section est dans, aussi"
    assert clean("voir :ref:`doc <x>` ou html_static_path sur https://a.b/c") == "voir ou sur"
    assert clean("100 % sûr\n  et certain") == "100 % sûr et certain"


# --- a folder, the hub ------------------------------------------------------------------------------------------------


def test_a_folder_is_split_and_freed_of_repeats(tmp_path):
    rng = np.random.default_rng(5)
    for i in range(30):
        (tmp_path / f"{i}.md").write_text(prose(rng, 100))
    (tmp_path / "copy.md").write_text((tmp_path / "3.md").read_text())
    (tmp_path / "binary.md").write_bytes(b"\0\1\2" * 100)
    (tmp_path / ".hidden").write_text(prose(rng, 100))
    corpus = load_corpus(str(tmp_path))
    names = [d.source for d in [*corpus.train, *corpus.validation]]
    assert len(names) == len(set(names)) == 30 and corpus.validation and corpus.train and not corpus.reserved
    assert {d.family for d in corpus.train} == {"md"} and corpus.name == tmp_path.name
    again = load_corpus(str(tmp_path))
    assert again.fingerprint == corpus.fingerprint
    kept = corpus.validation[0].source
    (tmp_path / "0.md").write_text(prose(rng, 120))
    changed = load_corpus(str(tmp_path))
    assert changed.fingerprint != corpus.fingerprint and changed.validation[0].source == kept


def test_one_file_gives_its_end_to_validation(tmp_path):
    text = prose(np.random.default_rng(6), 2000)
    (tmp_path / "all.txt").write_text(text)
    corpus = load_corpus(str(tmp_path))
    assert corpus.train[0].text + corpus.validation[0].text == text and corpus.train[0].text.endswith("\n")
    assert 0.03 < len(corpus.validation[0].text) / len(text) < 0.08


def test_few_files_leave_no_side_empty(tmp_path):
    rng = np.random.default_rng(7)
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text(prose(rng, 300))
    corpus = load_corpus(str(tmp_path))
    assert len(corpus.train) == 2 and len(corpus.validation) == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [(lambda p: None, "no folder of text files"), (lambda p: p.mkdir(), "holds 0 characters")],
    ids=["absent", "empty"],
)
def test_bad_folders_are_user_errors(tmp_path, make, says):
    make(tmp_path / "x")
    with pytest.raises(UserError, match=says):
        load_corpus(str(tmp_path / "x"))


def test_bad_limit_is_a_user_error():
    with pytest.raises(UserError, match="at least 1000"):
        load_corpus("installed", max_bytes_per_family=10)


def fake_datasets(monkeypatch, rows=None, error=None) -> list:
    calls = []

    def load_dataset(*args, **kwargs):
        calls.append((args, kwargs))
        if error:
            raise error
        return iter(rows)

    fake = SimpleNamespace(load_dataset=load_dataset, config=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "datasets", fake)
    monkeypatch.setattr("l2e_min.lab.hub.reachable", lambda: True)  # tests/test_hub.py walks the real way
    return calls


def test_the_hub_is_streamed_up_to_a_limit(monkeypatch):
    rng = np.random.default_rng(8)
    rows = [{"id": i, "title": "t", "text": prose(rng, 200)} for i in range(100)]
    calls = fake_datasets(monkeypatch, rows)
    monkeypatch.setattr(own_text, "HUB_BYTES", 50_000)
    corpus = load_corpus("hub:who/what:part")
    assert calls == [(("who/what", "part"), {"split": "train", "streaming": True})]  # and no code of the dataset is run
    read = [*corpus.train, *corpus.validation]
    assert 50_000 <= sum(len(d.text) for d in read) < 53_000 and corpus.name == "hub:who/what:part"
    assert {d.source for d in read} == {f"hub:who/what:part#{i}" for i in range(len(read))}


@pytest.mark.parametrize(
    ("text", "rows", "error", "says"),
    [
        ("hub:a/b", None, ConnectionError("no route to the host"), "no route to the host.*L2E_PROFILE=quick"),
        ("hub:a/b", [], None, "is empty"),
        ("hub:a/b", [{"question": "q", "answer": "a", "n": 1}], None, "no text column.*answer.*question"),
        ("hub:a/b", [{"text": "x" * 100}], None, "holds 100 bytes"),
        ("hub:", [], None, "no dataset named"),
    ],
)
def test_hub_trouble_is_a_user_error(monkeypatch, text, rows, error, says):
    fake_datasets(monkeypatch, rows, error)
    with pytest.raises(UserError, match=says):
        load_corpus(text)


def test_the_text_column_is_the_usual_one_or_the_only_one():
    assert own_text.text_column({"id": 1, "title": "t", "content": "c"}) == "content"
    assert own_text.text_column({"id": 1, "story": "c"}) == "story"


# --- the installed text -----------------------------------------------------------------------------------------------


SLOW_FIXTURES = {"corpus"}  # all installed text


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus("installed")


def test_the_installed_text_is_large_and_balanced(corpus):
    size = Counter()
    for document in corpus.train:
        size[document.family] += len(document.text)
    total = sum(size.values())
    assert 25e6 < total < 45e6
    assert max(size.values()) < 0.55 * total and size["docstrings"] > 0.1 * total
    wanted = {"python", "docstrings", "cpp", "c", "cython", "javascript", "html", "css", "cmake", "latex", "json",
              "yaml", "tables", "manual", "readmes", "licences", "other_languages", *languages.LANGUAGES}  # fmt: skip
    assert corpus.missing or set(size) == wanted
    assert 0.02 < sum(len(d.text) for d in corpus.validation) / total < 0.1


def test_no_file_is_in_two_splits_and_names_are_of_no_machine(corpus):
    splits = [{d.source for d in part} for part in (corpus.train, corpus.validation, corpus.reserved)]
    assert not splits[0] & splits[1] and not splits[0] & splits[2] and not splits[1] & splits[2]
    for source in set.union(*splits):
        assert not source.startswith(("/", ".")) and "\\" not in source and "site-packages" not in source
        assert not source.startswith("l2e")  # this project's own text would change with every commit
    names = [d.source for d in [*corpus.train, *corpus.validation]]
    twice = {name for name, n in Counter((d.family, d.source) for d in corpus.train).items() if n > 1}
    assert not twice and len(names) == len(set(names))


def test_no_text_is_in_training_and_validation(corpus):
    repeated = overlap.near_duplicates([d.text for d in corpus.train + corpus.validation])
    assert not repeated
    assert not {d.text for d in corpus.train} & {d.text for d in corpus.validation}


def test_the_table_adds_up(corpus):
    table = [row for row in corpus.table() if row["split"] == "train"]
    assert set(table[0]) == {"family", "split", "files", "kB", "share"}
    assert sum(row["files"] for row in table) == len(corpus.train)
    assert abs(sum(row["share"] for row in table) - 1) < 0.01
    absent = Corpus("x", corpus.train[:2], [], missing=("pyarrow",)).table()[-1]
    assert absent["family"] == "(absent: pyarrow)" and absent["files"] == 0


def test_the_fingerprint_sees_every_change(corpus):
    a, b = Document("one\n", "s", "f"), Document("two\n", "t", "f")
    prints = {Corpus("n", t, v).fingerprint for t, v in (([a], [b]), ([b], [a]), ([a, b], []), ([a], []))}
    assert len(prints) == 4
    assert Corpus("n", [a], [b], reserved=(a,)).fingerprint == Corpus("m", [a], [b]).fingerprint  # what is trained on
    assert len(corpus.fingerprint) == 64


def test_a_limit_keeps_less_of_each_family(corpus):
    small = load_corpus("installed", max_bytes_per_family=30_000)
    size = Counter()
    for document in small.train:
        size[document.family] += len(document.text.encode())
    assert max(size.values()) <= 30_000 and set(size) == {d.family for d in corpus.train}
    assert size["python"] > 20_000 and small.reserved == corpus.reserved
    assert {d.source for d in small.train} <= {d.source for d in corpus.train}


# --- absent packages and the cache, on a small stand-in ---------------------------------------------------------------


@pytest.fixture
def little(monkeypatch, tmp_path):
    """A few hundred kB of the standard library, a package that is absent, and a cache of its own."""
    groups = (
        places.Files("python", ("stdlib",), (".py",), 400_000, places.SKIP | {"idlelib"}),
        places.Files("cython", ("no_such_package_here", "no_such_package_here/inner"), (".pyx",)),
    )
    monkeypatch.setattr(sources, "GROUPS", groups)
    monkeypatch.setattr(sources, "PROSE", ("no_such_package_here",))
    monkeypatch.setattr(sources, "DISTRIBUTIONS", ("no-such-distribution", "numpy"))
    monkeypatch.setattr(languages, "locate", lambda name: None)
    monkeypatch.setattr(languages, "_names", lambda language: iter(()))
    monkeypatch.setattr(installed, "BUILD", tmp_path)
    return tmp_path


def test_absent_packages_make_the_text_smaller_and_are_named(little):
    corpus = installed.installed_corpus(cache=False)
    assert corpus.train and not list(little.iterdir())
    assert {"no_such_package_here", "no-such-distribution", "sphinx", "babel"} <= set(corpus.missing)
    assert any("no_such_package_here" in str(row["family"]) for row in corpus.table())


def test_the_cache_is_plain_json_survives_damage_and_does_not_grow(little, monkeypatch):
    first = installed.installed_corpus()
    (path,) = (little / "text").iterdir()
    assert set(json.loads(path.read_text(encoding="utf-8"))) == {"name", "missing", "train", "validation", "reserved"}
    with monkeypatch.context() as patch:
        patch.setattr(installed, "_build", lambda: pytest.fail("read again"))
        second = installed.installed_corpus()
    assert second == first and second.fingerprint == first.fingerprint
    path.write_text('{"name": "installed", "train": [["cut')
    assert installed.installed_corpus() == first and json.loads(path.read_text(encoding="utf-8"))
    for i in range(6):
        (little / "text" / f"installed-{i}.json").write_text("{}")
    path.unlink()
    installed.installed_corpus()
    assert len(list((little / "text").iterdir())) == installed.KEPT and path.is_file()


def test_another_version_of_a_package_is_read_anew(little, monkeypatch):
    before = installed._versions_key()
    monkeypatch.setattr(installed.importlib.metadata, "version", lambda name: "0.0.0")
    assert installed._versions_key() != before


def test_docstrings_are_found_in_order_and_broken_code_is_survived():
    long = "A sentence that is long enough to be kept as prose."
    code = f'"""Module. {long}"""\nclass A:\n    """Class. {long}"""\n    def f(self):\n        """Method. {long}"""\n'
    found = sources.docstrings(code + f'def g():\n    """Last. {long}"""\n').split("\n\n")
    assert [text.split(".")[0] for text in found] == ["Module", "Class", "Method", "Last"]
    assert sources.docstrings("def broken(:\n") == ""


def test_minified_text_is_told_from_written_text():
    assert sources.machine_made("x=1;" * 1000)
    assert not sources.machine_made("a line of usual length\n" * 500)
