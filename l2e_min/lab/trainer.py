"""The Hugging Face ``Trainer``, as it is, with an inhibitor: a callback, and a loss for a penalty in the loss.

    inhibitor = Inhibitor(model, "middle-2")
    loss, callback = loss_with(inhibitor), InhibitorCallback(inhibitor)
    Trainer(model=model, args=args, train_dataset=rows, compute_loss_func=loss, callbacks=[callback]).train()

The deactivating kinds and ``penalty_in="backward"`` need the callback alone.
"""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback
from transformers.trainer_utils import has_length

from l2e_min.inhibitor import Inhibitor
from l2e_min.lab.errors import UserError
from l2e_min.lab.trainer_loss import RUNS, Run, loss_with
from l2e_min.lab.trainer_resume import checkpoint_folder, complete_weights
from l2e_min.lab.training.checkpoint import restore

__all__ = ["InhibitorCallback", "loss_with"]

FILE = "inhibitor.safetensors"  # in every checkpoint folder


class InhibitorCallback(TrainerCallback):
    """Logs an inhibitor's numbers, keeps its state with each checkpoint, and tells it how the loss is scaled.

    Every line that a Trainer logs of its training gets ``inhibitor_share`` (mean over the sites), ``inhibitor_tau``
    (likewise; none for top-k), ``inhibitor_variance`` (median S^2 of the site where it is smallest: towards 0 the site
    turns into a constant) and ``inhibitor_skipped`` (batches, all sites). They stand in ``state.log_history``; of
    the reporters, those that come after this callback get them: ``report_to="none"``, ``callbacks=[InhibitorCallback(
    inhibitor), TensorBoardCallback()]``.

    A checkpoint gets ``inhibitor.safetensors``; the optimizer's and the random state beside it are Trainer's own files,
    and those are pickles. Resuming restores it, and the weights that transformers 5 forgets (see
    :func:`complete_weights`), after which training goes on bit for bit. ``load_best_model_at_end`` brings back the best
    weights, all of them, but not the inhibitor's state at that step. Evaluation needs no pause: an inhibitor rests in
    ``eval()``.

    With ``penalty_in="backward"`` it sets ``inhibitor.loss_scale`` until the training ends: a micro batch's share of an
    update, times the factor of fp16's gradient scaler. DeepSpeed scales by itself and was not tried.

    Args:
        inhibitor: on the model that the Trainer trains.
        resume_from: the checkpoint's folder, where ``train(resume_from_checkpoint=...)`` names one that lies elsewhere
            than in ``args.output_dir``: a Trainer does not tell its callbacks.
        remove_at_end: take the hooks off when training ends.

    Raises ``UserError`` where the Trainer trains another model, where the penalty is not taken into the loss, and where
    a checkpoint holds no state that fits.
    """

    def __init__(self, inhibitor: Inhibitor, resume_from: str | Path | None = None, remove_at_end: bool = False):
        self.inhibitor, self.resume_from, self.remove_at_end = inhibitor, resume_from, remove_at_end
        self._scale_before: tuple | None = None
        self._look_for_penalty = self._first_epoch = True

    def on_init_end(self, args, state, control, model=None, **kwargs):
        self._meet(args, model)

    def on_train_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        run = self._meet(args, model)
        self._look_for_penalty = self._first_epoch = True
        if self.inhibitor.penalty_in == "backward":
            if self._scale_before is None:  # else a training that broke off has left its own
                self._scale_before = (self.inhibitor.loss_scale,)
            scaler = getattr(optimizer, "scaler", None)  # accelerate's, of fp16
            one = torch.ones((), device=args.device)  # scaled on the device: get_scale() would wait for it
            self.inhibitor.loss_scale = lambda: (1.0 if scaler is None else scaler.scale(one)) / run.batches
        if state.global_step:  # a Trainer that does not resume starts from 0
            folder = checkpoint_folder(args, state, self.resume_from)
            if not (folder / FILE).is_file():
                raise UserError(
                    f"{folder} has no {FILE}: it was written without InhibitorCallback, or not to its end; resume from "
                    "another checkpoint, or load its weights and start a new training"
                )
            restore("inhibitor", self.inhibitor, load_file(folder / FILE))
            complete_weights(model, folder)

    def _meet(self, args, model: nn.Module) -> Run:
        there = {id(module) for module in model.modules()}
        if not all(id(site.module) in there for site in self.inhibitor.sites):
            raise UserError(
                "the Trainer trains another model than the one that the inhibitor was put on; give it model=, and not "
                "model_init=, which makes a new one"
            )
        RUNS[self.inhibitor] = Run(args, model)
        return RUNS[self.inhibitor]

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        n = args.gradient_accumulation_steps
        batches = len(train_dataloader) if has_length(train_dataloader) else state.max_steps * n
        self._last = batches % n or n  # in the epoch's last update
        self._updates_left = max(math.ceil(batches / n), 1)
        if self._first_epoch and not args.ignore_data_skip:  # resumed inside of an epoch
            self._updates_left -= state.global_step % self._updates_left
        self._first_epoch = False

    def on_step_begin(self, args, state, control, **kwargs):
        run = RUNS[self.inhibitor]
        run.batches = self._last if self._updates_left == 1 else args.gradient_accumulation_steps
        self._updates_left -= 1

    def on_step_end(self, args, state, control, **kwargs):
        if self._look_for_penalty and self.inhibitor.penalty().requires_grad:  # what no loss has asked for
            raise UserError(
                "the penalty is not in the loss: give the Trainer compute_loss_func=loss_with(inhibitor), or the "
                "inhibitor penalty_in='backward'"
            )
        self._look_for_penalty = False  # one look is enough

    def on_log(self, args, state, control, logs=None, **kwargs):
        # Lines of an evaluation are also the metrics by which a Trainer chooses: nothing is added to those.
        if not state.is_world_process_zero or "loss" not in (logs or {}):
            return
        if rows := self.inhibitor.report().rows:
            numbers = log_numbers(rows)
            logs.update(numbers)
            state.log_history[-1].update(numbers)

    def on_save(self, args, state, control, **kwargs):
        if not args.should_save:  # the main process only
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if not folder.is_dir():
            raise UserError(f"{folder} is not there: a hyperparameter search saves elsewhere; use save_strategy='no'")
        tensors = {key: t.detach().cpu().contiguous() for key, t in self.inhibitor.state_dict().items()}
        save_file(tensors, folder / FILE)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        if args.load_best_model_at_end and state.best_model_checkpoint:
            complete_weights(model, Path(state.best_model_checkpoint))
        if self._scale_before is not None:
            (self.inhibitor.loss_scale,), self._scale_before = self._scale_before, None
        if self.remove_at_end:
            self.inhibitor.remove()


def log_numbers(rows: list[dict]) -> dict[str, float]:
    """What a line of a Trainer's log says of ``Inhibitor.report().rows``, see :class:`InhibitorCallback`."""
    taus = [row["tau"] for row in rows if not math.isnan(row["tau"])]
    numbers = {"inhibitor_share": sum(row["share"] for row in rows) / len(rows)}
    if taus:
        numbers["inhibitor_tau"] = sum(taus) / len(taus)
    numbers["inhibitor_variance"] = min(row["variance"] for row in rows)
    numbers["inhibitor_skipped"] = sum(row["skipped"] for row in rows)
    return numbers
