"""pyproject.toml, constraints.txt and environment.yml say the same thing."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(text) for text in [*PROJECT["dependencies"], *chain(*EXTRAS.values())]]
OUTSIDE = [requirement for requirement in REQUIREMENTS if requirement.name != PROJECT["name"]]


def read_pins(text: str) -> dict[str, Version]:
    """Pins of a constraints file by canonical name; a line that is no plain ``name==version`` fails."""
    pins = {}
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        found = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)(\s*;.*)?", line)
        assert found, f"constraints.txt: {line!r} is not of the form name==version"
        name = canonicalize_name(found[1])
        assert name not in pins, f"constraints.txt pins {name} twice"
        pins[name] = Version(found[2])
    return pins


@pytest.fixture(scope="module")
def pins() -> dict[str, Version]:
    return read_pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("requirement", OUTSIDE, ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_within_its_range(requirement, pins):
    name = canonicalize_name(requirement.name)
    assert name in pins, f"constraints.txt does not pin {name}"
    assert pins[name] in requirement.specifier, f"{name}=={pins[name]} is outside pyproject's {requirement.specifier}"


def test_torch_is_pinned_in_the_spelling_that_takes_the_small_build(pins):
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_a_broken_constraints_line_is_seen():
    with pytest.raises(AssertionError, match="form name==version"):
        read_pins("torch>=2.13")
    with pytest.raises(AssertionError, match="twice"):
        read_pins("PyYAML==6.0\npyyaml==6.1")


def test_conda_takes_a_python_in_range(environment):
    (python,) = [item for item in environment["dependencies"] if isinstance(item, str) and item.startswith("python=")]
    version = python.removeprefix("python=")
    assert Version(f"{version}.0") in Requirement(f"python{PROJECT['requires-python']}").specifier


def test_conda_installs_all_extras_with_the_constraints(environment):
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert pip == ["-c constraints.txt", "-e .[all]"]
    assert "pip" in environment["dependencies"]
    assert environment["name"] == PROJECT["name"]


def test_conda_names_no_second_version_of_anything(environment):
    named = {re.split("[=<>]", item)[0] for item in environment["dependencies"] if isinstance(item, str)}
    assert named == {"python", "pip"}


def test_all_holds_every_extra():
    (everything,) = [Requirement(text) for text in EXTRAS["all"]]
    assert everything.name == PROJECT["name"]
    assert everything.extras == set(EXTRAS) - {"all"}


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
