"""The loss of a Hugging Face ``Trainer`` with an inhibitor's penalty in it, at the right scale under accumulation."""

import weakref
from collections.abc import Callable

from torch import Tensor, nn
from transformers.trainer_pt_utils import LabelSmoother

from l2e_min.inhibitor import Inhibitor
from l2e_min.lab.errors import UserError

FROM_TOKENS = ("ForCausalLM", "ForMaskedLM")  # loss types whose function wants the vocabulary's size
FROM_CONFIG = ("ForSequenceClassification", "ForImageClassification", "ForTokenClassification")  # the config


class Run:
    """What a Trainer tells its callbacks and its loss function has to know: which share of an update a batch is."""

    def __init__(self, args, model: nn.Module):
        self.model = weakref.ref(model)  # the model's hooks hold the inhibitor, under which this is kept
        self.smoothing = args.label_smoothing_factor
        self.batches = 1  # in the update that is being made
        self.world = args.world_size if args.average_tokens_across_devices else 1

    def share(self, num_items: Tensor | int | None) -> float:
        """What a batch's mean is multiplied by, to be its part of the mean over an update.

        A Trainer does not divide what a ``compute_loss_func`` returns, and multiplies it by the number of processes
        where it has counted the items of all of them.
        """
        batches = self.batches if self.model().training else 1
        return 1 / (batches * (self.world if num_items is not None else 1))


# The inhibitor is all that a Trainer's callback and its loss function have in common.
RUNS: "weakref.WeakKeyDictionary[Inhibitor, Run]" = weakref.WeakKeyDictionary()


def loss_with(inhibitor: Inhibitor, loss: Callable | None = None) -> Callable[..., Tensor]:
    """A ``compute_loss_func`` for a Trainer that also has ``InhibitorCallback(inhibitor)``: the loss and the penalty.

    Under gradient accumulation the penalty is the mean of the micro batches' penalties. ``loss(outputs, labels,
    num_items_in_batch)`` returns a scalar already divided for accumulation, as a Trainer expects it. Default: the
    model's cross-entropy (causal and masked language models, classification of sequences, images and tokens) or
    squared error from ``logits``, with ``label_smoothing_factor``, which a Trainer by itself drops beside a
    ``compute_loss_func``. Terms that a model adds inside its forward pass, such as a router's, are not in it.

    It serves without a penalty, too: transformers 5.23 does not divide the mean that BERT's classifier and others
    compute by the accumulated batches, so that their gradients come out as many times too large; with it they do not.

    Raises ``UserError`` without the callback, and for another kind of model where no ``loss`` is given.
    """

    def penalized(outputs, labels, num_items_in_batch=None) -> Tensor:
        run = RUNS.get(inhibitor)
        if run is None:
            raise UserError("loss_with(inhibitor) needs InhibitorCallback(inhibitor) among the Trainer's callbacks")
        if loss is None:
            own = _own_loss(run, outputs, labels, num_items_in_batch)
        else:
            own = loss(outputs, labels, num_items_in_batch=num_items_in_batch)
        return own + run.share(num_items_in_batch) * inhibitor.penalty().to(own.device)

    return penalized


def _own_loss(run: Run, outputs, labels: Tensor | None, num_items: Tensor | int | None) -> Tensor:
    """The loss that the model would have computed with its labels, as this batch's part of the update's mean."""
    model = run.model()
    kind, config = getattr(model, "loss_type", None), getattr(model, "config", None)
    if kind not in (*FROM_TOKENS, *FROM_CONFIG):
        raise UserError(
            f"loss_with does not know the loss of {type(model).__name__}; give it: loss_with(inhibitor, loss)"
        )
    if labels is None:
        raise UserError("the rows have no 'labels', so there is no loss; add them to the data set")
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    problem = getattr(config, "problem_type", None)
    if run.smoothing and problem != "multi_label_classification":  # for which a Trainer switches it off, too
        smoother = LabelSmoother(epsilon=run.smoothing)
        value = smoother(outputs, labels, shift_labels=kind == "ForCausalLM", num_items_in_batch=num_items)
        is_mean = num_items is None
    elif kind in FROM_TOKENS:
        size = {"vocab_size": logits.shape[-1]}
        value = model.loss_function(logits=logits, labels=labels, num_items_in_batch=num_items, **size)
        is_mean = num_items is None
    elif kind == "ForTokenClassification":
        value = model.loss_function(logits, labels, config, num_items_in_batch=num_items)
        is_mean = num_items is None
    else:  # classes, or numbers to hit: those are averaged over the batch whatever was counted
        value = model.loss_function(labels, logits, config, num_items_in_batch=num_items)
        is_mean = num_items is None or config.problem_type != "single_label_classification"
    return value * run.share(num_items) if is_mean else value
