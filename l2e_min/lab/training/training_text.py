"""The text of a run: split, tokenized, cut into blocks, and described so that a resumed run can tell it is the same."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_bert import is_bert, train_wordpiece
from l2e_min.lab.mini_pythia import PYTHIA, config_for
from l2e_min.lab.tokenizer import load_tokenizer, train_tokenizer
from l2e_min.lab.training.blocks import Blocks, encode_stream
from l2e_min.lab.training.masked import MaskedBlocks
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.lab.training.streamed import StreamedBlocks


@dataclass
class TrainingText:
    """What a run reads."""

    tokenizer: Any
    """A fast Hugging Face tokenizer."""

    training: Blocks | StreamedBlocks
    """Rows to learn from."""

    validation: Blocks
    """Rows of documents that are not in ``training``, in the order of the text."""

    summary: dict
    """Plain JSON: name, fingerprint, sizes."""

    def check_same(self, other: dict) -> None:
        """Raises ``UserError`` where ``other``, the summary in a checkpoint, is of other text."""
        for key, value in other.items():
            if self.summary.get(key) != value:
                raise UserError(
                    f"the text is not the one this run began with ({key} was {value}, is {self.summary.get(key)}); "
                    "installed text changes with package versions: start again in an empty folder"
                )


def prepare_text(settings: PretrainSettings, out: Path, *, corpus: Any = None, progress: bool = True) -> TrainingText:
    """Reads the text, trains or loads the tokenizer (once: it is kept in ``out/tokenizer``), and tokenizes both splits.

    A real Pythia streams a dataset of the hub; what is loaded of it here serves for validation and its description.
    A BERT's installed text leaves out the files of which the mini tasks' dev and test rows are cut.
    ``corpus`` (default: ``load_corpus(settings.text)``) has ``name``, ``train``, ``validation`` and ``fingerprint``.
    Raises ``UserError`` for text that is too short, or a tokenizer with more entries than a real Pythia has.
    """
    streamed = corpus is None and settings.size in PYTHIA and settings.text.startswith("hub:")
    if corpus is None:
        from l2e_min.lab.text.corpus import load_corpus

        corpus = load_corpus(settings.text)
        if is_bert(settings.size) and settings.text == "installed":
            from l2e_min.lab.finetuning.split import without_task_files

            corpus = without_task_files(corpus)
    kept = out / "tokenizer"
    training, validation = [d.text for d in corpus.train], [d.text for d in corpus.validation]
    if (kept / "tokenizer.json").is_file():
        tokenizer = load_tokenizer(kept)
    elif settings.tokenizer == "train":
        train = train_wordpiece if is_bert(settings.size) else train_tokenizer
        tokenizer = train(training, settings.vocabulary, settings.context)
    else:
        tokenizer = load_tokenizer(settings.tokenizer)
    if settings.size in PYTHIA and len(tokenizer) > (room := config_for(settings.size).vocab_size):
        raise UserError(f"the tokenizer has {len(tokenizer)} entries, {settings.size} has room for {room}")
    if not all((kept / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        tokenizer.save_pretrained(kept)
    streams = {
        "training": encode_stream(tokenizer, training, progress=progress),
        "validation": encode_stream(tokenizer, validation, progress=progress),
    }
    for name, stream in streams.items():
        if len(stream) <= settings.context:
            raise UserError(
                f"the {name} text of {settings.text!r} has {len(stream)} tokens; "
                f"expected more than the context of {settings.context}"
            )
    validation_bytes = sum(len(text.encode("utf-8", "replace")) for text in validation)
    summary = {
        "name": corpus.name,
        "fingerprint": corpus.fingerprint,
        "training_documents": len(training),
        "training_tokens": len(streams["training"]),
        "validation_documents": len(validation),
        "validation_tokens": len(streams["validation"]),
        "validation_bytes_per_token": validation_bytes / len(streams["validation"]),
    }
    if streamed:
        training_rows = StreamedBlocks(settings.text, tokenizer, settings.context)
        validation_rows = Blocks(streams["validation"], settings.context)
        summary["streamed"] = True  # and the training documents and tokens above are those of its beginning
    elif is_bert(settings.size):
        training_rows = MaskedBlocks(streams["training"], settings.context, tokenizer, settings.data_seed)
        validation_rows = MaskedBlocks(streams["validation"], settings.context, tokenizer)
    else:
        training_rows = Blocks(streams["training"], settings.context, settings.data_seed)
        validation_rows = Blocks(streams["validation"], settings.context)
    return TrainingText(tokenizer, training_rows, validation_rows, summary)
