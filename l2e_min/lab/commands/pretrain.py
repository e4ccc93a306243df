"""``l2e pretrain``: trains a Pythia, mini or real, in a folder that can be resumed; or a whole suite of minis."""

import argparse
import dataclasses
import os
import shlex
import sys
from pathlib import Path

from l2e_min.lab.errors import UserError
from l2e_min.lab.training.method_choice import CHANGES, METHODS

HELP = "pretrain a Pythia or a suite of mini ones; can be stopped or killed at any moment and resumed bit for bit"
EXAMPLE = "l2e pretrain --size 64x3 --steps 500 --out runs/first"

OPTIONS = {  # name on the command line: (name in PretrainSettings, type, help)
    "size": ("size", str, "HIDDENxLAYERS, pythia-70m ... pythia-6.9b, or bert-HIDDENxLAYERS (default 128x4)"),
    "method": ("method", str, f"{' | '.join(METHODS)} (default plain; the last {len(CHANGES) + 1} are controls)"),
    "weight": ("weight", float, "of a penalty (default 0.003)"),
    "share": ("share", float, "of all (input, neuron) pairs that is selected (default 0.02)"),
    "layers": (
        "layers",
        str,
        "all | top-bottom | first-N | middle-N | last-N (N a number or third) | numbers as 0,3 (default middle-2)",
    ),
    "retrieval": ("retrieval", str, "threshold | top-share | top-N such as top-1 (default: the method's own)"),
    "initial": ("initial", str, "a model of this size to go on from: a folder or hub:NAME (default: random weights)"),
    "text": ("text", str, "installed (default), a folder of text files, or hub:NAME"),
    "tokenizer": ("tokenizer", str, "train, a folder, or hub:NAME (default: train; a real Pythia takes its own)"),
    "vocabulary": ("vocabulary", int, "entries of a trained tokenizer (default 1024; BERT 4096)"),
    "steps": ("steps", int, "optimizer steps (default 8000; suite 2000)"),
    "seed": ("seed", int, "draws the weights and the order of the text (default 0)"),
    "data-seed": ("data_seed", int, "draws the order of the text instead (default: the seed)"),
    "batch": ("batch", int, "rows a step (default 16)"),
    "context": ("context", int, "tokens a row (default 128)"),
    "learning-rate": ("learning_rate", float, "peak (default: the scale's own, 4e-3 for mini scales)"),
    "warmup-share": ("warmup_share", float, "share of the steps over which the learning rate rises (default 0.01)"),
    "weight-decay": ("weight_decay", float, "on matrices (default 0.1)"),
    "precision": (
        "precision",
        str,
        "bf16 (autocast), fp16 (with a scaled loss), fp32, or auto (default): what the device is quick at",
    ),
    "accumulate": ("accumulate", int, "pieces that a step's rows are cut into, to save memory (default 1)"),
    "device": ("device", str, "auto (default), cpu or cuda"),
    "validate-every": ("validate_every", int, "steps between looks at the validation loss (default 250; suite 50)"),
    "log-every": ("log_every", int, "steps a line of the log (default 25)"),
}

SWITCHES = {
    "activation-checkpointing": "compute activations again for the backward pass instead of keeping them",
    "compile": "compile the model's blocks with torch.compile",
}


def yes(word: str) -> bool:
    """What a switch was set to, as a recorded command has it: True or False."""
    if word not in ("True", "False"):
        raise argparse.ArgumentTypeError(f"expected True or False, got {word!r}")
    return word == "True"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments; those not given stay absent, so that --resume can take them from the run."""
    parser.add_argument(
        "what",
        nargs="?",
        metavar="suite",
        choices=["suite"],
        help="train a suite: five scales from 32x2 to 256x6, 2000 steps each, three seeds each, the text "
        "in one order; goes on by itself with what is in --out",
    )
    parser.add_argument("--scales", nargs="+", metavar="SIZE", help="with suite: these scales instead")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="with suite: these seeds of every scale")
    for option, (name, kind, text) in OPTIONS.items():
        parser.add_argument(f"--{option}", dest=name, type=kind, default=argparse.SUPPRESS, help=text)
    for option, text in SWITCHES.items():
        name, absent = option.replace("-", "_"), argparse.SUPPRESS
        parser.add_argument(f"--{option}", dest=name, type=yes, nargs="?", const=True, default=absent, help=text)
    parser.add_argument("--out", required=True, metavar="DIR", help="the run's folder; new or empty, unless --resume")
    parser.add_argument("--checkpoint-every", type=int, default=500, metavar="N", help="steps (default 500)")
    parser.add_argument(
        "--snapshots", action="store_true", help="keep the weights after 1, 2, 4, 8, ... steps for good"
    )
    parser.add_argument(
        "--shard",
        action="store_true",
        help="under torchrun: spread the model, too, over the devices (FSDP)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, settings as they were")
    parser.add_argument(
        "--export",
        metavar="FOLDER",
        help="at the end, write the model there in half precision; a suite goes to FOLDER/suite",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    """Trains; 0 when finished, 130 after Ctrl-C. Raises ``UserError`` for bad input."""
    from l2e_min.lab.training.recipe import PretrainSettings
    from l2e_min.lab.training.stopping import Interrupted
    from l2e_min.lab.training.suite import snapshot_steps

    out = Path(arguments.out)
    names = {field.name for field in dataclasses.fields(PretrainSettings)}
    given = {name: value for name, value in vars(arguments).items() if name in names}
    if arguments.checkpoint_every < 1:
        raise UserError(f"--checkpoint-every must be at least 1, got {arguments.checkpoint_every}")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is not a folder")
    if arguments.what == "suite":
        return run_suite(arguments, out, given)
    for option in ("scales", "seeds"):
        if getattr(arguments, option) is not None:
            raise UserError(f"--{option} is for a suite: l2e pretrain suite --{option} ...")
    main = os.environ.get("RANK", "0") == "0"  # of the processes of one run the one that writes and speaks
    if arguments.resume:
        settings = settings_to_resume(out, given)
    elif main and out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out {out} is not empty; add --resume to go on with the run in it, or choose another folder")
    else:
        settings = PretrainSettings(**given)
    if arguments.export and settings.method == "linear":
        raise UserError("method linear cannot be exported: its MLPs are not those of the architecture")
    from l2e_min.lab.training.pretrain import pretrain  # after the checks: it is slow to import

    try:
        result = pretrain(
            settings,
            out,
            checkpoint_every=arguments.checkpoint_every,
            snapshots=snapshot_steps(settings.steps) if arguments.snapshots else (),
            progress=not arguments.quiet,
            shard=arguments.shard,
        )
    except Interrupted as stop:
        if not main:
            return stop.status
        again = ["l2e", "pretrain", "--out", str(out), "--checkpoint-every", str(arguments.checkpoint_every)]
        again += ["--export", arguments.export] if arguments.export else []
        again += ["--snapshots"] if arguments.snapshots else []
        again += ["--shard"] if arguments.shard else []
        print(
            f"stopped after step {stop.step} of {settings.steps}, saved; go on with:\n  {shlex.join(again)} --resume",
            file=sys.stderr,
        )
        return stop.status
    if not main:
        return 0
    line = f"{settings.size} {settings.method}, seed {settings.seed}: {settings.steps} steps, {result['tokens']} tokens"
    line += f"; validation loss {result['validation_loss']:.3f} nats a token"
    if "validation_bits_per_byte" in result:
        line += f", {result['validation_bits_per_byte']:.3f} bits per byte"
    print(line)
    print(f"model: {out / 'model'}")
    if arguments.export:
        from l2e_min.lab.training.export import export_model

        export_model(out, Path(arguments.export))
        print(f"exported: {arguments.export}")
    return 0


def run_suite(arguments: argparse.Namespace, out: Path, given: dict) -> int:
    """Trains the suite, going on with what is in ``out``; 0 when finished, 130 after Ctrl-C."""
    from l2e_min.lab.training.stopping import Interrupted
    from l2e_min.lab.training.suite import plan, train_suite

    for name, instead in {"size": "--scales", "seed": "--seeds", "data_seed": "", "method": ""}.items():
        if name in given:
            raise UserError(f"--{name.replace('_', '-')} is for a single run" + (f"; use {instead}" if instead else ""))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or arguments.shard:
        raise UserError("a suite trains its small models one after another, in one process; start it without torchrun")
    runs = plan(arguments.scales, arguments.seeds)
    every, progress = arguments.checkpoint_every, not arguments.quiet
    if out.is_dir() and any(out.iterdir()) and not (out / "suite.json").is_file():
        raise UserError(f"--out {out} holds something that is not a suite; choose another folder")
    try:
        train_suite(out, runs, checkpoint_every=every, progress=progress, **given)
    except Interrupted as stop:
        print(f"stopped after step {stop.step} of a run, saved; the same command goes on", file=sys.stderr)
        return stop.status
    if arguments.export:
        from l2e_min.lab.training.suite_export import export_suite

        export_suite(out, Path(arguments.export) / "suite", runs)
        print(f"exported: {Path(arguments.export) / 'suite'}")
    return 0


def settings_to_resume(out: Path, given: dict):
    """The settings of the run in ``out`` and what is ``given``; where the two disagree, ``pretrain`` refuses."""
    from l2e_min.lab.training.recipe import PretrainSettings
    from l2e_min.lab.training.run_folder import read_json

    stored = read_json(out / "settings.json")
    if stored is None:
        raise UserError(f"nothing to resume: there is no run in {out}; start it without --resume")
    known = {field.name for field in dataclasses.fields(PretrainSettings)}
    if unknown := set(stored) - known:
        raise UserError(f"{out / 'settings.json'} holds unknown settings: {', '.join(sorted(unknown))}")
    return PretrainSettings(**{**stored, **given})
