"""A suite of mini Pythias as Pythia is one (B23): scales and seeds that read the same text in the same order.

Within the suite a seed moves the initial weights alone; the order of the text is everywhere that of ``DATA_SEED``.
Every run keeps its weights after 1, 2, 4, 8, ... steps. The folder holds ``suite.json``, the ``tokenizer`` that all
share, and one run per scale and seed in ``SCALE/seedN``.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2e_min.lab.errors import UserError
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.lab.training.run_folder import read_json, write_json

DATA_SEED = 0
"""Draws the order in which every run of a suite reads the text."""

DEFAULTS = {"steps": 2000, "validate_every": 50}
"""Settings of a suite's runs that are not ``PretrainSettings``' own. 4.1M tokens, a quarter of the installed text, so
that no run reads anything twice; and frequent looks, so that scales can be compared at equal loss."""


LEARNING_RATES = {"256x6": 2e-3}
"""Peaks that are not the mini scales' own: at their 4e-3, 256x6 ended above 192x5 (data/models/suite/left_out).
2e-3 follows Pythia, which lowers the rate as scale grows (B23); no scale has been tuned."""


@dataclass(frozen=True)
class Scale:
    """A scale of the default suite."""

    size: str
    """HIDDENxLAYERS."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """What is trained: three, the fewest that give an interval over seeds."""

    ships: tuple[int, ...] = (0,)
    """Seeds that are exported. All weights that ship must stay below 30 MB."""

    steps: tuple[int, ...] = ()
    """Snapshots of the first seed that are exported, by their step."""


SUITE = (
    Scale("32x2", ships=(0, 1, 2), steps=(4, 16, 64, 256, 1024)),
    Scale("64x3", ships=(0, 1, 2), steps=(16, 64, 512)),
    Scale("128x4", ships=(0, 1), steps=(64,)),
    Scale("192x5"),
    Scale("256x6"),
)
"""The suite that ships, smallest scale first."""


@dataclass(frozen=True)
class Run:
    """One run of a suite."""

    size: str
    seed: int
    ships: bool
    steps: tuple[int, ...]
    """Its snapshots that are exported."""

    @property
    def folder(self) -> str:
        return f"{self.size}/seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.size} seed {self.seed}"


def plan(scales: Sequence[str] | None = None, seeds: Sequence[int] | None = None) -> list[Run]:
    """The runs in the order of training. ``scales`` and ``seeds`` replace the default suite's; a scale that is not in
    it gets seeds 0 to 2. What is asked for by seed ships as well; of a scale the first seed's snapshots ship.
    """
    known = {scale.size: scale for scale in SUITE}
    runs = []
    for size in dict.fromkeys(scales if scales is not None else known):
        scale = known.get(size, Scale(size))
        chosen = tuple(dict.fromkeys(seeds if seeds is not None else scale.seeds))
        ships = scale.ships if seeds is None else chosen
        for seed in chosen:
            first = seed == chosen[0]
            runs.append(Run(size, seed, seed in ships, scale.steps if first else ()))
    return runs


def snapshot_steps(steps: int) -> list[int]:
    """1, 2, 4, ... up to ``steps``: Pythia's early checkpoints (B23) go on to 512, ours to the end."""
    return [2**power for power in range(steps.bit_length())]


def train_suite(
    out: Path,
    runs: Sequence[Run] | None = None,
    *,
    checkpoint_every: int = 500,
    corpus: Any = None,
    progress: bool = True,
    say: Callable[[str], None] = print,
    **settings: Any,
) -> list[dict]:
    """Trains ``runs`` (default: ``plan()``) one after another in ``out``; their results, see ``pretrain``.

    Goes on where an earlier call was stopped or killed: finished runs are only read, and one that was begun resumes bit
    for bit. ``settings`` are those of ``PretrainSettings`` but size and seeds; ``say`` gets one line a run. Raises
    ``UserError`` for bad settings before anything is trained, and for other settings or other text than the suite in
    ``out`` began with; ``Interrupted`` after Ctrl-C or SIGTERM.
    """
    from l2e_min.lab.training.pretrain import pretrain  # slow to import, and bad settings need not wait for it

    runs = plan() if runs is None else runs
    chosen = {**DEFAULTS, **settings}
    each = {run: settings_of(run, chosen) for run in runs}
    if corpus is None and not all((out / run.folder / "result.json").is_file() for run in runs):
        from l2e_min.lab.text.corpus import load_corpus

        corpus = load_corpus(chosen.get("text", PretrainSettings.text))
    if corpus is not None:
        hold_to_text(out, corpus)
    results = []
    for run in runs:
        folder = out / run.folder
        if not (folder / "result.json").is_file():
            share_tokenizer(out, folder, each[run], corpus)
        started = time.perf_counter()
        result = pretrain(
            each[run],
            folder,
            checkpoint_every=checkpoint_every,
            snapshots=snapshot_steps(each[run].steps),
            corpus=corpus,
            progress=progress,
        )
        say(
            f"{run}: {result['settings']['steps']} steps, {result['tokens']} tokens; validation loss "
            f"{result['validation_loss']:.3f} nats a token, {result['validation_bits_per_byte']:.3f} bits per byte "
            f"({time.perf_counter() - started:.0f} s)"
        )
        results.append(result)
    return results


def settings_of(run: Run, chosen: dict) -> PretrainSettings:
    """The settings of a run; a learning rate in ``chosen`` goes before the scale's own."""
    rate = {"learning_rate": LEARNING_RATES.get(run.size, 0.0)}
    return PretrainSettings(**{**rate, **chosen}, size=run.size, seed=run.seed, data_seed=DATA_SEED)


def hold_to_text(out: Path, corpus: Any) -> None:
    """Writes down which text the suite reads, or raises ``UserError`` where it began with another."""
    text = {"name": corpus.name, "fingerprint": corpus.fingerprint}
    stored = read_json(out / "suite.json")
    if stored is None:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "suite.json", {"text": text})
    elif stored["text"] != text:
        raise UserError(
            f"the text is not the one the suite in {out} began with (fingerprint was {stored['text']['fingerprint']}, "
            f"is {text['fingerprint']}); installed text changes with package versions: start again in an empty folder"
        )


def share_tokenizer(out: Path, run: Path, settings: PretrainSettings, corpus: Any) -> None:
    """Puts the suite's tokenizer into a run's folder; trains (or loads) it for the first one."""
    from l2e_min.lab.tokenizer import load_tokenizer, train_tokenizer

    shared = out / "tokenizer"
    if not shared.is_dir():
        if settings.tokenizer == "train":
            texts = [document.text for document in corpus.train]
            tokenizer = train_tokenizer(texts, settings.vocabulary, settings.context)
        else:
            tokenizer = load_tokenizer(settings.tokenizer)
        whole(shared, tokenizer.save_pretrained)
    if not (run / "tokenizer").is_dir():
        run.mkdir(parents=True, exist_ok=True)
        whole(run / "tokenizer", lambda folder: shutil.copytree(shared, folder))


def whole(folder: Path, write: Callable[[Path], Any]) -> None:
    """Lets ``write`` make ``folder`` so that a killed run leaves either all of it or nothing."""
    temporary = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    write(temporary)
    os.rename(temporary, folder)
