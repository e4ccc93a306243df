"""An inhibitor under the Hugging Face Trainer: the gradients of a loop written by hand, and a resume bit for bit."""

import gc
import json
import math
import os
import shutil
import socket

import pytest
import torch
import torch.nn.functional as F
import transformers as t
from models import build
from safetensors.torch import load_file
from transformers.trainer_pt_utils import LabelSmoother

from l2e_min import Inhibitor, MovingThreshold, TopK
from l2e_min.lab.errors import UserError
from l2e_min.lab.trainer import InhibitorCallback, loss_with

PENALTY = {"inhibition": "log_ms", "weight": 0.3, "start_after": 1}
ONE_A_SAMPLE = {"retrieval": TopK(1), "inhibition": "reverse"}


def language_model(dropout=0.0):
    model = build("gpt_neox")[0]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    return model


def classifier(classes=3):
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24}
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2}
    return t.BertForSequenceClassification(t.BertConfig(vocab_size=50, num_labels=classes, **small, **off))


def texts(n):
    """Rows of 10 tokens whose first few are not to be predicted: a different number in each."""
    draw = torch.Generator().manual_seed(1)
    rows = []
    for i in range(n):
        tokens = torch.randint(0, 50, (10,), generator=draw)
        rows.append({"input_ids": tokens, "labels": torch.where(torch.arange(10) < i % 4, -100, tokens)})
    return rows


def classified(n, classes=3):
    draw = torch.Generator().manual_seed(1)
    label = (lambda i: i % classes) if classes > 1 else (lambda i: i / n)
    return [{"input_ids": torch.randint(0, 50, (10,), generator=draw), "labels": label(i)} for i in range(n)]


class Watch(t.TrainerCallback):
    """The gradient of every update, (P,), before the optimizer uses it."""

    def __init__(self):
        self.gradients = []

    def on_pre_optimizer_step(self, args, state, control, model=None, optimizer=None, **kwargs):
        scale = 1.0 if optimizer.scaler is None else optimizer.scaler.get_scale()
        if args.max_grad_norm > 0:
            scale = 1.0  # clipping has divided by the scale already
        self.gradients.append(torch.cat([p.grad.flatten() / scale for p in model.parameters() if p.grad is not None]))


def make_trainer(out, model, inhibitor, rows, in_loss=False, callback=None, loss=None, more=(), **changes):
    """An unmodified Trainer whose ``watch`` and ``seen`` record what it did."""
    settings = {"per_device_train_batch_size": 2, "max_steps": 3, "max_grad_norm": 0.0, "learning_rate": 0.05}
    settings |= {"optim": "sgd", "lr_scheduler_type": "constant", "save_strategy": "no", "logging_steps": 1}
    settings |= {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "log_level": "error"}
    args = t.TrainingArguments(str(out), **(settings | changes))
    watch, seen = Watch(), []

    def collate(batch):
        seen.append(t.default_data_collator(batch))
        return seen[-1]

    callbacks = [watch] if inhibitor is None else [watch, callback or InhibitorCallback(inhibitor)]
    made = t.Trainer(
        model,
        args,
        data_collator=collate,
        train_dataset=rows,
        eval_dataset=rows[:3],
        callbacks=[*callbacks, *more],
        compute_loss_func=loss_with(inhibitor, loss) if in_loss else None,
    )
    made.remove_callback(t.PrinterCallback)
    made.watch, made.seen = watch, seen
    return made


@pytest.fixture
def trainer(tmp_path):
    return lambda *args, out="out", **settings: make_trainer(tmp_path / out, *args, **settings)


def close(a, b, within=1e-6):
    """Equal to a part of the largest entry: gradients of single weights are small differences of large terms."""
    assert a.shape == b.shape and torch.isfinite(a).all()
    assert (a - b).abs().max() <= within * a.abs().max()


def same_state(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.slow
def test_the_penalty_is_that_of_a_loop_written_by_hand(trainer):
    model = language_model()
    made = trainer(model, Inhibitor(model, "middle-2", **PENALTY), texts(10), True, gradient_accumulation_steps=2)
    made.train()

    twin = language_model()
    inhibitor = Inhibitor(twin, "middle-2", **PENALTY)
    for gradient, update in zip(made.watch.gradients, (made.seen[0:2], made.seen[2:4], made.seen[4:5]), strict=True):
        twin.zero_grad()
        items = sum((batch["labels"][:, 1:] != -100).sum() for batch in update)
        for batch in update:
            logits = twin(input_ids=batch["input_ids"]).logits[:, :-1]
            summed = F.cross_entropy(logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum")
            (summed / items + inhibitor.penalty() / len(update)).backward()  # 10 rows: the third update has one batch
        close(gradient, torch.cat([p.grad.flatten() for p in twin.parameters()]))
        with torch.no_grad():
            for p in twin.parameters():
                p -= 0.05 * p.grad

    plain = language_model()
    free = trainer(plain, None, texts(10), gradient_accumulation_steps=2)
    free.train()
    assert (free.watch.gradients[1] - made.watch.gradients[1]).abs().max() > 1e-2  # and the penalty is in there


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.slow
def test_the_penalty_in_the_backward_pass_is_the_one_in_the_loss(trainer, accumulated, scaled):
    gradients = []
    for where in ("loss", "backward"):
        model = language_model()
        inhibitor = Inhibitor(model, "middle-2", penalty_in=where, **PENALTY)
        # 14 rows in batches of 2: in threes, the last update of an epoch has one
        made = trainer(
            model, inhibitor, texts(14), where == "loss", gradient_accumulation_steps=accumulated, max_steps=7
        )
        if scaled:
            made.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        made.train()
        gradients.append(made.watch.gradients)
        assert inhibitor.loss_scale == 1.0  # given back
    assert len(gradients[0]) == 7
    for a, b in zip(*gradients, strict=True):
        close(a, b)


def one_of_two(rank, port, out):
    """A process of two: trains with the penalty in the loss and in the backward pass, and saves both gradients."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    for where in ("loss", "backward"):
        model = language_model()
        inhibitor = Inhibitor(model, "middle-2", penalty_in=where, **PENALTY)
        settings = {"gradient_accumulation_steps": 2, "max_steps": 2, "save_strategy": "steps", "save_steps": 2}
        made = make_trainer(out / where, model, inhibitor, texts(16), where == "loss", **settings)
        made.train()
        assert isinstance(made.model_wrapped, torch.nn.parallel.DistributedDataParallel)
        torch.save(torch.stack(made.watch.gradients), out / f"{where}{rank}.pt")
    del made  # DDP first, then the group: the other way round may never end, see many_devices.end
    gc.collect()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_take_the_penalty_as_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(one_of_two, (port, tmp_path), nprocs=2)
    for rank in (0, 1):
        in_loss, in_backward = (torch.load(tmp_path / f"{where}{rank}.pt") for where in ("loss", "backward"))
        close(in_loss, in_backward)
    assert len(list(tmp_path.glob("*/checkpoint-2/inhibitor.safetensors"))) == 2


def steady(model, **settings):
    """An inhibitor that has seen so much that a few batches more do not move its moments."""
    inhibitor = Inhibitor(model, "middle-2", start_after=1, forget_after=None, **settings)
    model.train()
    for _ in range(3):
        model(torch.randint(0, 50, (8, 10), generator=torch.Generator().manual_seed(7)))
    state = inhibitor.state_dict()
    inhibitor.load_state_dict({k: v * 0 + 10**12 if k.endswith("moments.count") else v for k, v in state.items()})
    return inhibitor


@pytest.mark.parametrize("kind", ["reverse", "freeze", "straight_through"])
@pytest.mark.parametrize("make, rows", [(language_model, texts(8)), (classifier, classified(8))])
@pytest.mark.slow
def test_accumulated_batches_give_the_gradient_of_one(trainer, kind, make, rows):
    gradients = []
    for batch, n in ((8, 1), (2, 4)):
        model = make()
        inhibitor = steady(model, retrieval=TopK(1), inhibition=kind)
        settings = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": n, "max_steps": 1}
        # BERT's own loss knows no accumulation, see loss_with; GPT-NeoX's does, and needs the callback alone
        made = trainer(model, inhibitor, rows, make is classifier, train_sampling_strategy="sequential", **settings)
        made.train()
        gradients += made.watch.gradients
    close(*gradients)
    model = make()
    inhibitor = Inhibitor(model, "middle-2")
    inhibitor.pause()
    made = trainer(model, inhibitor, rows, per_device_train_batch_size=8, max_steps=1)
    made.train()
    assert (made.watch.gradients[0] - gradients[0]).abs().max() > 1e-3  # something was inhibited


@pytest.mark.parametrize("classes", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("smoothing", [0.0, pytest.param(0.2, marks=pytest.mark.slow)])
def test_the_loss_of_a_classifier_is_the_trainers_own(trainer, classes, smoothing):
    if classes == 1 and smoothing:
        pytest.skip("a Trainer smooths no numbers")
    losses = []
    for in_loss in (False, True):
        model = classifier(classes)
        inhibitor = Inhibitor(model, "middle-2", **ONE_A_SAMPLE)
        made = trainer(model, inhibitor, classified(6, classes), in_loss, label_smoothing_factor=smoothing)
        made.train()
        losses.append([*made.watch.gradients, torch.tensor(made.evaluate()["eval_loss"])])
    for a, b in zip(*losses, strict=True):
        close(a, b)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.slow
def test_the_loss_of_a_language_model_is_the_trainers_own(trainer, smoothing):
    results = []
    for in_loss in (False, True):
        model = language_model()
        inhibitor = Inhibitor(model, "middle-2", **ONE_A_SAMPLE)
        more = {"gradient_accumulation_steps": 2, "label_smoothing_factor": smoothing}
        made = trainer(model, inhibitor, texts(10), in_loss, **more)
        made.train()
        results.append([*made.watch.gradients, torch.tensor(made.evaluate()["eval_loss"])])
    for a, b in zip(*results, strict=True):
        close(a, b)


@pytest.mark.parametrize("kind", ["masked", "tokens", "image"])
@pytest.mark.slow
def test_the_loss_of_other_kinds_is_the_models_own(trainer, kind):
    results = []
    for in_loss in (False, True):
        model, batch = build("vit" if kind == "image" else "bert")[:2]
        rows = [{key: value[i] for key, value in batch.items()} for i in range(3)] * 2
        if kind == "tokens":
            model = t.BertForTokenClassification(model.config)
            rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"] % 2} for row in rows]
        inhibitor = Inhibitor(model, "middle-2", **ONE_A_SAMPLE)
        made = trainer(model, inhibitor, rows, in_loss)  # dropout stays on: a Trainer seeds it
        made.train()
        results.append([*made.watch.gradients, torch.tensor(made.evaluate()["eval_loss"])])
    for a, b in zip(*results, strict=True):
        close(a, b)


@pytest.mark.slow
def test_accumulated_squared_errors_are_averaged(trainer):
    results = []
    for batch, n in ((8, 1), (2, 4)):
        model = classifier(1)
        inhibitor = Inhibitor(model, "middle-2", retrieval=TopK(1), inhibition="reverse", start_after=100)
        settings = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": n, "max_steps": 1}
        made = trainer(model, inhibitor, classified(8, 1), True, train_sampling_strategy="sequential", **settings)
        made.train()
        results.append([*made.watch.gradients, torch.tensor(made.evaluate()["eval_loss"])])
    for a, b in zip(*results, strict=True):
        close(a, b, within=1e-5)  # of the evaluation after the update, whose step is 0.05


@pytest.mark.slow
def test_a_loss_of_ones_own(trainer):
    def smoothed(outputs, labels, num_items_in_batch=None):
        return LabelSmoother(0.2)(outputs, labels, num_items_in_batch=num_items_in_batch)

    gradients = []
    for loss, smoothing in ((smoothed, 0.0), (None, 0.2)):
        model = classifier()
        inhibitor = Inhibitor(model, "middle-2", **PENALTY)
        made = trainer(model, inhibitor, classified(6), True, loss=loss, label_smoothing_factor=smoothing)
        made.train()
        gradients.append(torch.stack(made.watch.gradients))
    close(*gradients)


METHODS = [
    {"inhibition": "reverse", "retrieval": TopK(2)},
    {"inhibition": "log_ms", "weight": 0.1},
    {"inhibition": "log_ms", "weight": 0.1, "penalty_in": "backward"},
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_a_resumed_training_ends_as_one_that_never_stopped(trainer, tmp_path, method):
    settings = {"max_steps": 7, "save_strategy": "steps", "save_steps": 4, "gradient_accumulation_steps": 2}
    settings |= {"optim": "adamw_torch", "learning_rate": 1e-3}
    ends = []
    for resume in (False, True):
        model = language_model(dropout=0.1)
        inhibitor = Inhibitor(model, "middle-2", start_after=2, forget_after=2, **method)
        if resume:  # weights of another start: all has to come from the folder
            with torch.no_grad():
                for p in model.parameters():
                    p += 1
        in_loss = method["inhibition"] == "log_ms" and "penalty_in" not in method
        made = trainer(model, inhibitor, texts(9), in_loss, **settings)  # 9 rows: step 4 is inside of an epoch
        made.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4") if resume else None)
        ends.append((model.state_dict(), inhibitor.state_dict(), made.state.log_history[-2]))
    assert same_state(ends[0][0], ends[1][0])
    assert same_state(ends[0][1], ends[1][1])
    assert ends[0][2] == ends[1][2]
    saved = load_file(tmp_path / "out" / "checkpoint-4" / "inhibitor.safetensors")
    assert saved.keys() == ends[0][1].keys() and not same_state(saved, ends[0][1])


@pytest.mark.slow
def test_the_right_checkpoint_is_found_or_none(trainer, tmp_path):
    def one(out, resume=None, rows=None, **callback):
        model = language_model()
        inhibitor = Inhibitor(model, "middle-2", **ONE_A_SAMPLE)
        settings = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3 if resume else 2}
        callback = InhibitorCallback(inhibitor, **callback)
        made = trainer(model, inhibitor, rows or texts(4), callback=callback, out=out, **settings)
        made.train(resume_from_checkpoint=resume)
        return inhibitor.state_dict()

    straight = one("here")
    shutil.copytree(tmp_path / "here", tmp_path / "copy")
    one("there", rows=texts(8)[4:])
    here, there = (tmp_path / name / "checkpoint-2" for name in ("here", "there"))
    assert straight.keys() == load_file(here / "inhibitor.safetensors").keys()
    kept = one("here", resume=True)
    assert same_state(kept, one("copy", resume=str(tmp_path / "copy" / "checkpoint-2")))
    # A folder of the same name lies in the run's own output, but it is not the one that is resumed from.
    with pytest.raises(UserError, match=r"step 2.*resume_from=folder"):
        one("there", resume=str(here))
    assert same_state(kept, one("there", resume=str(here), resume_from=here))
    with pytest.raises(UserError, match=r"is not the checkpoint it resumes from"):
        one("there", resume=str(here), resume_from=there)
    (there / "inhibitor.safetensors").unlink()
    with pytest.raises(UserError, match=r"checkpoint-2 has no inhibitor\.safetensors"):
        one("there", resume=str(there))


def test_the_best_weights_come_back_whole(trainer, tmp_path):
    model = language_model()
    inhibitor = Inhibitor(model, "middle-2", **ONE_A_SAMPLE)
    settings = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    settings |= {"load_best_model_at_end": True, "learning_rate": 5.0}  # far too high: the first step is the best
    made = trainer(model, inhibitor, texts(6), **settings)
    made.train()
    assert made.state.best_model_checkpoint.endswith("checkpoint-1")
    best = t.GPTNeoXForCausalLM.from_pretrained(tmp_path / "out" / "checkpoint-1")
    assert same_state(best.state_dict(), model.state_dict())


@pytest.mark.slow
def test_the_state_of_another_method_is_refused(trainer, tmp_path):
    for kind, steps, resume in (("log_ms", 2, None), ("reverse", 3, True)):
        model = language_model()
        retrieval = MovingThreshold(0.02) if kind == "log_ms" else TopK(1)
        inhibitor = Inhibitor(model, "middle-2", retrieval, kind)
        settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": steps}
        made = trainer(model, inhibitor, texts(4), kind == "log_ms", **settings)
        if resume is None:
            made.train()
        else:
            with pytest.raises(UserError, match="inhibitor does not fit this run"):
                made.train(resume_from_checkpoint=True)


@pytest.mark.slow
def test_evaluation_leaves_the_state_alone(trainer):
    states = []

    class Around(t.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            states.append(inhibitor.state_dict())
            states[-1] = {key: value.clone() for key, value in states[-1].items()}

        def on_evaluate(self, args, state, control, **kwargs):
            assert same_state(states[-1], inhibitor.state_dict())

    ends = []
    for strategy in ("steps", "no"):
        model = language_model()
        inhibitor = Inhibitor(model, "middle-2", **PENALTY)
        more = {"eval_strategy": strategy, "eval_steps": 1 if strategy == "steps" else None}
        made = trainer(model, inhibitor, texts(6), True, more=[Around()], **more)
        made.train()
        assert len([line for line in made.state.log_history if "eval_loss" in line]) == 3 * (strategy == "steps")
        ends.append(model.state_dict() | inhibitor.state_dict())
    assert same_state(*ends)
    assert not same_state(states[0], states[1])

    inhibitor.pause()  # what an inhibitor that is not there would give
    before = made.evaluate()["eval_loss"]
    inhibitor.resume()
    assert made.evaluate()["eval_loss"] == before


def test_log_lines_hold_what_the_report_says(trainer):
    told = []

    class Reporter(t.TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            told.append(dict(logs))

    for retrieval in (MovingThreshold(0.05), TopK(1)):
        model = language_model()
        inhibitor = Inhibitor(model, "middle-2", retrieval, "reverse", start_after=0)
        made = trainer(model, inhibitor, texts(6), more=[Reporter()])
        made.train()
        metrics = made.evaluate()
        rows = inhibitor.report().rows
        line = made.state.log_history[2]
        assert line["inhibitor_share"] == pytest.approx((rows[0]["share"] + rows[1]["share"]) / 2)
        assert line["inhibitor_variance"] == min(row["variance"] for row in rows) > 0
        assert line["inhibitor_skipped"] == 0
        if isinstance(retrieval, MovingThreshold):
            assert line["inhibitor_tau"] == pytest.approx((rows[0]["tau"] + rows[1]["tau"]) / 2)
        else:
            assert "inhibitor_tau" not in line
        assert {key: told[2][key] for key in line if key.startswith("inhibitor")} == {
            key: value for key, value in line.items() if key.startswith("inhibitor")
        }
        assert not any(key.startswith("inhibitor") for key in metrics)  # by these a search would choose
        json.dumps(made.state.log_history, allow_nan=False)
        told.clear()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_bf16_and_checkpointing_change_no_more_than_rounding(trainer, method):
    in_loss = method["inhibition"] == "log_ms" and "penalty_in" not in method
    gradients, batches = {}, {}
    for name, settings in (
        ("plain", {}),
        ("checkpointing", {"activation_checkpointing": True}),
        ("bf16", {"bf16": True, "torch_compile": False}),
    ):
        model = language_model()
        inhibitor = Inhibitor(model, "middle-2", start_after=1, **method)
        made = trainer(model, inhibitor, texts(12), in_loss, gradient_accumulation_steps=2, **settings)
        made.train()
        gradients[name] = torch.stack(made.watch.gradients)  # (3, P)
        batches[name] = [row["batches"] for row in inhibitor.report().rows]
        assert all(math.isfinite(line["loss"]) for line in made.state.log_history[:3])
    close(gradients["checkpointing"], gradients["plain"])
    assert batches["checkpointing"] == batches["bf16"] == batches["plain"] == [6, 6]  # what is repeated is not new
    first, rounded = gradients["plain"][0], gradients["bf16"][0]  # later ones come from other weights
    assert F.cosine_similarity(first, rounded, dim=0) > 0.98
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.slow
def test_hooks_stay_until_they_are_told_to_go(trainer):
    for remove in (False, True):
        model = language_model()
        inhibitor = Inhibitor(model, "middle-2", **ONE_A_SAMPLE)
        made = trainer(model, inhibitor, texts(6), callback=InhibitorCallback(inhibitor, remove_at_end=remove))
        made.train()
        before = inhibitor.report().rows[0]["batches"]
        model.train()(**made.seen[0])
        assert inhibitor.report().rows[0]["batches"] - before == (0 if remove else 1)


def test_mistakes_are_named(trainer):
    model = language_model()
    inhibitor = Inhibitor(model, "middle-2", **PENALTY)
    with pytest.raises(UserError, match=r"the penalty is not in the loss.*compute_loss_func=loss_with"):
        trainer(model, inhibitor, texts(6)).train()
    with pytest.raises(UserError, match=r"another model.*model_init="):
        trainer(language_model(), inhibitor, texts(6), True)

    lonely = Inhibitor(language_model(), "middle-2", **PENALTY)
    with pytest.raises(UserError, match=r"needs InhibitorCallback"):
        loss_with(lonely)(None, None)

    class Unknown(t.GPTNeoXForCausalLM):
        pass

    odd = Unknown(language_model().config)
    odd.loss_type = None
    inhibitor = Inhibitor(odd, "middle-2", **PENALTY)
    with pytest.raises(UserError, match=r"does not know the loss of Unknown.*loss_with\(inhibitor, loss\)"):
        trainer(odd, inhibitor, texts(6), True).train()
    model = language_model()
    inhibitor = Inhibitor(model, "middle-2", **PENALTY)
    with pytest.raises(UserError, match="no 'labels'"):
        trainer(model, inhibitor, [{"input_ids": row["input_ids"]} for row in texts(6)], True).train()
