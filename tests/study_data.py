"""What the tests of the study share: tiny models that read the shipped tokenizer, feature data sets, suites."""

from pathlib import Path

import numpy as np
import torch

from l2e_min.lab.paths import DATA
from l2e_min.lab.text.features import FeatureDataset

TOKENIZER = DATA / "models" / "mini-pythia-128x4"
"""1,024 entries, texts of at most 128 tokens."""

FAMILIES = ("gpt_neox", "gpt2", "llama")

LAYERS, NEURONS = 3, 24

WORDS = {
    "numbers": "one two three four five six seven eight nine ten eleven twelve".split(),
    "code": "def return for in while if else import self lambda yield class".split(),
    "letters": "alpha beta gamma delta epsilon zeta eta theta iota kappa mu nu".split(),
}


def tiny(family: str, seed: int = 0):
    """A random model of 3 layers x 24 neurons, in evaluation mode, loud enough that its neurons differ."""
    import transformers as t

    torch.manual_seed(seed)
    size = {"hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": NEURONS}
    places = {"vocab_size": 1024, "max_position_embeddings": 128}
    if family == "gpt_neox":
        model = t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**size, **places))
    elif family == "gpt2":
        size = {"n_embd": 16, "n_layer": LAYERS, "n_head": 2, "n_inner": NEURONS, "n_positions": 128}
        model = t.GPT2LMHeadModel(t.GPT2Config(vocab_size=1024, bos_token_id=0, eos_token_id=0, **size))
    else:
        model = t.LlamaForCausalLM(t.LlamaConfig(**size, **places, num_key_value_heads=2))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def tokenizer():
    """The shipped one."""
    from l2e_min.lab.tokenizer import load_tokenizer

    return load_tokenizer(TOKENIZER)


def sentence(feature: str, rng: np.random.Generator, words: int = 12) -> str:
    """Words of a feature, with every third one of any feature."""
    every = [word for some in WORDS.values() for word in some]
    return " ".join(rng.choice(every if i % 3 == 2 else WORDS[feature]) for i in range(words))


def dataset(rows: int = 24, sources: int = 8, seed: int = 0) -> FeatureDataset:
    """``rows`` texts of each of three features, from ``sources`` files each."""
    rng = np.random.default_rng(seed)
    texts = [sentence(feature, rng, 6 + i % 7) for feature in WORDS for i in range(rows)]
    labels = np.repeat(np.arange(len(WORDS)), rows)
    files = [f"{feature}/{i % sources}.txt" for feature in WORDS for i in range(rows)]
    return FeatureDataset("words", list(WORDS), texts, labels, files)


def feature_folder(folder: Path, files: int = 8, seed: int = 0) -> Path:
    """The same as a reader's own data: a sub-folder of text files for each feature, a few rows a file."""
    rng = np.random.default_rng(seed)
    for feature in WORDS:
        (folder / feature).mkdir(parents=True)
        for i in range(files):
            lines = [sentence(feature, rng) for _ in range(10)]
            (folder / feature / f"{i}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def save(model, folder: Path) -> Path:
    """A checkpoint with its tokenizer, as ``save_pretrained`` writes them."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


SUITE = (("16x1", 0, (2, 8)), ("16x1", 1, ()), ("32x2", 0, (4,)))
"""Scale, seed, and the snapshots that ship."""


def suite_corpus():
    """A few kilobytes of words, in the place of a corpus."""
    from types import SimpleNamespace

    rng = np.random.default_rng(1)
    documents = [SimpleNamespace(text=" ".join(sentence("code", rng) for _ in range(15))) for _ in range(12)]
    return SimpleNamespace(name="words", train=documents[:10], validation=documents[10:], fingerprint="f" * 64)


def train_suite(out: Path) -> Path:
    """A suite of two scales as ``l2e pretrain suite`` leaves it: 12 steps, snapshots after 1, 2, 4 and 8."""
    from l2e_min.lab.training import suite

    runs = [suite.Run(scale, seed, True, steps) for scale, seed, steps in SUITE]
    options = {"steps": 12, "batch": 2, "context": 32, "log_every": 6, "validate_every": 12, "vocabulary": 300}
    options |= {"learning_rate": 0.02, "device": "cpu"}  # so that 12 steps are seen in half precision
    suite.train_suite(out, runs, corpus=suite_corpus(), progress=False, say=lambda line: None, **options)
    return out


def export(trained: Path, target: Path) -> Path:
    """The same suite as it ships."""
    from l2e_min.lab.training.suite import Run
    from l2e_min.lab.training.suite_export import export_suite

    export_suite(trained, target, [Run(*run[:2], True, run[2]) for run in SUITE], corpus=suite_corpus())
    return target
