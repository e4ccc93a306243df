"""Explorers under ipywidgets 7, as some Colab images have it: a real kernel, moved by the messages a browser sends.

The old release lives in a throw-away environment that sees this one's other packages.
"""

import base64
import json
import re
import site
import subprocess
import sys
import time
from pathlib import Path
from queue import Empty

import pytest
from jupyter_client import BlockingKernelClient, KernelManager
from jupyter_client.kernelspec import KernelSpecManager

ROOT = Path(__file__).resolve().parents[1]
OLD = "7.8.5"
PATIENCE = 90  # seconds; drawing four small frames takes one

CELL = """
import ipywidgets
from l2e_min.show import Slider, explorer, new_figure

def draw(share, kind):
    fig, ax = new_figure(width=2, height=1.5)
    ax.plot([0, share], "o-" if kind == "line" else "o")
    return fig

shown = explorer(draw, {"share": Slider([0.25, 0.75], play=True), "kind": ["line", "dots"]}, title="Shares")
shown
"""
QUESTION = """
import base64
print(ipywidgets.__version__, hasattr(ipywidgets, "Stack"))
for name in ("share", "kind"):
    print(shown.selectors[name].model_id)
print(shown.widget.children[1].children[1].model_id)  # the play button
print(shown.widget.children[-1].model_id)
for share in (0.25, 0.75):
    for kind in ("line", "dots"):
        print(base64.b64encode(shown.frame(share=share, kind=kind).data).decode())
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """A Python that finds ipywidgets 7 first and everything else here."""
    folder = tmp_path_factory.mktemp("old") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (place,) = folder.glob("lib/python*/site-packages")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    old = ["--target", place, f"ipywidgets=={OLD}", "ipython_genutils"]
    try:
        done = subprocess.run([*install, *old], capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        pytest.skip("the package index does not answer")
    if done.returncode:
        pytest.skip(f"ipywidgets {OLD} cannot be installed here: {done.stderr.strip()[-200:]}")
    (place / "others.pth").write_text("".join(f"{path}\n" for path in (*site.getsitepackages(), ROOT)))
    return folder / "bin" / "python"


class Kernel:
    """A running kernel, and what a browser would hear and say."""

    def __init__(self, client: BlockingKernelClient):
        self.client = client

    def run(self, code: str) -> list[dict]:
        """The messages that a cell's code brings about."""
        heard = []
        reply = self.client.execute_interactive(code, timeout=PATIENCE, output_hook=heard.append)
        assert reply["content"]["status"] == "ok", reply["content"]
        return heard

    def move(self, model: str, **state) -> None:
        """What a browser sends when a reader moves a control."""
        data = {"method": "update", "state": state, "buffer_paths": []}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", {"comm_id": model, "data": data}))

    def update_of(self, model: str, name: str):
        """The next new value of a model's trait that the kernel tells the browser."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except Empty:
                continue
            content = message["content"]
            if message["msg_type"] == "comm_msg" and content["comm_id"] == model and name in content["data"]["state"]:
                return content["data"]["state"][name]
        raise AssertionError(f"the kernel said nothing about {name} in {PATIENCE} s")


@pytest.fixture(scope="module")
def kernel(python, tmp_path_factory):
    specs = tmp_path_factory.mktemp("kernels")
    (specs / "old").mkdir()
    spec = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "old"}
    (specs / "old" / "kernel.json").write_text(json.dumps(spec))
    manager = KernelManager(kernel_name="old", kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(specs)]))
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_an_explorer_is_moved_through_the_kernel(kernel):
    shown = [message for message in kernel.run(CELL) if message["msg_type"] == "execute_result"]
    data = shown[0]["content"]["data"]
    said = "".join(m["content"]["text"] for m in kernel.run(QUESTION) if m["msg_type"] == "stream")
    version, share, kind, play, view, *frames = said.split("\n")[:9]
    assert version == f"{OLD} False", "this test is about the release without Stack"
    assert set(data) == {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}

    def picture() -> str:
        html = kernel.update_of(view, "value")
        assert 'alt="Shares; share = ' in html
        found = re.search(r'base64,([^"]+)', html)[1]
        assert base64.b64decode(found).startswith(b"\x89PNG")
        return found

    assert len(set(frames)) == 4
    kernel.move(share, index=1)  # 0.75, line
    assert picture() == frames[2]
    kernel.move(kind, index=1)  # 0.75, dots
    assert picture() == frames[3]
    kernel.move(play, value=0)  # the play button turns the slider, the slider the picture: 0.25, dots
    assert picture() == frames[1]
