"""The hooks before a commit: the project's own ruff, nothing from the network."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
HOOKS = [
    hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for hook in repo["hooks"]
]


def test_every_hook_is_local():
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"] and all(hook["language"] == "system" for hook in HOOKS)
    assert all("additional_dependencies" not in hook for hook in HOOKS)


@pytest.mark.parametrize(
    ("text", "fails"),
    [("x = 1\n", set()), ("x  =  1\n", {"ruff-format"}), ("import os\n\nx = 1\n", {"ruff-check"})],
)
def test_hooks_see_what_is_wrong(tmp_path, text, fails):
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "a.py").write_text(text)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # the environment that is active
    failed = set()
    for hook in HOOKS:
        done = subprocess.run(
            [*shlex.split(hook["entry"]), "a.py"], cwd=tmp_path, env={"PATH": path}, capture_output=True
        )
        failed |= {hook["id"]} if done.returncode else set()
    assert failed == fails
