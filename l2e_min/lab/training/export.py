"""A finished run as a small folder that ships: half-precision weights, tokenizer, log, and a card."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from l2e_min.lab.errors import UserError
from l2e_min.lab.training.run_folder import read_json


def write_weights(
    run: Path, target: Path, *, corpus: Any = None, steps: Collection[int] = (), note: str = ""
) -> tuple[dict, Any]:
    """Writes the finished run's weights (and its snapshots after ``steps``) in fp16, its log and ``training.json``.

    Returns (the facts in ``training.json``, the tokenizer). Raises ``UserError`` as ``export_model`` does, and where a
    snapshot is missing.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    from l2e_min.lab.loading import load_pretrained, no_bars
    from l2e_min.lab.mini_bert import is_bert
    from l2e_min.lab.mini_pythia import parameter_counts
    from l2e_min.lab.training.pretrain import validate
    from l2e_min.lab.training.recipe import PretrainSettings
    from l2e_min.lab.training.training_text import prepare_text

    result = read_json(run / "result.json")
    if result is None:
        raise UserError(f"there is no finished run in {run}; finish it with: l2e pretrain --out {run} --resume")
    for step in steps:
        if not (run / "snapshots" / f"model.step{step}.safetensors").is_file():
            raise UserError(f"{run} has no snapshot of step {step}; it was trained without")
    settings = PretrainSettings(**result["settings"])
    text = prepare_text(settings, run, corpus=corpus, progress=False)
    text.check_same(result["text"])
    target.mkdir(parents=True, exist_ok=True)

    kind = AutoModelForMaskedLM if is_bert(settings.size) else AutoModelForCausalLM

    def write(folder: Path, variant: str | None = None) -> dict:
        model = load_pretrained(kind, folder, variant=variant)
        with no_bars():
            model.to(torch.float16).save_pretrained(target, variant=variant)
        facts["parameters"], facts["parameters_without_embeddings"] = parameter_counts(model)
        model = load_pretrained(kind, target, variant=variant)  # measured is what ships
        return validate(model.to(settings.device), text, settings, rows=8 * settings.validation_rows)

    facts = dict(result)
    facts.pop("tokens_per_second")  # a fact about a machine
    facts |= {f"exported_{name}": value for name, value in write(run / "model").items()}
    for step in steps:
        losses = write(run / "snapshots", f"step{step}")
        tokens = step * settings.batch * settings.context
        facts.setdefault("snapshots", []).append({"step": step, "tokens": tokens, **losses})
    facts |= {"note": note} if note else {}
    shutil.copyfile(run / "training_log.csv", target / "training_log.csv")
    (target / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return facts, text.tokenizer


def export_model(run: Path, target: Path, *, corpus: Any = None, note: str = "") -> dict:
    """Writes the model of the finished run ``run`` to ``target``; what the card says, as a dictionary.

    Weights are rounded to fp16 (``load_model`` gives float32 back); the validation loss is measured again with the
    rounded weights, on ``corpus`` (default: the run's text, loaded again). Raises ``UserError`` where the run is not
    finished, its text is not there any more, or ``target`` holds something else. ``note`` is a sentence for the card.
    """
    if target.is_dir() and any(target.iterdir()) and not (target / "model.safetensors").is_file():
        raise UserError(f"{target} holds something that is not an exported model; choose another folder")
    facts, tokenizer = write_weights(run, target, corpus=corpus, note=note)
    tokenizer.save_pretrained(target)
    (target / "README.md").write_text(model_card(facts), encoding="utf-8")
    return facts


def command(settings: dict) -> str:
    """The command that trains with these settings; what equals the default is left out."""
    from l2e_min.lab.training.recipe import PretrainSettings

    usual = PretrainSettings(size=settings["size"], seed=settings["seed"]).as_dict()
    shown = ["size", "method", "text", "steps", "seed", "precision"]  # the last one's default is the device's own
    words = []
    for name, value in usual.items():  # an option is called as its setting; an old record may lack a new one
        chosen = settings.get(name, value)
        if name in shown or (chosen != value and name != "device"):
            words += [f"--{name.replace('_', '-')}", str(chosen)]
    return " ".join(["l2e pretrain", *words, "--out runs/again"])


def recipe(s: dict) -> str:
    """The recipe of the run with the settings ``s``, as a paragraph."""
    return f"""\
AdamW (betas {s["betas"][0]}, {s["betas"][1]}; epsilon {s["epsilon"]:g}; weight decay {s["weight_decay"]} on
matrices), peak learning rate {s["learning_rate"]:g}, cosine to {s["final_share"]:.0%} with warm-up over
{s["warmup_share"]:.0%} of the steps (at least 20), gradients clipped at {s["clip"]:g}, {s["batch"]} rows of
{s["context"]} tokens a step, {s["precision"]} arithmetic with float32 weights."""


def model_card(facts: dict) -> str:
    """The model card in Markdown, written from the run's own record."""
    from l2e_min.lab.mini_bert import is_bert

    s, text, v = facts["settings"], facts["text"], facts["versions"]
    bert = is_bert(s["size"])
    title = f"Mini BERT {s['size'].removeprefix('bert-')}" if bert else f"Mini Pythia {s['size']}"
    kind = "A masked language model" if bert else "A language model"
    source = "BERT's architecture (Devlin et al. 2019, arXiv:1810.04805)"
    if not bert:
        source = "Pythia's architecture (GPT-NeoX; Biderman et al. 2023, arXiv:2304.01373)"
    pieces = "uncased WordPiece" if bert else "byte-level BPE"
    purpose = "being fine-tuned on small tasks" if bert else "studying neurons"
    return f"""# {title}

{kind} of {facts["parameters"]:,} parameters ({facts["parameters_without_embeddings"]:,} without the
embeddings) in {source}, trained from scratch by this
project so that the book's measurements run without a download. It is made for {purpose}, and is no use as an
assistant.

| | |
| --- | --- |
| scale | {s["size"]} (hidden x layers), context {s["context"]} tokens |
| tokenizer | {pieces}, trained on the same text; {text["validation_bytes_per_token"]:.2f} bytes a token |
| text | `{text["name"]}`, {text["training_documents"]:,} documents, {text["training_tokens"]:,} tokens |
| fingerprint of the text | `{text["fingerprint"]}` |
| held out | {text["validation_documents"]:,} documents, {text["validation_tokens"]:,} tokens, split by file |
| trained on | {facts["tokens"]:,} tokens ({facts["tokens"] / text["training_tokens"]:.2f} readings of the text) |
| held-out loss | {losses(facts, "")} |
| the same in half precision, as shipped | {losses(facts, "exported_")} |
| versions | {", ".join(f"{name} {number}" for name, number in v.items())} |

## Recipe
{recipe(s)} `training_log.csv` holds the losses,
`training.json` every setting. The command:

    {command(s)}

The same digits need the same text (so the same package versions), the same PyTorch and a similar processor.
{facts.get("note", "")}

## Text and licence
The text is what a Python installation carries: code, documentation, data tables and message catalogues of open-source
packages, each under its own open-source licence. It is read at run time; none of it ships here. The weights are under
this project's licence (MIT), as far as weights can be licensed at all.

## Limits
It has seen mostly code and technical English, and a few kilobytes of each other language. It repeats itself, invents
names, knows no facts, and was not filtered or aligned. Weights are stored as fp16 safetensors and used as float32.
"""


def losses(facts: dict, prefix: str) -> str:
    """The held-out loss in words; a BERT's is that of its hidden tokens, a fifth of them, and has no bits per byte."""
    text = f"{facts[f'{prefix}validation_loss']:.3f} nats a token"
    if (bits := facts.get(f"{prefix}validation_bits_per_byte")) is None:
        return f"{text} that was hidden (20 % of them)"
    return f"{text}, {bits:.3f} bits per byte"
