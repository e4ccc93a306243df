"""A byte-level BPE tokenizer for the mini models: small, deterministic, saved in Hugging Face's own format."""

from collections.abc import Iterable
from pathlib import Path

from l2e_min.lab import hub
from l2e_min.lab.errors import UserError

END_OF_TEXT = "<|endoftext|>"
"""Stands between documents; id 0, as in Pythia's tokenizer (B23)."""

PADDING = "<|padding|>"
"""Fills short rows of a batch; id 1, as in Pythia's tokenizer (B23)."""

SAMPLE_BYTES = 8_000_000
"""How much text the merges are counted on: 1,024 entries do not change with more, and the count stays at seconds."""


def train_tokenizer(texts: Iterable[str], vocabulary: int = 1024, context: int = 128):
    """A byte-level BPE tokenizer with ``vocabulary`` entries; the same texts give the same tokenizer.

    Bytes are the alphabet, so every text can be encoded and decodes back to itself. ``context`` is the longest text in
    tokens that the model is made for. Returns a ``transformers.PreTrainedTokenizerFast``.

    Raises ``UserError`` for a vocabulary smaller than the 256 bytes and two special entries, or where there is no text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if vocabulary < 258:
        raise UserError(f"a byte-level vocabulary needs at least 258 entries (256 bytes, 2 special), got {vocabulary}")
    sample = spread_sample(list(texts), SAMPLE_BYTES)
    if not any(sample):
        raise UserError("the tokenizer needs some text to learn from, and there is none")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(sample, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        pad_token=PADDING,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def spread_sample(texts: list[str], n_bytes: int) -> list[str]:
    """Every k-th text, k chosen so that about ``n_bytes`` come together: all kinds of text stay represented."""
    total = sum(len(text) for text in texts)
    stride = max(1, round(total / n_bytes))
    return texts[::stride]


def load_tokenizer(name: str | Path):
    """The tokenizer saved in a folder, or of ``hub:NAME[@REVISION]``, which is downloaded where it is not cached."""
    from transformers import AutoTokenizer

    name = str(name)
    is_hub = name.startswith("hub:")
    if is_hub:
        place, revision = hub.split_name(name)
        here = hub.reachable()
        options = {"revision": revision, "local_files_only": not here}
    else:
        place, options = name, {"local_files_only": True}
        if not (Path(name) / "tokenizer.json").is_file():
            raise UserError(f"no tokenizer.json in {name}: expected a folder with one, or hub:NAME")
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
    except Exception as error:  # the libraries below raise many kinds, some of them bare Exceptions
        if is_hub:
            raise hub.trouble(f"load the tokenizer {name}", error, here=here) from error
        raise UserError(f"cannot load the tokenizer {name}: {hub.first_line(error)}") from error
    if tokenizer.pad_token is None:  # Pythia's has none set; padding is masked everywhere, so any entry will do
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
