"""BERT's architecture at mini scales, its WordPiece tokenizer, and loading an encoder from a folder or the hub."""

import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from l2e_min.lab.errors import UserError
from l2e_min.lab.loading import load_pretrained
from l2e_min.lab.mini_pythia import HEAD_SIZE, MINI_CONTEXT
from l2e_min.lab.paths import DATA
from l2e_min.lab.tokenizer import SAMPLE_BYTES, load_tokenizer, spread_sample

BERT_VOCABULARY = 4096
"""Entries of a mini BERT's WordPiece tokenizer: whole common words, and embeddings that do not fill the model."""

LETTERS = 200
"""Characters a mini BERT can spell; rarer ones, of other scripts mostly, become [UNK]."""

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""BERT's special tokens, ids 0 to 4."""


def is_bert(size: str) -> bool:
    """Whether a size is that of a mini BERT: ``bert-HIDDENxLAYERS``."""
    return re.fullmatch(r"bert-\d+x\d+", size) is not None


def bert_config(size: str, *, vocabulary: int = BERT_VOCABULARY, context: int = MINI_CONTEXT):
    """The ``BertConfig`` of ``"bert-128x4"`` (hidden x layers). UserError: another name, or an odd width.

    Dropout is 0: a mini model reads its text about twice and underfits. Fine-tuning sets BERT's own 0.1 again.
    """
    from transformers import BertConfig

    found = re.fullmatch(r"bert-(\d+)x(\d+)", size)
    if not found or int(found[1]) % HEAD_SIZE or not int(found[1]) * int(found[2]):
        raise UserError(
            f"no such size: {size!r}; expected bert-HIDDENxLAYERS such as bert-128x4 (a multiple of {HEAD_SIZE})"
        )
    hidden, layers = int(found[1]), int(found[2])
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // HEAD_SIZE,
        intermediate_size=4 * hidden,
        max_position_embeddings=context,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=math.sqrt(2 / (5 * hidden)),  # BERT's .02 is for a width of 768
        pad_token_id=0,
    )


def untrained_bert(size_or_config, *, seed: int = 0, vocabulary: int = BERT_VOCABULARY, context: int = MINI_CONTEXT):
    """A masked language model with seeded random weights, float32, in evaluation mode; see ``bert_config``."""
    from transformers import BertForMaskedLM

    config = size_or_config
    if isinstance(size_or_config, str):
        config = bert_config(size_or_config, vocabulary=vocabulary, context=context)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertForMaskedLM._from_config(config, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        positions = model.bert.embeddings.position_embeddings.weight  # (context, d)
        positions.copy_(sinusoids(*positions.shape) * config.initializer_range)
    return model.eval()


def sinusoids(positions: int, width: int) -> torch.Tensor:
    """(positions, width): sines and cosines of Vaswani et al. (2017), scaled to a mean square of 1.

    BERT learns its positions from random numbers; in a short training that costs much of the time.
    """
    rate = torch.exp(torch.arange(0, width, 2) / width * -math.log(10000.0))  # (width / 2,)
    angle = torch.arange(positions)[:, None] * rate  # (positions, width / 2)
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1) * math.sqrt(2)


def train_wordpiece(texts: Iterable[str], vocabulary: int = BERT_VOCABULARY, context: int = MINI_CONTEXT):
    """BERT's uncased WordPiece tokenizer, learned from ``texts``; a ``transformers.PreTrainedTokenizerFast``.

    Raises ``UserError`` for a vocabulary that cannot hold the letters, or where there is no text.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if vocabulary < 500:
        raise UserError(f"a WordPiece vocabulary needs at least 500 entries, got {vocabulary}")
    sample = spread_sample(list(texts), 2 * SAMPLE_BYTES)
    if not any(sample):
        raise UserError("the tokenizer needs some text to learn from, and there is none")

    def whole_words(model: Any) -> Tokenizer:
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return tokenizer

    learner = whole_words(models.WordPiece(unk_token="[UNK]"))
    seen = Counter()
    for text in sample:
        seen.update(learner.normalizer.normalize_str(text))
    letters = sorted((c for c in seen if not c.isspace()), key=lambda c: (-seen[c], c))[:LETTERS]
    # Left to itself the trainer numbers the letters in an order that changes from run to run, and which of two equally
    # frequent pairs it joins hangs on the numbers. Given as "special", letters get theirs here; only the vocabulary is
    # taken over, so that they are not special afterwards.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=[*SPECIAL, *letters, *(f"##{letter}" for letter in letters)],
        limit_alphabet=len(letters),
        initial_alphabet=letters,
        show_progress=False,
    )
    learner.train_from_iterator(sample, trainer)
    pieces = whole_words(models.WordPiece(learner.get_vocab(), unk_token="[UNK]"))
    pieces.decoder = decoders.WordPiece()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, pieces.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        eos_token="[SEP]",  # ends a document in a stream of tokens
        model_max_length=context,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def load_encoder(name: str | Path, *, dropout: float | None = 0.1, pooler: bool = False):
    """(encoder, tokenizer) of a BERT in a folder, or ``"hub:NAME[@REVISION]"``; safetensors only, evaluation mode.

    The encoder is the model without its language-model head. ``dropout`` replaces the configuration's (BERT fine-tunes
    with 0.1); None keeps it. ``pooler``: with the layer behind ``[CLS]``, which a mini BERT was never trained with.
    Raises ``UserError`` where there is no such model, or the hub is out of reach.
    """
    from transformers import BertModel
    from transformers.utils import logging

    options = {} if dropout is None else dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), dropout)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # else a page about the head that is left out, at every load
    try:
        model = load_pretrained(BertModel, name, add_pooling_layer=pooler, **options)
    finally:
        logging.set_verbosity(verbosity)
    return model, load_tokenizer(name)


def untrained_encoder(encoder: nn.Module) -> nn.Module:
    """An encoder of the same configuration with random weights from the global generator, in evaluation mode."""
    twin = type(encoder)(encoder.config, add_pooling_layer=encoder.pooler is not None).eval()
    with torch.no_grad():  # pretraining began there, too
        positions = twin.embeddings.position_embeddings.weight
        positions.copy_(sinusoids(*positions.shape) * encoder.config.initializer_range)
    return twin


def shipped_bert() -> Path:
    """The folder of the mini BERT that ships in ``data/models``."""
    return DATA / "models" / "mini-bert-128x4"


def encoder_layers(model: nn.Module) -> nn.ModuleList:
    """The blocks of an encoder, first to last. UserError where the model keeps them elsewhere than BERT does."""
    for name, module in model.named_modules():
        if name.endswith("encoder.layer") and isinstance(module, nn.ModuleList):
            return module
    raise UserError(f"no encoder.layer in {type(model).__name__}; expected a BERT or a model built like it")
