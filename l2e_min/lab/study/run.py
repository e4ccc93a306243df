"""A study of one model or of a whole suite, written down model by model so that it can be stopped at any moment."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from l2e_min.lab.errors import UserError
from l2e_min.lab.hub import split_name
from l2e_min.lab.mini_pythia import load_model, load_suite
from l2e_min.lab.paths import BUILD, DATA
from l2e_min.lab.record import Record, read
from l2e_min.lab.settings import Settings
from l2e_min.lab.study.dataset import parts_of
from l2e_min.lab.study.levels import SHARES
from l2e_min.lab.study.members import STEPS, Member, is_suite, members
from l2e_min.lab.study.model import held_out_rows, study_model
from l2e_min.lab.text.features import FeatureDataset, load_features
from l2e_min.lab.training.run_folder import versions

RECORD = DATA / "results" / "scale_study.jsonl"
"""The study of the whole suite, as ``l2e study runs/suite --out runs/study`` writes it."""


def study(
    name: str,
    out: Path,
    features: Sequence[str],
    *,
    rows_per_feature: int = 200,
    random_neurons: int = 1000,
    seed: int = 0,
    steps: Sequence[int] = STEPS,
    off: bool = True,
    device: str = "cpu",
    dtype: str = "float32",
    progress: bool = True,
    say: Callable[[str], None] = print,
    **stream_options,
) -> list[dict]:
    """Measures a model's folder, a suite's folder or ``hub:NAME``; the rows of ``out/study.jsonl``.

    ``features``: names or folders as ``load_features`` takes them. ``steps``: of a suite, the snapshots to measure
    beside the end of training. ``off``: whether neurons are switched off (at the end of training only; the matrix over
    features for the first seed of a scale only). ``dtype``: of a single model's weights; measurements are in float32.
    Goes on where an earlier call was stopped. Raises ``UserError`` for bad names, for texts that cannot be split, and
    for a record that was made with other settings, on other texts, or of another model of the same name.
    """
    models = members(Path(name), steps) if is_suite(Path(name)) else [single(name, dtype)]
    datasets = [load_features(feature, rows_per_feature) for feature in features]
    if len({data.name for data in datasets}) < len(datasets):
        raise UserError(f"two feature sets have one name: {', '.join(data.name for data in datasets)}; rename a folder")
    for data in datasets:
        parts_of(data, seed)  # says what is wrong before the measuring, not after hours of it
    held_out = held_out_rows()
    header = {
        "datasets": {data.name: data.features for data in datasets},
        "rows_per_feature": rows_per_feature,
        "random_neurons": random_neurons,
        "seed": seed,
        "shares": list(SHARES),
        "texts": fingerprint(datasets, held_out),
        **{key: value for key, value in stream_options.items() if key == "aggregate"},
        "versions": versions(),
    }
    record = Record(out / "study.jsonl", header)
    last = {(m.scale, m.seed): m.step for m in models}
    first = {m.scale: m.seed for m in reversed(models)}
    todo = [m for m in models if not measured(record, m, off and m.step == last[m.scale, m.seed])]
    for number, member in enumerate(todo, 1):
        say(f"{member} ({number} of {len(todo)})")
        model, tokenizer = member.load()
        found = study_model(
            model.to(device), tokenizer, datasets, held_out,
            random_neurons=random_neurons, seed=seed, progress=progress,
            off=off and member.step == last[member.scale, member.seed], matrix=member.seed == first[member.scale],
            **stream_options,
        )  # fmt: skip
        weights = {"weights": member.weights} if member.weights else {}
        record.add({"scale": member.scale, "seed": member.seed, "step": member.step, **weights, **found})
    keys = {(m.scale, m.seed, m.step) for m in models}
    return [row for row in record.rows if (row["scale"], row["seed"], row["step"]) in keys]


def measured(record: Record, member: Member, off: bool) -> bool:
    """Whether a record has this very model, with neurons switched off where that is wanted; UserError: only nearly."""
    row = record.find(scale=member.scale, seed=member.seed, step=member.step)
    if row is None:
        return False
    if row.get("weights", "") != member.weights:
        raise UserError(f"{record.path} holds another model that is named {member.scale}: choose another folder")
    if off and not all("rise" in found for found in row["datasets"].values()):
        raise UserError(f"{record.path} has {member} without neurons switched off: choose another folder, or --no-off")
    return True


def fingerprint(datasets: Sequence[FeatureDataset], held_out: Sequence[str]) -> str:
    """Digest of all texts that a study reads; installed text moves with package versions."""
    content = [[data.texts, data.labels.tolist(), data.sources] for data in datasets]
    return hashlib.sha256(json.dumps([content, held_out]).encode()).hexdigest()[:16]


def across_scales(settings: Settings, features: Sequence[str]) -> list[dict]:
    """The rows of the profile's study over scales: the shipped suite's from the record, hub models' measured now.

    The record is of every seed and snapshot that ``l2e pretrain suite`` trains, far more than ships. Hub models are
    measured into BUILD/study, where a stopped study goes on.
    """
    if not settings.needs_hub:
        return read(RECORD)[1]
    rows = []
    for name in (*settings.scales, *settings.revisions):
        rows += study(
            name, BUILD / "study", features, rows_per_feature=settings.rows_per_feature,
            random_neurons=settings.random_neurons, device=settings.device, dtype=settings.dtype,
            batch_size=settings.batch_size, off=name in settings.scales,
        )  # fmt: skip
    return rows


def load_scale(name: str, settings: Settings) -> tuple:
    """(model, tokenizer) of one of the profile's scales: of the shipped suite (seed 0), or of the hub."""
    hub = name.startswith("hub:")
    model, tokenizer = load_model(name, dtype=getattr(torch, settings.dtype)) if hub else load_suite(name)
    return model.to(settings.device), tokenizer


def single(name: str, dtype: str = "float32") -> Member:
    """A model that is no suite: seed 0, step -1 for the end of training (or the step in the hub revision's name).

    Its scale is its name: on the hub, with a revision that is neither main nor a step; of a folder, the last part, and
    ``weights`` tells folders of one name apart.
    """
    if name.startswith("hub:"):
        place, revision = split_name(name)
        if revision.startswith("step") and revision[4:].isdigit():
            return Member(place, 0, int(revision[4:]), lambda: load_model(name, dtype=getattr(torch, dtype)))
        return Member(
            place if revision == "main" else f"{place}@{revision}",
            0,
            -1,
            lambda: load_model(name, dtype=getattr(torch, dtype)),
        )
    if not (Path(name) / "config.json").is_file():
        raise UserError(f"no model in {name}: expected a folder with a model or a suite in it, or hub:NAME")
    digest = hashlib.sha256()
    for path in sorted(Path(name).glob("*.safetensors")):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Member(
        Path(name).resolve().name, 0, -1, lambda: load_model(name, dtype=getattr(torch, dtype)), digest.hexdigest()[:16]
    )
