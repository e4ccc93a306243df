"""What the README tells a newcomer to type works."""

import re
import sys
from pathlib import Path

from models import build

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))

import readme_picture  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_three_lines_run_as_they_stand():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    model, batch, _, _ = build("gpt_neox")
    names = {"model": model.train(), "batch": batch}
    exec(code, names)
    assert names["loss"].requires_grad and names["inhibitor"].report().rows[0]["batches"] == 1


def test_commands_and_folders_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {one or other for one, other in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", README, re.MULTILINE)} <= set(
        targets
    )
    for place in re.findall(r"^\| `([\w/]+/)", README, re.MULTILINE):
        assert (ROOT / place).is_dir(), place


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https://arxiv)([^)]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_the_picture_is_what_the_welcome_page_measured():
    assert "book/first_result.png" in README
    # Asked this way a failure names the cure, and does not print two pictures.
    assert readme_picture.up_to_date(), "run python book/_tools/readme_picture.py"
