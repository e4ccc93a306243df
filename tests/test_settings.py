"""Three profiles: which one is chosen, what it says, and what it does without a hub."""

import ast
import dataclasses
import inspect
from itertools import pairwise

import pytest

from l2e_min.lab import hub
from l2e_min.lab import settings as module
from l2e_min.lab.errors import UserError
from l2e_min.lab.settings import PROFILES, Settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("L2E_PROFILE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def machine(monkeypatch, *, cuda: bool) -> None:
    monkeypatch.setattr(module, "_cuda", lambda: cuda)


def test_there_are_three_profiles():
    assert list(PROFILES) == ["quick", "gpu", "paper"]
    assert all(settings.profile == name for name, settings in PROFILES.items())


@pytest.mark.parametrize(("cuda", "name"), [(True, "gpu"), (False, "quick")])
def test_what_is_there_decides(monkeypatch, cuda, name):
    machine(monkeypatch, cuda=cuda)
    assert Settings.from_environment() == PROFILES[name]


def test_the_variable_decides_over_the_machine(monkeypatch):
    machine(monkeypatch, cuda=True)
    monkeypatch.setenv("L2E_PROFILE", "quick")
    assert Settings.from_environment() is PROFILES["quick"]
    assert Settings.from_environment().device == "cpu"


def test_an_empty_variable_is_none(monkeypatch):
    machine(monkeypatch, cuda=False)
    monkeypatch.setenv("L2E_PROFILE", " ")
    assert Settings.from_environment().profile == "quick"


def test_an_unknown_profile_names_the_three(monkeypatch):
    monkeypatch.setenv("L2E_PROFILE", "fast")
    with pytest.raises(UserError, match="'fast'; expected one of quick, gpu, paper"):
        Settings.from_environment()


def test_gpu_without_a_gpu_says_what_works(monkeypatch):
    machine(monkeypatch, cuda=False)
    monkeypatch.setenv("L2E_PROFILE", "gpu")
    with pytest.raises(UserError, match="no CUDA device here; L2E_PROFILE=quick"):
        Settings.from_environment()


def test_paper_without_a_gpu_goes_on_the_cpu(monkeypatch):
    machine(monkeypatch, cuda=False)
    monkeypatch.setenv("L2E_PROFILE", "paper")
    assert (Settings.from_environment().device, Settings.from_environment().dtype) == ("cpu", "float32")


def test_quick_asks_no_torch(monkeypatch):
    monkeypatch.setattr(module, "_cuda", lambda: pytest.fail("quick must not look for a device"))
    monkeypatch.setenv("L2E_PROFILE", "quick")
    assert Settings.from_environment().profile == "quick"


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROFILES["quick"].device = "cuda"


def test_a_docstring_stands_under_every_field():
    body = ast.parse(inspect.getsource(Settings)).body[0].body
    for field, after in pairwise(body):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant), ast.unparse(field)
    assert sum(isinstance(node, ast.AnnAssign) for node in body) == len(dataclasses.fields(Settings))


def test_scales_grow_and_belong_to_their_profile():
    for settings in PROFILES.values():
        assert len(settings.scales) >= 3
        assert settings.model in settings.scales
    for name in ("quick", "gpu"):
        assert not PROFILES[name].needs_hub
        sizes = [tuple(map(int, scale.split("x"))) for scale in PROFILES[name].scales]
        assert sizes == sorted(sizes)
    assert PROFILES["paper"].needs_hub


def test_description_says_profile_place_model_text_and_cost():
    text = PROFILES["quick"].describe()
    assert text == (
        "Profile: quick (CPU); others: L2E_PROFILE=gpu, L2E_PROFILE=paper\n"
        "Model:   the shipped mini Pythia 128x4\n"
        "Text:    text that is installed anyway\n"
        "Cost:    about a minute on 2 cores, nothing is downloaded"
    )
    assert "Cost:    20 seconds" in PROFILES["quick"].describe(cost="20 seconds")
    assert "hub:EleutherAI/pythia-70m" in PROFILES["paper"].describe()


def test_without_a_hub_one_line_names_what_works(monkeypatch):
    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr(hub, "offline", lambda: False)
    PROFILES["quick"].require_hub()
    with pytest.raises(UserError, match=r"paper needs the Hugging Face hub.*no answer.*L2E_PROFILE=quick") as caught:
        PROFILES["paper"].require_hub()
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(hub, "offline", lambda: True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        PROFILES["paper"].require_hub()


def test_with_a_hub_nothing_is_said(monkeypatch):
    monkeypatch.setattr(hub, "reachable", lambda: True)
    PROFILES["paper"].require_hub()


@pytest.mark.parametrize("name", ["quick", "gpu"])
def test_who_needs_no_hub_asks_none(monkeypatch, name):
    monkeypatch.setattr(hub, "reachable", lambda: pytest.fail("asked for the hub"))
    PROFILES[name].require_hub()
