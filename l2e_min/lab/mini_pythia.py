"""Pythia's architecture (B23: GPT-NeoX) at mini and at real scales; loading models from folders and the hub."""

import math
import re
from pathlib import Path

import torch
from torch import nn

from l2e_min.lab.errors import UserError
from l2e_min.lab.loading import load_pretrained
from l2e_min.lab.paths import DATA
from l2e_min.lab.tokenizer import load_tokenizer

PYTHIA = {  # name: hidden size, layers, heads, vocabulary (padded for the GPUs it was trained on), learning rate
    "pythia-70m": (512, 6, 8, 50304, 1e-3),
    "pythia-160m": (768, 12, 12, 50304, 6e-4),
    "pythia-410m": (1024, 24, 16, 50304, 3e-4),
    "pythia-1b": (2048, 16, 8, 50304, 3e-4),
    "pythia-1.4b": (2048, 24, 16, 50304, 2e-4),
    "pythia-2.8b": (2560, 32, 32, 50304, 1.6e-4),
    "pythia-6.9b": (4096, 32, 32, 50432, 1.2e-4),
}
"""The real suite (B23, Table 1 and its published configurations)."""

HEAD_SIZE = 32
"""Width of an attention head at mini scales (Pythia's own are 64 to 256 wide, more than a mini model has)."""

MINI_CONTEXT = 128
"""Tokens a mini model sees at once; a feature row of 128 bytes is about 60."""


def config_for(size: str, *, vocabulary: int = 1024, context: int = MINI_CONTEXT):
    """The ``GPTNeoXConfig`` of a scale: ``"128x4"`` (hidden x layers) or a real name such as ``"pythia-410m"``.

    ``vocabulary`` and ``context`` count for mini scales; the real ones keep their 2,048 tokens and their vocabulary.
    Raises ``UserError`` for a name that is neither.
    """
    from transformers import GPTNeoXConfig

    mini = re.fullmatch(r"(\d+)x(\d+)", size)
    if size in PYTHIA:
        hidden, layers, heads, vocabulary, _ = PYTHIA[size]
        context = 2048
    elif mini and (int(mini[1]) == 16 or int(mini[1]) % HEAD_SIZE == 0) and int(mini[1]) * int(mini[2]) > 0:
        hidden, layers = int(mini[1]), int(mini[2])
        heads = max(1, hidden // HEAD_SIZE)
    else:
        raise UserError(
            f"no such size: {size!r}; expected HIDDENxLAYERS such as 128x4 (hidden 16 or a multiple of {HEAD_SIZE}), "
            f"or one of {', '.join(PYTHIA)}"
        )
    return GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=context,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
        use_parallel_residual=True,
        tie_word_embeddings=False,
        hidden_act="gelu",
        attention_dropout=0.0,
        hidden_dropout=0.0,
        initializer_range=math.sqrt(2 / (5 * hidden)),
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1 if mini else None,
    )


def untrained(size_or_config, *, seed: int = 0, vocabulary: int = 1024, context: int = MINI_CONTEXT):
    """A model with seeded random weights: the start of training, and the control beside a trained model.

    Takes a size (see ``config_for``), or the config of a model whose twin is wanted. Float32, on the CPU, in evaluation
    mode, eager attention (on a CPU under bf16 the fastest). The draws are Pythia's: "small init" sqrt(2 / 5h) for every
    matrix, and 2 / (layers sqrt(h)) for those that write into the residual stream (B23, GPT-NeoX's ``wang_init``). They
    do not touch the global random state.
    """
    from transformers import GPTNeoXForCausalLM

    config = size_or_config
    if isinstance(size_or_config, str):
        config = config_for(size_or_config, vocabulary=vocabulary, context=context)
    with torch.random.fork_rng(devices=[]):
        model = GPTNeoXForCausalLM._from_config(config, attn_implementation="eager", dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    small = math.sqrt(2 / (5 * config.hidden_size))
    into_residual = 2 / (config.num_hidden_layers * math.sqrt(config.hidden_size))
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            writes = name.endswith(("attention.dense", "mlp.dense_4h_to_h"))
            nn.init.normal_(module.weight, std=into_residual if writes else small, generator=generator)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
    return model.eval()


def load_model(
    name: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
    tokenizer: str | Path | None = None,
):
    """(model, tokenizer) from a folder, or from the hub by ``"hub:NAME"``; safetensors only, evaluation mode.

    ``variant`` picks ``model.VARIANT.safetensors``; ``tokenizer`` is where it is, if not beside the model.

    A ``"hub:NAME@REVISION"`` picks a training step, for example ``hub:EleutherAI/pythia-70m@step1000``. Raises
    ``UserError`` where there is no such model, or where the hub is out of reach.
    """
    from transformers import AutoModelForCausalLM

    model = load_pretrained(AutoModelForCausalLM, name, dtype=dtype, variant=variant)
    return model.eval(), load_tokenizer(tokenizer or name)


def load_shipped(size: str = "128x4"):
    """(model, tokenizer) of a mini Pythia that ships in ``data/models``; stored as fp16, used as float32."""
    folder = DATA / "models" / f"mini-pythia-{size}"
    if not folder.is_dir():
        there = sorted(f.name.removeprefix("mini-pythia-") for f in (DATA / "models").glob("mini-pythia-*"))
        raise UserError(f"no mini Pythia of size {size!r} ships; shipped: {', '.join(there) or 'none'}")
    return load_model(folder)


def load_suite(scale: str, seed: int = 0, step: int | None = None, *, folder: Path = DATA / "models" / "suite"):
    """(model, tokenizer) of the shipped suite: a scale and seed at the end of training, or after ``step`` steps.

    Step 0 is the seed's untrained weights, for every run. All scales share one tokenizer. Stored as fp16, used as
    float32. Raises ``UserError`` naming what ships where this scale, seed or step does not.
    """
    run = folder / scale / f"seed{seed}"
    if not (run / "config.json").is_file():
        there = sorted(f"{r.parent.name} seed {r.name.removeprefix('seed')}" for r in folder.glob("*x*/seed*"))
        raise UserError(f"the suite has no {scale} of seed {seed}; it has {', '.join(there) or 'nothing'}")
    variant = f"step{step}" if step else None
    if variant and not (run / f"model.{variant}.safetensors").is_file():
        steps = sorted(int(f.name.split(".")[1][4:]) for f in run.glob("model.step*.safetensors"))
        raise UserError(f"the suite has no {scale} of seed {seed} at step {step}; it has {[0, *steps]} and the end")
    model, tokenizer = load_model(run, variant=variant, tokenizer=folder / "tokenizer")
    return (untrained(model.config, seed=seed) if step == 0 else model), tokenizer


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """(all parameters, those outside the two embeddings), as B23 counts them; tied embeddings count once."""
    total = sum(p.numel() for p in model.parameters())
    embeddings = {id(e.weight): e.weight for e in (model.get_input_embeddings(), model.get_output_embeddings())}
    return total, total - sum(weight.numel() for weight in embeddings.values())


def load(name: str):
    """(model, tokenizer) by the name that settings hold: a shipped mini model's size, a folder, or ``hub:NAME``."""
    shipped = (DATA / "models" / f"mini-pythia-{name}").is_dir()
    return load_shipped(name) if shipped or re.fullmatch(r"\d+x\d+", name) else load_model(name)
