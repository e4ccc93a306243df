# %% [markdown]
# # Inhibiting monosemantic neurons: a book that runs
#
# Some neurons of a language model answer to one thing: one language, one kind of code. They are called *monosemantic*.
# Two papers, {cite}`W24` and {cite}`W25`, start from an observation about them: **as networks grow, such neurons become rarer**.
# (This book calls the papers W24 and W25.) And they draw a bold conclusion. If rareness comes with ability, then perhaps it *causes* it. So find monosemantic neurons while a network
# trains, and inhibit them.
#
# Is it true? This book lets you find out. It holds a PyTorch package, `l2e_min`, whose method is short enough to read whole,
# and small models trained on real text. Every figure is drawn from measured numbers: the page takes them while it runs, on your
# machine if you like, or reads them from a record where measuring takes hours, and names the command that makes the record.
#
# Here is the first result, before any theory.

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
from l2e_min.lab.arrays import keep
from l2e_min.lab.measure import neuron_values
from l2e_min.lab.mini_pythia import load, untrained
from l2e_min.lab.probing import top_neurons
from l2e_min.lab.settings import Settings
from l2e_min.lab.text.features import load_features
from l2e_min.show import figure, new_figure, strip

settings = Settings.from_environment()
settings.require_hub()
print(settings.describe())

# %% [markdown]
# Take texts in ten languages, and the value of every neuron on each text. On half of the texts, search for the one neuron that
# tells its language from the others best. Now look at the *other* half (it comes from other files). Each dot is one text, each
# row a language (sk is Slovak, sq Albanian; [chapter 1](01_monosemantic_neuron) has the list); in colour, the neuron's own. Above,
# a model of a million parameters that was trained for this book; below, the same network before training.

# %% tags=["hide-input"]
data = load_features("natural_language", settings.rows_per_feature)
model, tokenizer = load(settings.model)
nets = {"trained": model, "untrained": untrained(model.config, seed=0)}

fig, axes = new_figure(2, 1, height=6.4)
f1 = {}
for ax, (which, net) in zip(axes, nets.items(), strict=True):
    values = neuron_values(net, tokenizer, data.texts, progress=False).numpy()
    best = top_neurons(values, data.labels, groups=data.sources)
    f1[which] = best.f1
    held = best.test_rows
    z = values[held, best.layer[0], best.neuron[0]]
    strip(ax, z, data.labels[held], data.features, highlight=best.feature[0])
    ax.set_title(f"{which}: the best of {values[0].size:,} neurons")
keep("00_welcome", **{f"f1_{which}": values for which, values in f1.items()})
figure(
    fig,
    alt="Two dot plots with one row a language. In the trained model the best neuron's own language lies clearly apart from "
    "the other nine. In the untrained network its own language is shifted, too, but overlaps with the others.",
)

# %%
print("held-out F1 of the best trained neuron is above 0.8:", f1["trained"][0] > 0.8)
print(
    "that of the best untrained one is lower, but above 0.4:",
    f1["trained"][0] > f1["untrained"][0] > 0.4,
)

# %% [markdown]
# ($F_1$ scores a neuron as a detector of its language, between 0 and 1; chapter 1 defines it.)
#
# Neurons that tell one language from nine others exist, then, even in a tiny network. And the lower picture is the book's habit:
# **no figure without its control**. A network with random weights has a "language neuron" too, only a worse one.
#
# ## What the two papers say
#
# - *Learning from Emergence* ({cite:t}`W24`; method **MEmeL**) defines the Monosemantic Scale, a number that tells from a
#   neuron's values alone how unusual the present one is. While fine-tuning, the neuron on which it is highest is set to its
#   mean, and its gradient is *reversed*. Reported: gains on language (GLUE), images and rainfall forecasts.
# - *Learning Towards Emergence* ({cite:t}`W25`; method **L2E**) reports with it, across Pythia {cite}`B23`, a suite of language
#   models of many sizes, that monosemanticity falls with scale. It defines the False Killing Rate: the share of inhibited
#   values that were not on their neuron's own feature. And it pretrains with a moving threshold and a logarithmic penalty,
#   cheap enough for large models. Reported: gains on harder tasks, a cost of a few percent.
#
# ## Why it may be true, and why it may not
#
# *For it:* a neuron that serves one feature is idle most of the time. A network that is pressed for room has to share
# neurons between features, and perhaps a network that shares generalizes. Inhibiting the loners would then help to learn
# what larger models learn by themselves.
#
# *Against it:* that two things go together with scale does not make one the cause of the other. {cite:t}`Y24` find the
# opposite link in preference alignment: encouraging monosemanticity helped. {cite:t}`D24` split polysemantic neurons
# (which answer to several things) into pure ones, because those can be understood. {cite:t}`A24` measure emergence without
# monosemantic neurons, by pruning and training dynamics. And a measure that is *lowered* need not be
# *improved*: it can also be fooled.
#
# The papers make claims that can be tested, and the book keeps a **ledger** of them. The rule that decides a verdict was
# written down before the run. "Not reproduced" at our small scale is as welcome as "reproduced".
#
# ## How to read and run it
#
# - **Read.** The pages are complete; sliders and buttons work without Python. Folded solutions follow the exercises.
# - **Run.** `make book` in a checkout sets everything up, runs all chapters in eight to thirty minutes on two processor cores, and
#   renders the pages. Or open a chapter in Jupyter: the rocket at the top of each page leads to Colab, Kaggle and Binder.
# - **Change.** Every chapter is a script `book/NN_name.py` and the notebook made from it. The method itself is five files in
#   `l2e_min/`: `moments.py`, `monosemanticity.py`, `retrieval.py`, `inhibition.py` and `inhibitor.py`. The files beside them make it
#   fast, keep its state and report on it.
#
# One variable chooses how big an experiment is. `L2E_PROFILE=quick` is the default: a CPU, shipped models, text that your
# Python installation holds anyway, nothing downloaded. `gpu` does more of the same on one GPU. `paper` takes the published
# Pythia checkpoints from the Hugging Face hub. The first cell of each chapter says which one it runs under, and its cost. What each
# chapter takes in minutes, memory and download, and where the book runs without money, stands in
# [What it costs to run](15_costs).
#
# ## The chapters
#
# 1. [What is a monosemantic neuron?](01_monosemantic_neuron) Finding them with labels, and two controls.
# 2. [The Monosemantic Scale](02_monosemantic_scale) Finding them without: the measure, its exact online form, what it can
#    and cannot show.
# 3. [Do larger models have fewer monosemantic neurons?](03_scale_study) The observation that both papers start from, on
#    five scales, with seeds, checkpoints and controls.
# 4. [The False Killing Rate and the moving threshold](04_false_killing_rate) Which values an inhibitor picks: how often
#    wrongly, and at what cost.
# 5. [Inhibiting a neuron](05_inhibition) What happens to a value that was picked: three ways to switch it off, three
#    penalties, one update at a time, in networks small enough to see.
# 6. [Fine-tuning BERT with MEmeL](06_finetuning) The first paper's experiment in small: five tasks, seven methods, a fair
#    search.
# 7. [Pretraining with L2E](07_pretraining) The second paper's experiment in small, with controls: what the penalty does to a
#    network, and what is left of its gain when plain training is tuned as well.
# 8. [Use it on your own model](08_own_model) A plain loop, a `Trainer`, a Lightning module, and what can go wrong.
# 9. [The scoreboard](09_scoreboard) Every claim with its verdict, and [what would change our mind](14_change_our_mind).
#
# The ledger, with a verdict for every claim that has been measured so far, is printed by `l2e claims`.
# At the end of the book: a [guide for teachers](13_workshop), [each equation and the line of code behind it](10_equations), the [API reference](11_reference) of
# `l2e_min`, a [glossary](12_glossary), and the [sources](references).
#
# ## What you need
#
# Python and PyTorch, the idea of a transformer, and basic statistics (mean, variance, what an interval is). Every measure is
# explained where it is first used.
