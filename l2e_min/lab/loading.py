"""Loading a model from a folder or from the Hugging Face hub: safetensors only, and one clear line where it fails."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from l2e_min.lab import hub
from l2e_min.lab.errors import UserError


def load_pretrained(auto_class: Any, name: str | Path, **options: Any):
    """The model in a folder, or by ``"hub:NAME[@REVISION]"``, in evaluation mode and with eager attention.

    ``auto_class``: the class of transformers whose ``from_pretrained`` loads it; ``options`` go there. Raises
    ``UserError`` where there is no such model, or where the hub is out of reach.
    """
    name, here = str(name), True
    is_hub = name.startswith("hub:")
    options = {"dtype": torch.float32, "use_safetensors": True, "attn_implementation": "eager", **options}
    if is_hub:
        place, options["revision"] = hub.split_name(name)
        here = hub.reachable()
        options["local_files_only"] = not here
        # Without it transformers asks a service elsewhere to convert pickled weights, and loads what comes back.
        os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
    else:
        place = name
        options["local_files_only"] = True
        if not (Path(name) / "config.json").is_file():
            raise UserError(
                f"no model in {name}: expected a folder with config.json and model.safetensors, or hub:NAME"
            )
    try:
        with no_bars():
            model = auto_class.from_pretrained(place, **options)
    except Exception as error:  # OSError, ValueError, RuntimeError (shapes), and safetensors' own bare Exception
        if is_hub:
            raise hub.trouble(f"load the model {name}", error, here=here) from error
        raise UserError(f"cannot load the model {name}: {hub.first_line(error)}") from error
    return model.eval()


@contextlib.contextmanager
def no_bars() -> Iterator[None]:
    """Silences transformers' progress bars over loading and saving, which take a blink at these sizes."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
