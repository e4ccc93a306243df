"""Makes a notebook on Colab or Kaggle ready: installs what the platform lacks, and leaves its torch alone.

The first cell of every chapter (``first_cell.py`` beside this file) fetches the repository and runs this file in the
notebook's own process. What is needed stands in ``pyproject.toml`` and nowhere else.
"""

import importlib
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("lab", "show")  # what chapters import; not what renders and tests them
KEPT = (
    "torch",
    "torchvision",
    "torchaudio",
)  # built for the platform's GPU, gigabytes to fetch, perhaps loaded already


def requirements(pyproject: Path = ROOT / "pyproject.toml") -> list[str]:
    """What a chapter needs, in pip's words, read from the project's own file."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return project["dependencies"] + [text for extra in EXTRAS for text in project["optional-dependencies"][extra]]


def versions() -> dict[str, str]:
    """Installed packages and their versions."""
    return {found.name: found.version for found in metadata.distributions() if found.name}


def get_ready(root: Path = ROOT, run=subprocess.run) -> None:
    """Installs what is missing and makes ``l2e_min`` importable in this process.

    A package that was loaded before and has another version now is named: then the session has to be restarted.

    Raises:
        subprocess.CalledProcessError: pip failed; what it said stands above.
    """
    before = versions()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept.txt"
        kept.write_text("".join(f"{name}=={before[name]}\n" for name in KEPT if name in before))
        run([*pip, "-c", str(kept), *requirements(root / "pyproject.toml")], check=True)
    run([*pip, "--no-deps", "-e", str(root)], check=True)
    sys.path.insert(0, str(root))  # an editable install is seen by the next process, and this one goes on
    importlib.invalidate_caches()
    stale = [name for name in outdated(before, versions()) if name != "l2e-min"]
    if stale:
        print(f"Restart the session, then run this cell again: {', '.join(stale)} was loaded before it was replaced.")


def outdated(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Packages with another version than before, of which this process has loaded modules."""
    changed = {name for name in before if after.get(name) != before[name]}
    loaded = {
        name for module, names in metadata.packages_distributions().items() if module in sys.modules for name in names
    }
    return sorted(changed & loaded)


if __name__ == "__main__":
    get_ready()
