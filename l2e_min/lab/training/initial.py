"""The model that a run begins with: weights drawn from the seed, or those of a model that is there already."""

from torch import nn

from l2e_min.lab.errors import UserError
from l2e_min.lab.loading import load_pretrained
from l2e_min.lab.mini_bert import is_bert, untrained_bert
from l2e_min.lab.mini_pythia import config_for, untrained
from l2e_min.lab.training.recipe import PretrainSettings


def first_model(settings: PretrainSettings, vocabulary: int) -> nn.Module:
    """A model of ``settings.size``, float32, on the CPU. ``vocabulary``: entries of the tokenizer.

    Raises ``UserError`` where ``settings.initial`` is no model, or one of another size, context or vocabulary.
    """
    from transformers import AutoModelForCausalLM

    shape = {"vocabulary": vocabulary, "context": settings.context}
    if not settings.initial:
        make = untrained_bert if is_bert(settings.size) else untrained
        return make(settings.size, seed=settings.seed, **shape)
    model = load_pretrained(AutoModelForCausalLM, settings.initial)  # its tokenizer may lie elsewhere
    wanted = config_for(settings.size, **shape)
    for name in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings"):
        there = getattr(model.config, name, None)
        if there != getattr(wanted, name):
            raise UserError(
                f"the model {settings.initial} has {name} {there}, {settings.size} with this tokenizer and context "
                f"has {getattr(wanted, name)}; give --size, --tokenizer and --context that fit the model"
            )
    return model
