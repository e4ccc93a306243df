"""What a resumed ``Trainer`` goes on from: which folder it is, and the weights that transformers leaves out of it."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from l2e_min.lab.errors import UserError

TRAINER_STATE = "trainer_state.json"
FACTS = ("global_step", "epoch", "total_flos", "log_history")  # of a training, enough to know it again


def checkpoint_folder(args, state, given: str | Path | None = None) -> Path:
    """The folder that a Trainer has resumed from; ``given`` is where to look instead of what ``args`` names.

    Known by its ``trainer_state.json``, which must be what ``state`` was read from: the folder of another run may bear
    the same name. Raises ``UserError`` where there is none.
    """
    own = Path(args.output_dir) / f"checkpoint-{state.global_step}"
    named = [Path(name) for name in ([args.resume_from_checkpoint, own] if given is None else [given]) if name]

    def facts(source: dict) -> str:  # as text, because a NaN equals nothing
        return json.dumps([source[key] for key in FACTS])

    for folder in named:
        file = folder / TRAINER_STATE
        if file.is_file() and facts(json.loads(file.read_text(encoding="utf-8"))) == facts(vars(state)):
            return folder
    raise UserError(
        f"training resumes from step {state.global_step}, and {' or '.join(map(str, named))} is not the checkpoint it "
        "resumes from; name that folder: InhibitorCallback(inhibitor, resume_from=folder)"
    )


@torch.no_grad()
def complete_weights(model: nn.Module, folder: Path) -> list[str]:
    """Fills in the weights that a Trainer has not found in ``folder``; the names it looked for and that are not there.

    transformers 5 writes checkpoints under the names of the hub and resumes from them without translating back
    (huggingface/transformers 48805, open at 5.23): of GPT-NeoX, so of Pythia, the output layer keeps the values it had,
    with a warning. ``from_pretrained`` does translate. Does nothing for models of other kinds and where nothing lacks.
    """
    there: set[str] = set()
    for file in folder.glob("model*.safetensors"):
        with safe_open(file, "pt") as weights:
            there |= set(weights.keys())
    missing = [name for name in model.state_dict() if name not in there]
    if not there or not missing or not isinstance(model, PreTrainedModel):
        return []
    whole = type(model).from_pretrained(folder).state_dict()
    model.load_state_dict({name: whole[name] for name in missing}, strict=False)
    return missing
