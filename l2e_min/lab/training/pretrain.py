"""Pretraining a Pythia or a mini BERT so that it can be stopped or killed at any moment and goes on bit for bit.

The run's folder holds ``settings.json``, the tokenizer, ``training_log.csv``, ``checkpoints/``, ``snapshots/`` where
some were asked for and, at the end, ``model/`` and ``result.json``.
"""

import math
import time
from collections.abc import Callable, Collection
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import PYTHIA
from l2e_min.lab.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from l2e_min.lab.training.devices import Devices
from l2e_min.lab.training.events import Events
from l2e_min.lab.training.initial import first_model
from l2e_min.lab.training.many_devices import devices_for
from l2e_min.lab.training.methods import Attach, attach_method, chosen_sites
from l2e_min.lab.training.progress import in_words, progress_bar
from l2e_min.lab.training.random_state import random_state, restore_random_state, seed_generators
from l2e_min.lab.training.recipe import PretrainSettings, learning_rate_at, make_optimizer
from l2e_min.lab.training.run_folder import TrainingLog, hold_to_settings, read_json, versions, write_json
from l2e_min.lab.training.stopping import Interrupted, stop_requests
from l2e_min.lab.training.training_text import prepare_text
from l2e_min.lab.training.validation import validate
from l2e_min.lab.training.watch import inhibitor_numbers, look_inside
from l2e_min.lab.training.weights import save_model, save_snapshot


def pretrain(
    settings: PretrainSettings,
    out: Path,
    *,
    checkpoint_every: int = 500,
    snapshots: Collection[int] = (),
    attach: Attach | None = None,
    corpus: Any = None,
    progress: bool = True,
    shard: bool = False,
) -> dict:
    """Trains from the latest checkpoint in ``out``, or from the start where there is none; what result.json holds.

    In one of several processes it trains its part of the run, with ``shard`` on its part of the model; see
    ``many_devices``. After each of the steps ``snapshots`` the weights are kept for good, see ``save_snapshot``.
    ``attach`` is done to the model instead of ``settings.method``; ``corpus`` is read instead of ``settings.text``.
    Raises ``UserError`` for text too short, for other text or other settings than the run in ``out`` began with, and
    ``Interrupted`` after Ctrl-C or SIGTERM.
    """
    if checkpoint_every < 1:
        raise UserError(f"checkpoint-every must be at least 1, got {checkpoint_every}")
    devices = devices_for(settings, shard=shard)
    progress = progress and devices.main
    with devices.main_first():
        out.mkdir(parents=True, exist_ok=True)
        hold_to_settings(out, settings.as_dict(), missing=PretrainSettings().as_dict())
        if result := read_json(out / "result.json"):
            return result
        text = prepare_text(settings, out, corpus=corpus, progress=progress)
    model = first_model(settings, len(text.tokenizer))
    if settings.size in PYTHIA:
        model.set_attn_implementation("sdpa")  # at 2,048 tokens a matrix of attention a head would not fit
    model.to(devices.device).train()
    # For methods that draw at random, on every device anew; plain training draws nothing.
    seed_generators(settings.seed + 1_000_003 * devices.rank)
    penalty, extras = (attach or attach_method(settings))(model)
    for extra in extras.values():
        if hasattr(extra, "loss_scale"):
            extra.loss_scale = devices.loss_scale
    devices.prepare(model)
    optimizer = make_optimizer(model, settings)
    saved = {"model": model, "optimizer": optimizer}
    saved |= {name: extra for name, extra in extras.items() if hasattr(extra, "state_dict")}
    saved |= {"scaler": devices.scaler} if devices.scaler.is_enabled() else {}
    sites = chosen_sites(model, settings.layers)
    saved |= {"text": text.training} if hasattr(text.training, "state_dict") else {}
    log = TrainingLog(out / "training_log.csv")
    first = 0
    loss_sum = torch.zeros((), device=devices.device)  # since the last line of the log
    if checkpoint := latest_checkpoint(out / "checkpoints"):
        first, parts, state = load_checkpoint(checkpoint)
        text.check_same(state["text"])
        for name, target in saved.items():
            devices.restore(name, target, parts.get(name))
        states = [parts["random"], *parts.get("random_of_others", [])]
        if devices.rank < len(states):
            restore_random_state(states[devices.rank])
        loss_sum.copy_(parts["loss_sum"])
    if devices.main:
        log.truncate(state["log_bytes"] if checkpoint else 0)

    def save(step: int) -> None:
        loss_sum.copy_(devices.sum(loss_sum) / devices.count)
        parts = {name: devices.state_of(target) for name, target in saved.items()}
        mine, *others = devices.gather(random_state())
        parts |= {"random": mine, "loss_sum": loss_sum} | ({"random_of_others": others} if others else {})
        if devices.main:
            state = {"text": text.summary, "log_bytes": log.sync()}
            state |= {"settings": settings.as_dict(), "versions": versions()}
            save_checkpoint(out / "checkpoints", step, parts, state)

    events = Events(out / "events", first=first, say=progress, write=devices.main)
    started = time.perf_counter()
    with closing(events), stop_requests() as request, progress_bar(settings, first, progress) as bar:
        for done in range(first + 1, settings.steps + 1):
            pieces = [text.training.read(*rows) for rows in devices.own_rows(done)]
            inputs, targets = (torch.cat(side) for side in zip(*pieces, strict=True))  # (rows, context) each
            rate = learning_rate_at(done - 1, settings)
            with devices.eager() if done == 1 else nullcontext():
                loss, norm = training_step(model, optimizer, inputs, targets, rate, settings, penalty, devices)
            loss_sum += loss
            bar.update()
            if done % settings.log_every == 0:
                mean_loss = devices.sum(loss_sum).item() / devices.count / settings.log_every
                loss_sum.zero_()
                if not math.isfinite(mean_loss):
                    raise UserError(f"the loss is {mean_loss} at step {done}: a lower --learning-rate may help")
                row = {"step": done, "tokens": done * settings.batch * settings.context, "loss": mean_loss}
                row |= {"learning_rate": rate, "gradient_norm": norm.item()}
                row |= look_inside(devices, model, inputs, targets, sites) | inhibitor_numbers(extras.values())
                row |= validate(model, text, settings, devices=devices) if done % settings.validate_every == 0 else {}
                if devices.main:
                    log.add(row)
                    events.add(row)
                bar.set_postfix_str(in_words(row), refresh=False)
            last = done == settings.steps
            if done in snapshots:  # before the checkpoint: what a resumed run does not repeat must be on the disk
                save_snapshot(devices, model, out / "snapshots", done)
            # Several processes hear of a stop at different steps, so they ask each other on the log's lines.
            listen = devices.count == 1 or done % settings.log_every == 0
            stop = max(devices.gather(request.status)) if listen else 0
            if done % checkpoint_every == 0 or last or stop:
                save(done)
            if stop and not last:
                raise Interrupted(done, stop)
    seconds = time.perf_counter() - started
    final = validate(model, text, settings, rows=8 * settings.validation_rows, devices=devices)
    for extra in extras.values():
        if hasattr(extra, "bake"):
            extra.bake()
    save_model(devices, model.eval(), out / "model")
    result = {
        "settings": settings.as_dict(),
        "text": text.summary,
        "tokens": settings.steps * settings.batch * settings.context,
        **final,
        "tokens_per_second": round((settings.steps - first) * settings.batch * settings.context / seconds),
        "versions": versions(),
    }
    if devices.main:
        text.tokenizer.save_pretrained(out / "model")
        write_json(out / "result.json", result)
    return result


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    rate: float,
    settings: PretrainSettings,
    penalty: Callable[[], Tensor] | None = None,
    devices: Devices | None = None,
) -> tuple[Tensor, Tensor]:
    """One step on ``inputs`` and ``targets`` (batch, context); the loss in nats a token, and the gradient's norm.

    ``penalty`` is what an inhibitor adds to the loss; the loss that is returned is without it. Of several ``devices``
    each gets its own rows, and the mean of their losses is the loss.
    """
    devices = devices or Devices(settings)
    for group in optimizer.param_groups:
        group["lr"] = rate
    inputs = inputs.to(devices.device).chunk(settings.accumulate)  # (rows of a piece, context) each
    targets = targets.to(devices.device).chunk(settings.accumulate)
    total = torch.zeros((), device=devices.device)
    optimizer.zero_grad(set_to_none=True)
    for number, weight in enumerate(devices.weights(targets), 1):
        with devices.piece(last=number == settings.accumulate):
            loss = weight * devices.loss(model, inputs[number - 1], targets[number - 1])
            whole = loss if penalty is None else loss + penalty() / settings.accumulate
            devices.backward(whole)
        total += loss.detach()
    return total, devices.step(model, optimizer)
