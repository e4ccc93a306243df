"""The committed book: notebooks that tell the truth, pages that need no network, licences beside the scripts."""

import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
sys.path.insert(0, str(BOOK / "_tools"))

import check  # noqa: E402
import execute  # noqa: E402

VENDOR = BOOK / "_extra" / "_static" / "vendor"


def files_of_toc() -> list[str]:
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    return [toc["root"], *(chapter["file"] for chapter in toc["chapters"])]


def test_the_table_of_contents_lists_every_chapter():
    pages = [path.stem for path in BOOK.glob("*.md")]
    assert [name for name in files_of_toc() if name not in pages] == [path.stem for path in execute.chapters()]


def test_the_table_of_contents_lists_every_page_without_code():
    assert sorted(set(files_of_toc()) - {path.stem for path in execute.chapters()}) == sorted(
        path.stem for path in BOOK.glob("*.md")
    )


def test_one_bibliography():
    sources = [*BOOK.glob("*.md"), *execute.chapters()]
    assert [path.name for path in sources if "{bibliography}" in path.read_text()] == ["references.md"]


@pytest.mark.parametrize("source", execute.chapters(), ids=lambda path: path.stem)
def test_notebook_tells_the_truth(source):
    found = check.problems(source, BOOK / f"{source.stem}.ipynb")
    assert not found, "\n".join(found)


def test_no_notebook_without_a_source():
    assert [text for text in check.all_problems() if "no chapter" in text] == []


def test_chapters_cite_what_exists():
    keys = set(re.findall(r"@\w+\{(\w+),", (BOOK / "references.bib").read_text()))
    assert {"W24", "W25", "G23", "B23", "Y24", "D24", "A24"} <= keys
    for source in execute.chapters():
        for names in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", source.read_text()):
            assert {name.strip() for name in names.split(",")} <= keys, source.name


def test_every_script_of_the_page_is_ours_to_ship():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    static = BOOK / "_extra" / "_static"
    for name in [config["mathjax_path"], *config["nb_ipywidgets_js"], *config["html_css_files"]]:
        assert "//" not in name and (static / name).is_file(), name
    for folder in ("html-manager", "mathjax"):
        assert (VENDOR / folder / "LICENSE").is_file()
    manager = (VENDOR / "html-manager" / "embed.js").read_text()
    for font in re.findall(r"[0-9a-f]{20}\.woff2", manager):
        assert (VENDOR / "html-manager" / font).is_file(), font
    assert len(list((VENDOR / "mathjax/output/chtml/fonts/woff-v2").glob("*.woff"))) > 20


def test_one_repository_address():
    address = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    owner = address.removeprefix("https://github.com/")
    for source in execute.chapters():
        for found in re.findall(r"github\.com/([\w-]+/l2e[\w-]*)", source.read_text()):
            assert found == owner, f"{source.name} names another repository"
