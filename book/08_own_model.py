# %% [markdown]
# # 8 Use it on your own model
#
# **Question.** You have a model and a training loop. How do you inhibit monosemantic neurons in it, and how do you know
# that this is what happens? A penalty that falls proves little: chapter 5 showed that it can be had by shrinking the
# activations. This chapter puts an inhibitor into three kinds of training code, and then breaks it in five ways, so that you
# recognize each from the inhibitor's own report.

# %% tags=["remove-cell"]
# On Colab and Kaggle: fetches the book and what it lacks; torch stays. Elsewhere: nothing.
import importlib.util
import os
import runpy

if importlib.util.find_spec("l2e_min") is None:
    if any(name.startswith(("COLAB_", "KAGGLE_KERNEL")) for name in os.environ):
        address = "https://github.com/l2e-min/l2e-min"
        os.system(f"test -d l2e-min || git clone --quiet --depth 1 {address}")
        runpy.run_path("l2e-min/book/_tools/on_colab.py", run_name="__main__")

# %%
import tempfile
from types import SimpleNamespace

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from torch import nn

from l2e_min import Inhibitor
from l2e_min.lab.arrays import keep
from l2e_min.lab.mini_bert import shipped_bert
from l2e_min.lab.settings import Settings
from l2e_min.lab.text.features import load_features
from l2e_min.lab.tokenizer import load_tokenizer
from l2e_min.lab.trainer import InhibitorCallback, loss_with
from l2e_min.show import COLOURS, Slider, ToggleButtons, explorer, figure, new_figure
from l2e_min.show.report_plot import report_over_steps

CHAPTER = "08_own_model"
settings = Settings.from_environment()
print(
    f"Profile: {settings.profile} (this chapter does the same on a CPU under every one)"
)
print("Data:    scikit-learn's digits, installed text, the shipped mini BERT")
print("Cost:    about a minute on 2 cores, nothing is downloaded")

# %% [markdown]
# ## A loop of your own
#
# The model of this chapter is nobody's in particular: three residual blocks with an MLP each, as in a transformer, that read
# scikit-learn's digits (1,797 images of 8 × 8 pixels; a fifth is the test set). The neurons are what comes out of `act`, the
# non-linearity.


# %%
class Block(nn.Module):
    def __init__(self, width, neurons):
        super().__init__()
        self.norm, self.up = nn.LayerNorm(width), nn.Linear(width, neurons)
        self.act, self.down = nn.GELU(), nn.Linear(neurons, width)

    def forward(self, x):  # (inputs, width)
        return x + self.down(self.act(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self, width=32, neurons=64, depth=3):
        super().__init__()
        self.into = nn.Linear(64, width)
        self.blocks = nn.Sequential(*(Block(width, neurons) for _ in range(depth)))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):  # (inputs, 64)
        return self.out(self.norm(self.blocks(self.into(x))))


pixels, digit = load_digits(return_X_y=True)
x, test_x, y, test_y = (
    torch.from_numpy(part)
    for part in train_test_split(
        pixels.astype(np.float32) / 16,
        digit,
        test_size=0.2,
        stratify=digit,
        random_state=0,
    )
)
SITES = ["blocks.0.act", "blocks.1.act", "blocks.2.act"]

# %% [markdown]
# And this is the loop. Two of its lines are new; the rest is what you have. (`reports` is for this chapter's pictures. Reading
# a report waits for the device, so on a GPU do it every hundred steps and not every step.)


# %%
def train(sites=SITES, steps=200, seed=0, every=10, rows_of=None, add=True, **options):
    """Trains a Net with an inhibitor. What it tells: the net, losses, and a report every few steps."""
    torch.manual_seed(seed)
    net = Net()
    inhibitor = Inhibitor(net, sites, **options)  # new line 1
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    draw = torch.Generator().manual_seed(seed)
    losses, reports = [], []
    for step in range(steps):
        rows = torch.randint(len(x), (64,), generator=draw)
        rows = rows if rows_of is None else rows_of(step)
        loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
        total = loss + inhibitor.penalty() if add else loss  # new line 2
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % every == 0:
            reports.append((step + 1, inhibitor.report()))
    return SimpleNamespace(
        net=net, inhibitor=inhibitor, losses=np.array(losses), reports=reports
    )


@torch.no_grad()
def accuracy(net):
    net.eval()
    right = (net(test_x).argmax(1) == test_y).float().mean().item()
    net.train()
    return right


SEEDS = range(3)
watched = [train(seed=seed, weight=0.0) for seed in SEEDS]  # observes, adds nothing
inhibited = [train(seed=seed, weight=0.003) for seed in SEEDS]
print(f"majority class: {test_y.bincount().max() / len(test_y):.2f}")
for name, runs in (("weight 0", watched), ("weight 0.003", inhibited)):
    print(
        f"{name}: every run beats the majority class by far:",
        all(accuracy(run.net) > 0.8 for run in runs),
    )

# %% [markdown]
# A weight of 0 is the way to begin. The inhibitor then watches a training run and changes nothing, and its report says what an
# ordinary run of *your* model looks like. Every later report is read against that one.

# %%
# NBVAL_IGNORE_OUTPUT
print(watched[0].inhibitor.report(test_x))

# %% [markdown]
# | column | what it says | as it should be |
# | --- | --- | --- |
# | `neurons` | size of the site's last axis | what you think the layer has |
# | `batches` | training batches seen | the steps made (times accumulation) |
# | `skipped` | batches left out for a NaN or an infinity | 0 |
# | `share` | part of the last batch's (input, neuron) pairs that was selected | near 2 %, or what you asked for |
# | `tau` | the threshold: the MS that this share of the pairs exceeds. Gaussian values would give 5.4 for 2 % | clearly above 5.4 |
# | `median S²` | variance of the site's median neuron | of the size it has at weight 0 |
# | `dead` | neurons whose variance is below a ten-thousandth of the site's mean | few |
# | `constant` | neurons that are constant to rounding | 0 |
# | `top φ`, `mean φ²` | MS on the batch you gave, by that batch's own moments: mean of each input's largest φ, and the kurtosis (3 for Gaussian values) | lower than at weight 0 |
#
# The last two columns come only with a batch, `report(test_x)` or `report(**batch)`. They are measured with the inhibitor at rest and
# with *fresh* moments: running moments lag behind (chapter 2), and against them MS falls whenever activations shrink, though nothing else
# has changed ([chapter 7](07_pretraining.ipynb#less-monosemantic-or-only-smaller-b05) measures by how much). Over the steps of training
# (for a deep network `report_by_site(inhibitor.report())`, beside it in `l2e_min.show.report_plot`, draws a bar a site instead):

# %% tags=["hide-input"]
fig = report_over_steps(inhibited[0].reports, share=0.02)
figure(
    fig,
    alt="Four panels over 200 steps with a line for each of three sites, weight 0.003: the share settles near two per cent, the "
    "threshold finds its level, the median variance drifts, and no neuron is dead.",
)


# %%
def numbers(runs, key, last=5):
    """Mean over sites, seeds and the last few reports."""
    return np.mean([row[key] for run in runs for _, r in run.reports[-last:] for row in r.rows])  # fmt: skip


print(
    "the share is within a quarter of 2 %:",
    all(abs(numbers(runs, "share") - 0.02) < 0.005 for runs in (watched, inhibited)),
)
print(
    "every report has seen every batch:",
    all(r.rows[0]["batches"] == step for run in inhibited for step, r in run.reports),
)
print("tau lies above a Gaussian's 5.4:", bool(numbers(watched, "tau") > 5.4))

# %% [markdown]
# When you are done, `inhibitor.remove()` takes the hooks off, and the model is a plain model again.
#
# ## The Hugging Face Trainer
#
# Here there is no loop to change. The callback keeps the inhibitor's state with each checkpoint and adds its numbers to the log; the
# penalty goes into the loss by `compute_loss_func`. The model is the mini BERT of chapter 6 with a fresh head, the task to name the language
# of a line of text (ten languages; test lines come from other files than training lines). Sixty steps, enough to see the loss fall.

# %%
import transformers

transformers.utils.logging.set_verbosity_error()  # else a page about the fresh head
transformers.utils.logging.disable_progress_bar()
data = load_features("natural_language", 100)
folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
train_rows, test_rows = next(folds.split(data.texts, data.labels, data.sources))
tokenizer = load_tokenizer(shipped_bert())


def encoded(rows):
    texts = tokenizer([data.texts[i] for i in rows], truncation=True, max_length=64)
    return [
        {"input_ids": ids, "labels": int(data.labels[i])}
        for ids, i in zip(texts["input_ids"], rows, strict=True)
    ]


transformers.set_seed(0)
bert = transformers.AutoModelForSequenceClassification.from_pretrained(
    shipped_bert(), num_labels=len(data.features), dtype=torch.float32
)
inhibitor = Inhibitor(bert, "middle-2", weight=0.003)
with tempfile.TemporaryDirectory() as folder:
    trainer = transformers.Trainer(
        bert,
        transformers.TrainingArguments(
            folder,
            max_steps=60,
            per_device_train_batch_size=32,
            learning_rate=5e-4,
            logging_steps=5,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=encoded(train_rows),
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        compute_loss_func=loss_with(inhibitor),  # the penalty
        callbacks=[InhibitorCallback(inhibitor)],  # the rest
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    guesses = trainer.predict(encoded(test_rows)).predictions.argmax(1)
log = [line for line in trainer.state.log_history if "inhibitor_share" in line]
right = float((guesses == data.labels[test_rows]).mean())
majority = np.bincount(data.labels[test_rows]).max() / len(test_rows)
print("the loss fell by more than half a nat:", log[0]["loss"] - log[-1]["loss"] > 0.5)
print("test lines: twice as good as the majority class:", right > 2 * majority)
print("sites:", *(site.name for site in inhibitor.sites))

# %% [markdown]
# The lines of the log hold what the report says, so any of Trainer's loggers shows it. The logged loss has the penalty in it, a
# logarithm that may be negative, so compare it with itself only. Here S² does not fall.

# %% tags=["hide-input"]
fig, axes = new_figure(1, 3, height=2.6)
steps = [line["step"] for line in log]
for ax, (key, label, factor) in zip(
    axes,
    (
        ("loss", "loss and penalty, nats", 1),
        ("inhibitor_share", "share in %", 100),
        ("inhibitor_variance", "smallest median S²", 1),
    ),
    strict=True,
):
    ax.plot(steps, [factor * line[key] for line in log], "o-", ms=3.5)
    ax.set_title(label, fontsize=10)
    ax.set_xlabel("step")
    ax.set_ylim(bottom=0)
figure(
    fig,
    alt="Three panels from the Trainer's log over 60 steps: the loss falls, the selected share settles near 2 %, and the "
    "smaller median variance of the two sites grows.",
)

# %% [markdown]
# ## A Lightning module
#
# Lightning is not among this book's packages, so this is text and not a cell; the book's tests take it from here and run it.
# Four lines matter: the inhibitor is made with the module, its penalty goes into what `training_step` returns, and its state
# travels with the checkpoint. An inhibitor has no parameters and is no module, so Lightning sees nothing of it.
#
# ```python
# import lightning
# import torch
# from torch import nn
#
# from l2e_min import Inhibitor
#
#
# class Inhibited(lightning.LightningModule):
#     def __init__(self, net, sites, **options):
#         super().__init__()
#         self.net = net
#         self.inhibitor = Inhibitor(net, sites, **options)  # 1
#
#     def training_step(self, batch, batch_idx):
#         x, y = batch
#         loss = nn.functional.cross_entropy(self.net(x), y)
#         self.log("loss", loss)  # without the penalty, to compare with plain runs
#         return loss + self.inhibitor.penalty()  # 2
#
#     def on_train_epoch_end(self):
#         for row in self.inhibitor.report().rows:
#             told = {key: float(row[key]) for key in ("share", "variance", "dead")}
#             self.log_dict({f"{row['site']}/{key}": n for key, n in told.items()})
#
#     def on_save_checkpoint(self, checkpoint):
#         checkpoint["inhibitor"] = self.inhibitor.state_dict()  # 3
#
#     def on_load_checkpoint(self, checkpoint):
#         self.inhibitor.load_state_dict(checkpoint["inhibitor"])  # 4
#
#     def configure_optimizers(self):
#         return torch.optim.AdamW(self.parameters(), lr=3e-3)
# ```
#
# Lightning divides what `training_step` returns by the accumulated batches and scales it under mixed precision; the penalty is in it, so it
# is scaled alike. With `penalty_in="backward"` it is not: give the inhibitor `loss_scale=1 / accumulate_grad_batches` then.
#
# ## What can go wrong
#
# ### The weight is too high
#
# The same net, the same batches, seven weights of the penalty and two of its forms: W25's `log_ms` and the scale-invariant
# `invariant_log_ms` of chapter 5. Move the weight up and look at S².

# %%
WEIGHTS = (0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
FORMS = ("log_ms", "invariant_log_ms")
sweep = {
    (form, weight): train(weight=float(weight), inhibition=form)
    for form in FORMS
    for weight in WEIGHTS
    if weight
}
sweep |= {(form, 0): watched[0] for form in FORMS}

# %% tags=["hide-input"]
usual = watched[0]


def draw_weight(form, weight):
    run = sweep[form, weight]
    fig, axes = new_figure(3, 1, height=5.6, sharex=True)
    smooth = np.ones(10) / 10
    for some, colour, label in ((usual, COLOURS[6], "weight 0"), (run, COLOURS[1], None)):
        axes[0].plot(
            np.convolve(some.losses, smooth, "valid"), color=colour, lw=1.4, label=label
        )
        steps = [step for step, _ in some.reports]
        for place in range(len(SITES)):
            style = {"color": colour, "lw": 1.2, "alpha": 1 - 0.3 * place}
            for ax, key, factor in ((axes[1], "variance", 1), (axes[2], "share", 100)):
                ax.plot(
                    steps, [factor * r.rows[place][key] for _, r in some.reports], **style
                )
    axes[0].set(ylabel="task loss, nats", ylim=(0, 2.6))
    axes[1].set(ylabel="median S²", yscale="log", ylim=(1e-9, 2))
    axes[2].set(ylabel="share in %", ylim=(0, 6), xlabel="step")
    axes[2].axhline(2, color=COLOURS[2], ls=":", lw=1.2)
    axes[0].legend(fontsize=9.5)
    return fig, told_weight(form, weight)


def told_weight(form, weight):
    run = sweep[form, weight]
    s2 = [row["variance"] for row in run.reports[-1][1].rows]
    return (
        f"{form}, weight {weight:g}: task loss of the last 20 steps {run.losses[-20:].mean():.2f} nats "
        f"(weight 0: {usual.losses[-20:].mean():.2f}), median S² by block {', '.join(f'{v:.1g}' for v in s2)}, "
        f"share {100 * numbers([run], 'share'):.1f} %."
    )


explorer(
    draw_weight,
    {
        "form": ToggleButtons(FORMS, label="form"),
        "weight": Slider(WEIGHTS, label="weight λ"),
    },
    title="Loss, variance and share over the steps, by weight",
    describe=told_weight,
    start={"form": "log_ms", "weight": 0.003},
)

# %% [markdown]
# In every one of these runs the share finds its 2 % and the loss falls. With high weights the loss ends higher, as it would under any
# regularizer that is too strong. What tells the reason is S²: it falls by many powers of ten. That is no neuron becoming polysemantic. The MLPs
# have become *constants*, and the network goes around them by the residual path. The test for it is a hook of one line: put each MLP's mean in the place of its values, and see what it costs.


# %%
@torch.no_grad()
def mean_cost(net, names=SITES):
    """Test loss, in nats, that is lost by giving every neuron at the sites its mean on all inputs."""
    net.eval()
    before = nn.functional.cross_entropy(net(test_x), test_y)
    handles = [
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, z: z.mean(0).expand_as(z)
        )
        for name in names
    ]
    after = nn.functional.cross_entropy(net(test_x), test_y)
    for handle in handles:
        handle.remove()
    net.train()
    return (after - before).item()


costs = {key: mean_cost(run.net) for key, run in sweep.items()}
s2 = {
    key: [row["variance"] for row in run.reports[-1][1].rows]
    for key, run in sweep.items()
}
ratio = {key: max(np.array(s2[key]) / np.array(s2[key[0], 0])) for key in sweep}
print("weight 0: the MLPs are worth more than half a nat:", costs["log_ms", 0] > 0.5)
for weight in (0.1, 0.3):
    print(f"log_ms at {weight:g}: S² fell more than a hundredfold at every site:",
          bool(ratio["log_ms", weight] < 1e-2), "- worth less than a fifth of that:",
          costs["log_ms", weight] < 0.2 * costs["log_ms", 0])  # fmt: skip
print("even so, every run of the sweep names more than 85 % of the test digits:",
      all(accuracy(run.net) > 0.85 for run in sweep.values()))  # fmt: skip

# %% tags=["hide-input"]
fig, axes = new_figure(2, 1, height=5.4, sharex=True)
at = np.arange(len(WEIGHTS))
for form, colour, mark in zip(FORMS, COLOURS, "os", strict=False):
    axes[0].plot(
        at,
        [np.median(s2[form, w]) for w in WEIGHTS],
        color=colour,
        marker=mark,
        label=form,
    )
    axes[1].plot(at, [costs[form, w] for w in WEIGHTS], color=colour, marker=mark)
axes[0].set(yscale="log", ylabel="median S², middle block")
axes[0].legend(fontsize=9.5)
axes[1].set(ylabel="nats lost by the means")
axes[1].set_ylim(bottom=min(0, *axes[1].get_ylim()))
axes[1].set_xticks(at, [f"{w:g}" for w in WEIGHTS])
axes[1].set_xlabel("weight λ")
figure(
    fig,
    alt="Two panels against the weight for both forms of the penalty. Above, the median variance falls by powers of ten, from "
    "smaller weights on for log_ms than for invariant_log_ms. Below, what it costs to replace the MLPs by their means falls "
    "towards 0 where the variance has collapsed.",
)

# %%
print(
    "at weight 0.03 and 0.1 the invariant form keeps at least ten times the variance of log_ms:",
    all(
        np.median(s2["invariant_log_ms", w]) > 10 * np.median(s2["log_ms", w])
        for w in (0.03, 0.1)
    ),
)
print(
    "at 0.3 it has collapsed, too:",
    bool(np.median(s2["invariant_log_ms", 0.3]) < 1e-2 * np.median(s2["log_ms", 0])),
)

# %% [markdown]
# The log form can be lowered by shrinking, so it is, and early. The invariant form cannot be lowered so, and it stands a weight
# several times as high. But it is no insurance: at a high weight the penalty's gradient drowns the task's, and the network again does best by
# doing without its MLPs. There is no form for which you need not look at S².
#
# ### The wrong sites
#
# An inhibitor takes any module, so it cannot know that you meant another one. A name that the model does not have is an error:

# %%
for sites in ("blocks.1.gelu", [], "middle-2"):
    try:
        Inhibitor(Net(), sites)
    except ValueError as error:
        print(f"{sites!r}: {error}")

# %% [markdown]
# A wrong name that it does have is none. Here are the outputs of the three LayerNorms, and the logits:

# %%
NORMS = ["blocks.0.norm", "blocks.1.norm", "blocks.2.norm"]
wrong = {
    "after LayerNorm": train(NORMS, weight=0.01, inhibition="invariant_log_ms"),
    "logits": train("out", weight=0.01, inhibition="invariant_log_ms"),
}
watching = {
    "after act": watched[0],
    "after LayerNorm": train(NORMS, weight=0.0),
    "logits": train("out", weight=0.0),
}
print("every run names more than 85 % of the test digits:",
      all(accuracy(run.net) > 0.85 for run in wrong.values()))  # fmt: skip

# %%
# NBVAL_IGNORE_OUTPUT
for name, run in watching.items():
    print(f"{name}, weight 0")
    print(run.inhibitor.report(test_x), end="\n\n")

# %%
for name, run in watching.items():
    print(f"{name}: tau above a Gaussian's 5.4:", bool(numbers([run], "tau") > 5.4))

# %% [markdown]
# Training does not complain; the loss falls and the digits are named. Read `tau` and `mean φ²`. After a LayerNorm every value is a sum of
# many, and sums of many are nearly Gaussian; here their tails are even lighter than a Gaussian's: τ lies below 5.4 and the kurtosis below 3. There is
# nothing monosemantic to find, and the inhibitor takes its 2 % all the same (chapter 6 met this at W24's own sites).
#
# The logits are the opposite, and the report cannot tell: ten "neurons", each made to answer to one class. Their τ is as high as after `act`.
# What gives them away is `neurons` and the site's name. Read the list of sites before you believe a number.
#
# In a CNN there is one more trap. A neuron is an entry of the *last* axis, and the last axis of a convolution's output is the image's
# width. The column `neurons` shows it; the way out is a site where channels stand last.


# %%
class Picture(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(1, 12, 3, padding=1), nn.GELU()
        self.channels_last = nn.Identity()  # a place to put the inhibitor
        self.out = nn.Linear(12, 10)

    def forward(self, x):  # (inputs, 64)
        z = self.act(self.conv(x.reshape(-1, 1, 8, 8)))  # (inputs, 12, 8, 8)
        z = self.channels_last(z.movedim(1, -1))  # (inputs, 8, 8, 12)
        return self.out(z.mean((1, 2)))


for site in ("act", "channels_last"):
    picture = Picture()
    watcher = Inhibitor(picture, site)
    picture(x[:64])
    print(f"{site}: {watcher.report().rows[0]['neurons']} neurons, the layer has 12")
    watcher.remove()

# %% [markdown]
# ### The penalty is forgotten
#
# Everything is there but `+ inhibitor.penalty()`. The report looks perfect, because observing does not need the penalty:

# %%
forgotten = train(weight=0.01, add=False)
same = all(
    torch.equal(a, b)
    for a, b in zip(forgotten.net.parameters(), watched[0].net.parameters(), strict=True)
)
print("share within a quarter of 2 %:", abs(numbers([forgotten], "share") - 0.02) < 0.005)
print("the weights are those of plain training, bit for bit:", same)
try:
    train(weight=0.01, add=False, steps=300)
except RuntimeError as error:
    print(error)

# %% [markdown]
# After 256 batches nobody can have meant it, hence the error. With the Trainer it comes at the first step. The deactivating kinds
# (`"reverse"` and its kin) have no penalty, and `penalty_in="backward"` needs no line.
#
# ### Training mode, evaluation mode
#
# An inhibitor acts in training mode only. Two slips follow. `net.eval()` for a validation and no `net.train()` after it: from then on
# nothing is inhibited. And the other way round, validation batches in training mode: they are taken for training batches, and move moments
# and thresholds (`torch.no_grad()` does not help; `torch.inference_mode()` does).

# %%
net = Net()
watcher = Inhibitor(net, SITES)


def batches_after(steps):
    for _ in range(steps):
        loss = nn.functional.cross_entropy(net(x[:64]), y[:64]) + watcher.penalty()
        loss.backward()
    return watcher.report().rows[0]["batches"]


print("20 steps:", batches_after(20), "batches")
net.eval()
print("20 more after net.eval():", batches_after(20), "batches")
net.train()
with torch.no_grad():
    net(test_x)
print("test set in training mode:", watcher.report().rows[0]["batches"], "batches")
with torch.inference_mode():
    net(test_x)
print("again, in inference_mode:", watcher.report().rows[0]["batches"], "batches")
watcher.remove()

# %% [markdown]
# The column `batches` against the number of steps finds both. Freezing a part of a model by `part.eval()` stops an inhibitor whose
# sites lie in that part.
#
# ### A share that never settles
#
# The threshold moves by small steps so that 2 % lie above it *on average*. It needs batches that are alike. Two ways to withhold that:
# sorted data, here ten steps of one digit after another; and very small batches, here of one image, in which 2 % is hardly more than one
# neuron of a site's 64.


# %%
by_digit = [torch.where(y == d)[0] for d in range(10)]


def sorted_rows(step):
    rows = by_digit[(step // 10) % 10]
    return rows[torch.randint(len(rows), (64,))]


settling = {
    "64 images, shuffled": train(weight=0.0, every=1),
    "64 images, sorted": train(weight=0.0, every=1, rows_of=sorted_rows),
    "1 image": train(weight=0.0, every=1, rows_of=lambda step: torch.randint(len(x), (1,))),
}  # fmt: skip
shares = {
    name: np.array([[row["share"] for row in r.rows] for _, r in run.reports])
    for name, run in settling.items()
}  # (steps, sites)

# %% tags=["hide-input"]
fig, axes = new_figure(3, 1, height=5.6, sharex=True)
for ax, (name, share) in zip(axes, shares.items(), strict=True):
    for place, site in enumerate(SITES):
        ax.plot(100 * share[:, place], color=COLOURS[place], lw=1, label=site)
    ax.axhline(2, color=COLOURS[6], ls="--", lw=1)
    ax.set_title(name, fontsize=10.5)
    ax.set_ylabel("share in %")
axes[2].set_xlabel("step")
axes[0].legend(fontsize=9, ncols=3, loc="upper right")
figure(
    fig,
    alt="The selected share over 200 steps at three sites. With shuffled batches it stays close to two per cent, with sorted ones "
    "it jumps with every new digit, with single images it flickers between 0 and more than ten per cent.",
)

# %%
spread = {name: 100 * share[100:].std(0).mean() for name, share in shares.items()}
steady, jumpy, single = spread.values()
print("sorted batches: the share varies at least twice as much:", jumpy > 2 * steady)
print("single images: at least twice as much:", single > 2 * steady)

# %% [markdown]
# With small batches the flicker is counting noise; the mean over many batches is what is held, and accumulation does not change it, since every
# micro batch is judged by itself. Sorted batches are worse: each change of digit looks like a surprise, and what is inhibited is the change.
# The remedy is to shuffle. Other causes: a site with few neurons or values that tie (one-hot inputs, dead ReLUs), so that no threshold
# has 2 % above it; and a run of fewer than fifty batches.
#
# ## What to look at, in this order
#
# 1. **`batches` and `skipped`.** Batches not equal to your steps: evaluation mode, a site the forward pass does not reach, or
#    validation in training mode. Skipped above 0: NaN in your model, inhibitor or not.
# 2. **`site`, `neurons` and `tau`, at weight 0.** Not the layer's width: wrong axis. τ near 5.4 or below (at 2 %): nothing stands
#    out at this site; take another one. Logits and heads look fine and are wrong.
# 3. **`share`.** Not near what you asked for after fifty batches: shuffle, larger batches, more neurons.
# 4. **`median S²` against weight 0.** Lower by more than ten times: halve the weight, or take `invariant_log_ms`. Then measure
#    what the mean costs: if it costs nothing, you have removed the layer.
# 5. **`dead` and `constant`.** Rising with the steps: the same remedy.
# 6. **`mean φ²` on a fixed batch.** Only now: did MS fall, by fresh moments?
# 7. **The task's loss against a plain run with its own best learning rate.** Last, and with seeds.
#
# If 1 to 5 are in order and your weights equal a plain run's, the penalty never reached the loss.

# %%
keep(
    CHAPTER,
    accuracy={
        "weight 0": np.mean([accuracy(run.net) for run in watched]),
        "weight 0.003": np.mean([accuracy(run.net) for run in inhibited]),
    },
    share={
        name: numbers(runs, "share", 10)
        for name, runs in (("weight 0", watched), ("weight 0.003", inhibited))
    },
    collapsed={
        form: [
            np.median(s2[form, w]) < 1e-2 * np.median(s2[form, 0]) for w in (0.001, 0.3)
        ]
        for form in FORMS
    },
    spread_of_share={name: 0.01 * s for name, s in spread.items()},
)

# %% [markdown]
# ## What we found, and what we could not
#
# - **Two lines suffice**, one to make the inhibitor and one for its penalty, and in a Trainer two arguments. What takes work is knowing
#   whether it does what you meant.
# - **Share and loss tell little.** In every one of the failures above one of the two, and mostly both, looked healthy. S², compared
#   with a run at weight 0, and the cost of the mean tell most. Logits as a site show in no number at all.
# - **Both forms collapse** at a high weight, the invariant one later. On this net the collapse cost a few points of accuracy and no more:
#   with a residual path around it, an MLP can be given up.
#
# What we could not: say which weight is right for your model. The weight at which S² collapses depends on width, learning rate and length of
# training, and ours are toy sizes; the sweep has one seed a weight. And nothing here says that a healthy inhibitor makes a better model: that is what
# chapters 6 and 7 ask.
#
# ## Exercises
#
# Some have a cell to fill in. `check` says whether it is right, and if not, what is amiss.

# %%
from l2e_min.lab.exercises import check

# %% [markdown]
# :::{exercise} Recall
# :label: ex-own-diagnose
# Six people trained this chapter's net for 200 steps with seed 0. Each sends one row of a report, of the middle block, with the
# site's name left out. The first row is that of a run at weight 0 and in good order.
#
# | | neurons | batches | share | tau | median S² |
# | --- | --- | --- | --- | --- | --- |
# | weight 0 | 64 | 200 | 0.0171 | 8.38 | 0.21 |
# | A | 64 | 200 | 0.022 | 4.05 | 2.81e-05 |
# | B | 32 | 200 | 0.0254 | 4.19 | 1.06 |
# | C | 64 | 120 | 0.0203 | 7.7 | 0.142 |
# | D | 64 | 200 | 0.0171 | 8.38 | 0.21 |
# | E | 64 | 210 | 0.0168 | 7.98 | 0.157 |
# | F | 64 | 200 | 0.0186 | 8.08 | 0.153 |
#
# For each choose a word: `"weight"` (it is too high), `"LayerNorm"` or `"logits"` (the site is), `"eval"` (left on), `"validation"`
# (taken for training), `"forgotten"` (the penalty, in the loss), `"fine"`. Not every word is needed.
# :::

# %% tags=["exercise"]
diagnosis = {"A": ..., "B": ..., "C": ..., "D": ..., "E": ..., "F": ...}  # your turn
check("ex-own-diagnose", diagnosis)

# %% [markdown]
# :::{solution} ex-own-diagnose
# :class: dropdown
# A: S² fell to a ten-thousandth; the weight was 0.3. B: 32 is the width of the net and not of its MLPs, and τ lies below a Gaussian's 5.4: after
# LayerNorm. C saw 120 of 200 batches, E ten more than were trained on. D is weight 0 to the last digit, with the penalty left out of the loss.
# F: weight 0.003, in good order. Logits would have shown 10 neurons.
# :::

# %% tags=["solution", "hide-cell"]
diagnosis = dict(A="weight", B="LayerNorm", C="eval")
diagnosis |= dict(D="forgotten", E="validation", F="fine")
check("ex-own-diagnose", diagnosis)

# %% [markdown]
# :::{exercise} Recall
# :label: ex-own-recall
# A colleague's report says: `batches` 5,000 after 5,000 steps, `share` 0.02, `tau` 9, `median S²` 3e-8, where a run at weight 0 has
# 0.2. The task's loss is a hair below the plain run's. What has happened, and which single measurement would settle it?
# :::
#
# :::{solution} ex-own-recall
# :class: dropdown
# The activations have shrunk by a factor of some thousand: S² is seven powers of ten lower. Moments, share and τ do not notice,
# because φ has no unit. The MLPs may have become constants. The measurement: replace the site's values by their means on held-out data. If
# the loss does not rise, the layer has been given up, and the gain is what removing it gains.
# :::
#
# :::{exercise} Code
# :label: ex-own-code
# Write the decision list's points 1, 3 and 4 as a function. It gets two reports, the one now and the one of a run at weight 0, and the
# number of steps made. It returns a list of pairs such as `("blocks.0.act", "share")`: the site, and the column that is amiss.
# `"batches"`: not as many as steps. `"skipped"`: any. `"share"`: below half or above twice of what was wanted. `"variance"`: below a tenth of
# what it is at weight 0. (`report.rows` is a list of dictionaries; S² is under `"variance"`.)
# :::


# %% tags=["exercise"]
def complaints(report, usual, steps, wanted=0.02):
    """Two reports and a number; returns a list of pairs (site, column)."""
    ...  # your turn


check("ex-own-code", complaints)

# %% [markdown]
# :::{solution} ex-own-code
# :class: dropdown
# Try it: `complaints(sweep["log_ms", 0.3].inhibitor.report(), watched[0].inhibitor.report(), 200)`. `share` is that of the last
# batch alone; over several reports a mean would be kinder.
# :::


# %% tags=["solution", "hide-cell"]
def complaints(report, usual, steps, wanted=0.02):
    before = {row["site"]: row for row in usual.rows}
    found = []
    for row in report.rows:
        amiss = {
            "batches": row["batches"] != steps,
            "skipped": row["skipped"] > 0,
            "share": not wanted / 2 <= row["share"] <= 2 * wanted,
            "variance": row["variance"] < 0.1 * before[row["site"]]["variance"],
        }
        found += [(row["site"], column) for column, wrong in amiss.items() if wrong]
    return found


check("ex-own-code", complaints)

# %% [markdown]
# :::{exercise} Code
# :label: ex-own-hook
# `mean_cost` gives *every* neuron of a site its mean. To ask what a few neurons are worth, write a function that takes their places and
# returns a forward hook: on the way out these neurons get their mean over all inputs of the batch, and the others stay. All axes but the
# last are inputs. What came in must not change.
# :::


# %% tags=["exercise"]
def mean_hook(neurons):
    """neurons: list of places on the last axis; returns hook(module, inputs, z)."""
    ...  # your turn


check("ex-own-hook", mean_hook)

# %% [markdown]
# :::{solution} ex-own-hook
# :class: dropdown
# `handle = net.get_submodule("blocks.1.act").register_forward_hook(mean_hook([5]))`, then the test loss, then `handle.remove()`. In a loop
# over the 64 neurons that is an afternoon's question: are those with a high $\phi$ the ones that are worth most?
# :::


# %% tags=["solution", "hide-cell"]
def mean_hook(neurons):
    def hook(module, inputs, z):
        out = z.clone()
        out[..., neurons] = z[..., neurons].flatten(0, -2).mean(0)
        return out

    return hook


check("ex-own-hook", mean_hook)

# %% [markdown]
# :::{exercise} Code
# :label: ex-own-accumulate
# A batch that does not fit comes in parts of equal size. Write the accumulation for an inhibitor whose penalty goes into the loss: after
# the call every parameter's `.grad` is the gradient of the *mean over the parts* of loss and penalty, and what is returned is the mean of the
# task's loss alone, as a number. The gradients are empty when you get the net. What would have to change for
# `penalty_in="backward"`?
# :::


# %% tags=["exercise"]
def accumulate(net, inhibitor, parts):
    """parts: list of (x, y) for a cross entropy; returns one number."""
    ...  # your turn


check("ex-own-accumulate", accumulate)

# %% [markdown]
# :::{solution} ex-own-accumulate
# :class: dropdown
# `penalty()` after the forward pass and inside the bracket that is divided. With `penalty_in="backward"` the line falls away, but the
# inhibitor cannot know that you divide: give it `loss_scale=1 / len(parts)`, or the penalty counts as many times as there are parts.
# The report's `batches` counts parts.
# :::


# %% tags=["solution", "hide-cell"]
def accumulate(net, inhibitor, parts):
    total = 0.0
    for x, y in parts:
        loss = nn.functional.cross_entropy(net(x), y)
        ((loss + inhibitor.penalty()) / len(parts)).backward()
        total += loss.item()
    return total / len(parts)


check("ex-own-accumulate", accumulate)

# %% [markdown]
# :::{exercise} Experiment
# :label: ex-own-experiment
# Take the residual path out of `Block` (`return self.down(...)`) and repeat the sweep of `log_ms`. Guess first: does S² still
# collapse, and what happens to the accuracy?
# :::
#
# :::{solution} ex-own-experiment
# :class: dropdown
# Without a way around them the MLPs cannot be given up, but they can shrink: the LayerNorm of the next block undoes any common factor. With seed 0, at
# weight 0.1 S² was a thousand times lower, the accuracy a few points, and the means cost as much as ever. At 0.3 the penalty's gradient drowned part of
# the signal and a third of the digits was lost; at 1 the net was at chance. Here the loss tells, late. The failure that hides is the residual net's.
# :::
#
# :::{exercise} Critique
# :label: ex-own-critique
# "We inhibit the LayerNorm outputs of our transformer at weight 0.01. The share held at 2 %, MS by the running moments fell by 30 %, and the
# loss did not change. So LayerNorm outputs become polysemantic for free." Name three things you would ask for.
# :::
#
# :::{solution} ex-own-critique
# :class: dropdown
# (1) τ and the kurtosis at weight 0: at such a site values are nearly Gaussian, so it is open whether there was anything monosemantic to
# lower. (2) MS by fresh moments on a fixed batch, because running moments lag, and S² before and after. (3) A control: the same weight on a
# random 2 % of the pairs, and plain training with several seeds, to know how much MS moves by itself. Also whether the penalty reached the
# loss at all: a loss that "did not change" fits that best.
# :::
