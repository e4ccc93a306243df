"""Fixtures that several test files share."""

import random
from types import SimpleNamespace

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """A module's ``SLOW_FIXTURES`` are those that take many seconds to set up: every test with one of them is slow."""
    for item in items:
        if set(getattr(item, "fixturenames", ())) & getattr(getattr(item, "module", None), "SLOW_FIXTURES", set()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def one_thread():
    """One thread for torch, whose results may depend on their number."""
    import torch  # here: tests that need none of it start at once

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus():
    """Six documents of five words to train on and two to validate on, for runs of a few steps."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(["the", "neuron", "def", "return", "x"], k=200)) for _ in range(8)]
    documents = [SimpleNamespace(text=text) for text in texts]
    return SimpleNamespace(name="words", train=documents[:6], validation=documents[6:], fingerprint="f" * 64)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home folder for the Hugging Face libraries, empty at first."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def gone(hub):
    """The module's stand-in for the hub, out of reach for a test."""
    hub.stop()
    yield
    hub.start()
