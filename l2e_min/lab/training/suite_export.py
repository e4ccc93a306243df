"""A trained suite as a folder that ships: every run in half precision, one tokenizer, one table, one card."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l2e_min.lab.errors import UserError
from l2e_min.lab.training.export import recipe, write_weights
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.lab.training.run_folder import read_json
from l2e_min.lab.training.suite import DEFAULTS, Run, plan

FACTS = ("parameters", "parameters_without_embeddings", "tokens", "validation_loss", "validation_bits_per_byte")
SHIPPED_LOSSES = ("exported_validation_loss", "exported_validation_bits_per_byte")


def export_suite(out: Path, target: Path, runs: Sequence[Run] | None = None, *, corpus: Any = None) -> dict:
    """Writes what ships of ``runs`` (default: ``plan()``) and is finished in ``out`` to ``target``; its ``suite.json``.

    Layout: ``SCALE/seedN/model.safetensors`` (fp16) with config, log and record, snapshots beside it as
    ``model.stepN.safetensors``; ``tokenizer/``, ``suite.json`` and the card ``README.md`` for all. Runs that ``target``
    holds already stay, so scales can be added one by one. Losses are measured again with the rounded weights, on
    ``corpus`` (default: the suite's text, loaded again). Raises ``UserError`` where nothing is finished, or ``target``
    holds something else or runs on other text.
    """
    runs = plan() if runs is None else runs
    finished = [run for run in runs if run.ships and (out / run.folder / "result.json").is_file()]
    if not finished:
        raise UserError(f"no run of this suite is finished in {out}; train it with: l2e pretrain suite --out {out}")
    if target.is_dir() and any(target.iterdir()) and not (target / "suite.json").is_file():
        raise UserError(f"{target} holds something that is not an exported suite; choose another folder")
    text = read_json(out / finished[0].folder / "result.json")["text"]
    there = read_json(target / "suite.json")
    if there and there["text"] != text:
        raise UserError(f"{target} holds a suite trained on other text; choose another folder")
    if corpus is None:
        from l2e_min.lab.text.corpus import load_corpus

        corpus = load_corpus(text["name"])
    for run in finished:
        steps = [step for step in run.steps if step <= read_json(out / run.folder / "result.json")["settings"]["steps"]]
        _, tokenizer = write_weights(out / run.folder, target / run.folder, corpus=corpus, steps=steps)
        tokenizer.save_pretrained(target / "tokenizer")
    summary = summarize(target)
    (target / "suite.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    (target / "README.md").write_text(suite_card(summary), encoding="utf-8")
    return summary


def summarize(target: Path) -> dict:
    """What the runs' records below ``target`` say, smallest scale first: plain JSON, a row per run and per snapshot."""
    records = [read_json(path) for path in target.glob("*x*/seed*/training.json")]
    records.sort(key=lambda facts: (facts["parameters"], facts["settings"]["seed"]))
    rows = []
    for facts in records:
        s = facts["settings"]
        row = {"scale": s["size"], "seed": s["seed"], "steps": s["steps"], **{name: facts[name] for name in FACTS}}
        row |= {name: facts[name] for name in SHIPPED_LOSSES}
        row["bytes"] = (target / s["size"] / f"seed{s['seed']}" / "model.safetensors").stat().st_size
        row["snapshots"] = facts.get("snapshots", [])
        rows.append(row)
    first = records[0]
    rates = {facts["settings"]["size"]: facts["settings"]["learning_rate"] for facts in records}
    common = {"text": first["text"], "settings": first["settings"], "versions": first["versions"]}
    left_out = [read_json(path) for path in sorted(target.glob("left_out/*/result.json"))]
    names = ("validation_loss", "validation_bits_per_byte")
    aside = [{**{k: r["settings"][k] for k in ("size", "learning_rate")}, **{k: r[k] for k in names}} for r in left_out]
    return {"runs": rows, "learning_rates": rates, "left_out": aside, **common}


def suite_card(summary: dict) -> str:
    """The suite's card in Markdown, written from the runs' own records."""
    s, text, v = summary["settings"], summary["text"], summary["versions"]
    rates = ", ".join(f"{scale} {rate:g}" for scale, rate in summary["learning_rates"].items())
    runs = [
        f"| {r['scale']} | {r['parameters']:,} | {r['parameters_without_embeddings']:,} | {r['seed']} | {r['steps']:,} "
        f"| {r['tokens']:,} | {r['validation_loss']:.3f} | {r['validation_bits_per_byte']:.3f} "
        f"| {r['exported_validation_bits_per_byte']:.3f} | {r['bytes'] / 1e6:.2f} |"
        for r in summary["runs"]
    ]
    snapshots = [
        f"| {r['scale']} | {r['seed']} | {k['step']:,} | {k['tokens']:,} | {k['validation_loss']:.3f} "
        f"| {k['validation_bits_per_byte']:.3f} |"
        for r in summary["runs"]
        for k in r["snapshots"]
    ]
    table = "\n".join(runs)
    small, large = summary["runs"][0], summary["runs"][-1]
    spent = ", ".join(f"{r['tokens'] / r['parameters']:.1f} tokens a parameter at {r['scale']}" for r in (small, large))
    once = ", none of them twice" if large["tokens"] < text["training_tokens"] else ""
    along = "\n".join(snapshots) or "| none | | | | | |"
    return f"""# A suite of mini Pythias

Language models in Pythia's architecture (GPT-NeoX; Biderman et al. 2023, arXiv:2304.01373) at several scales, trained
from scratch by this project so that the book's questions about scale, seeds and training time run without a download.
They are made for studying neurons, and are no use as assistants.

```python
from l2e_min.lab.mini_pythia import load_suite

model, tokenizer = load_suite("{summary["runs"][0]["scale"]}", seed=0)  # step=64: along training; step=0: untrained
```

## Runs
Scale is hidden x layers. Losses are on held-out files, in nats a token and in bits per byte; "fp16" is the same for the
weights as they ship.

| scale | parameters | without embeddings | seed | steps | tokens | loss | bits per byte | fp16 | MB |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
{table}

{missing(summary)}

## Along training
Weights after some steps, for the scales and seeds below; losses are those of the weights as they ship. Step 0 needs no
file: the untrained weights come from the seed.

| scale | seed | step | tokens | loss | bits per byte |
| --- | --- | --- | --- | --- | --- |
{along}

## Text
| | |
| --- | --- |
| text | `{text["name"]}`, {text["training_documents"]:,} documents, {text["training_tokens"]:,} tokens |
| fingerprint | `{text["fingerprint"]}` |
| held out | {text["validation_documents"]:,} documents, {text["validation_tokens"]:,} tokens, split by file |
| tokenizer | byte-level BPE, trained on the same text; {text["validation_bytes_per_token"]:.2f} bytes a token |
| versions | {", ".join(f"{name} {number}" for name, number in v.items())} |

Every run reads the same rows in the same order (data seed {s["data_seed"]}){once}.
A seed moves the initial weights and nothing else, so the spread between seeds is that of the initial weights, and
leaves out that of the order of the text.

## Recipe
{recipe(s)}

Peak learning rates by scale: {rates}. None was tuned, so the larger scales may be held back.
{left_out(summary)}Each run's `training_log.csv` holds its losses, `training.json` every setting.
The command:

    {command(s)}

It trains more than ships here, and keeps the weights of every run after 1, 2, 4, 8, ... steps.
The same digits need the same text (so the same package versions), the same PyTorch and a similar processor.

## Licence and limits
The text is what a Python installation carries, each package under its own open-source licence; it is read at run time,
and none of it ships here. The weights are under this project's licence (MIT), as far as weights can be licensed at all.
The models have seen mostly code and technical English, and a few kilobytes of each other language. They repeat
themselves, invent names, know no facts, and were not filtered or aligned. These are short runs:
{spent}. Weights are stored as fp16 safetensors and used as float32.
"""


def left_out(summary: dict) -> str:
    """A sentence for each finished run whose weights do not ship; its loss and log lie in ``left_out``."""
    return "".join(
        f"{r['size']} at a peak of {r['learning_rate']:g} ended at {r['validation_loss']:.3f} nats a token.\n"
        "Its weights do not ship: a loss above a smaller scale's shows a poor learning rate, not an effect of scale.\n"
        for r in summary["left_out"]
    )


def missing(summary: dict) -> str:
    """One line on what the default suite trains and this one does not hold."""
    there = {(r["scale"], r["seed"]) for r in summary["runs"]}
    absent = [str(run) for run in plan() if (run.size, run.seed) not in there]
    return f"In the default suite, but not here: {', '.join(absent)}." if absent else "This is the whole default suite."


def command(settings: dict) -> str:
    """The command that trains the suite; what equals the suite's defaults on every machine is left out."""
    usual = PretrainSettings(size=settings["size"], seed=settings["seed"], **DEFAULTS).as_dict()
    words = []
    for name, value in usual.items():
        differs = settings.get(name, value) != value or name == "precision"  # whose default is the device's own
        if differs and name not in ("device", "data_seed"):
            words += [f"--{name.replace('_', '-')}", str(settings[name])]
    return " ".join(["l2e pretrain suite --out runs/suite", *words, "--export runs/exported"])
