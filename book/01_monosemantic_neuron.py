# %% [markdown]
# # 1 What is a monosemantic neuron?
#
# **Question.** Does a small language model, trained on ordinary text, hold neurons that answer to one thing only? How
# would we know, and not just believe it?
#
# You will read the neurons' values off a model, take them on two thousand texts, and search all neurons for the most
# selective ones. Beside each result stand two controls: the same search on labels that mean nothing, and the same
# search in a model that was never trained.

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
import numpy as np

from l2e_min.lab.arrays import keep
from l2e_min.lab.exercises import check
from l2e_min.lab.measure import neuron_values, token_values
from l2e_min.lab.mini_pythia import load, untrained
from l2e_min.lab.probing import null_neurons, top_neurons
from l2e_min.lab.settings import Settings
from l2e_min.lab.text.features import load_features
from l2e_min.show import (
    COLOURS,
    Dropdown,
    Slider,
    explorer,
    figure,
    new_figure,
    on_and_off,
    strip,
)

CHAPTER = "01_monosemantic_neuron"
settings = Settings.from_environment()
settings.require_hub()
print(settings.describe())

# %% [markdown]
# ## A neuron and its value
#
# The model is a small Pythia {cite}`B23`: a GPT-NeoX {cite}`B22` with the recipe of the real suite, trained for this
# book on text that is installed on any machine with the book's packages (program code, manuals, tables, messages in
# several languages). Every block of it has two parts that read from the residual stream, the running sum of what the blocks
# before have written, and add to it: attention, and an **MLP** with two linear layers and the smooth step GELU between them,
#
# $$\begin{aligned}
# \mathrm{MLP}(x) &= W_2\, z + b_2, \\
# z &= \mathrm{GELU}(W_1 x + b_1).
# \end{aligned}$$
#
# A **neuron** is one entry of $z$: one hidden unit *after* the non-linearity. This is where {cite:t}`G23` looked, and so
# did {cite:t}`W25`. Its **value** $z_i$ on input $i$ is one number; for a sequence model every token position is an input.
# In code, $z$ is what the second linear layer receives. A hook, a function that PyTorch calls with a layer's input, reads it off
# (here in the second block, on the few tokens of one line of code):

# %%
model, tokenizer = load(settings.model)
second_linear = model.gpt_neox.layers[1].mlp.dense_4h_to_h

seen = []
hook = second_linear.register_forward_pre_hook(
    lambda module, inputs: seen.append(inputs[0])
)
model(**tokenizer("import numpy as np", return_tensors="pt"))
hook.remove()

n_layers, n_neurons = model.config.num_hidden_layers, model.config.intermediate_size
print("layers:", n_layers, " neurons in each:", n_neurons)
print("last axis of z is one entry a neuron:", seen[0].shape[-1] == n_neurons)

# %% [markdown]
# ## Two thousand texts with a label each
#
# One line says little. A **feature** is a property that a text has or has not, such as its language, and a **feature dataset** is
# a set of texts, each labelled with one feature. The book has three of them, after {cite:t}`G23`, cut from installed text that
# the model was *not* trained on: `natural_language` (which language), `code_language` (which programming or markup language),
# `data_subset` (which kind of source). We begin with the first. Its texts are short: 128 bytes of program messages and of names
# of languages, places and currencies, in the wording of each language. (The labels are the usual codes: French, Catalan,
# Albanian, Brazilian Portuguese, Swedish, Spanish, British English, Slovak, Indonesian, Turkish, in the order below.)

# %%
names = ("natural_language", "code_language", "data_subset")
data = {name: load_features(name, settings.rows_per_feature) for name in names}
for name in names:
    print(
        f"{name}: {len(data[name].texts)} texts, {len(data[name].features)} features:",
        *data[name].features,
    )

# %% [markdown]
# One text of each language, its first words (a new line separates two messages):

# %%
for row in data["natural_language"].table():
    print(
        f"{row['feature']:6} {row['rows']} texts from {row['files']} files: {row['example'][:48]}"
    )

# %% [markdown]
# The model has read far more program code than prose, and of each of these languages only a few pages. Its model card and
# `data/README.md` say what it was trained on.
#
# A text has many tokens and a neuron has a value on each. As in the papers, one number stands for the text: the **mean**
# over its tokens. [`neuron_values`](11_reference.md#texts-models-values) does what the hook above did, for every layer, and
# takes that mean.

# %%
values = {
    name: neuron_values(model, tokenizer, data[name].texts, progress=False)
    for name in names
}
for name in names:
    print(f"{name}: texts x layers x neurons =", tuple(values[name].shape))

# %% [markdown]
# ## The search: sparse probing
#
# Which of these neurons tells one language from all the others? We search as {cite:t}`G23` do (the standard deviations in step 2
# are our addition, because the layers differ in scale). For each feature:
#
# 1. split the texts in two halves, so that texts from one file stay together (they are alike);
# 2. on the first half, rank the neurons by how far their mean on the feature lies from their mean off it, in standard deviations;
# 3. on the first half, fit a **probe** for each of the ten best-ranked neurons: a logistic regression on that **one** neuron's value;
# 4. on the second half, score it by $F_1 = 2PR/(P+R)$. The precision $P$ is the share of its yeses that are right, the recall $R$
#    the share of the feature's texts that it finds.
#
# The ten neurons with the highest $F_1$ on the *first* half, over all features, are what {cite:t}`W25` call monosemantic neurons.
# The score that we show is that of the *second* half, which took no part in the choice: it is **held out**.

# %%
best = {
    name: top_neurons(values[name].numpy(), data[name].labels, groups=data[name].sources)
    for name in names
}

languages = data["natural_language"]
layer, neuron = (
    int(best["natural_language"].layer[0]),
    int(best["natural_language"].neuron[0]),
)
own = int(best["natural_language"].feature[0])
print(
    "held-out F1 of the best language neuron is above 0.6:",
    best["natural_language"].f1[0] > 0.6,
)

# %% [markdown]
# Here is that neuron on every text of both halves, and below it a neuron drawn at random.

# %% tags=["hide-input"]
rng = np.random.default_rng(0)
random_layer, random_neuron = int(rng.integers(n_layers)), int(rng.integers(n_neurons))
z_best = values["natural_language"][:, layer, neuron].numpy()
z_random = values["natural_language"][:, random_layer, random_neuron].numpy()

fig, axes = new_figure(2, 1, height=6.2)
strip(axes[0], z_best, languages.labels, languages.features, own)
axes[0].set_title(f"best language neuron: layer {layer}, number {neuron}")
strip(axes[1], z_random, languages.labels, languages.features, None)
axes[1].set_title(f"a random neuron: layer {random_layer}, number {random_neuron}")
figure(
    fig,
    alt="Two dot plots, one row a language. Above, the best neuron: its own language's dots lie apart from those of the "
    "other nine, with some overlap. Below, a random neuron: the ten languages overlap, and none stands apart.",
)

# %% [markdown]
# The upper neuron deserves its name: one language stands apart. (The lower one reaches further on some languages than on others,
# but none stands apart.) Now look at the edges. A few texts of other languages lie among its own, and a few of its own among the
# others. "Monosemantic" is a matter of degree, and a threshold has to trade the one kind of error for the other. Move it and see,
# for this neuron and for three others. (Bars add up to 100 % for each colour.)


# %% tags=["hide-input"]
def f1_at(z, own_feature, labels, threshold, sign):
    """Precision, recall and F1 of 'the text has the feature' = 'the value is beyond the threshold'."""
    hit, on = sign * (z - threshold) > 0, labels == own_feature
    precision = (hit & on).sum() / max(hit.sum(), 1)
    recall = (hit & on).sum() / on.sum()
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-12)


untrained_model = untrained(model.config, seed=0)
blank_values = {
    name: neuron_values(untrained_model, tokenizer, data[name].texts, progress=False)
    for name in names
}
blank_best = {
    name: top_neurons(
        blank_values[name].numpy(), data[name].labels, groups=data[name].sources
    )
    for name in names
}

table = best["natural_language"]
blank_table = blank_best["natural_language"]
random_own = int(
    np.argmax(
        [z_random[languages.labels == f].mean() for f in range(len(languages.features))]
    )
)
all_z, blank_z = values["natural_language"], blank_values["natural_language"]
shown = {
    "best neuron": (z_best, own, int(table.sign[0])),
    "tenth best neuron": (
        all_z[:, table.layer[9], table.neuron[9]].numpy(),
        int(table.feature[9]),
        int(table.sign[9]),
    ),
    "random neuron": (z_random, random_own, 1),
    "best, untrained model": (
        blank_z[:, blank_table.layer[0], blank_table.neuron[0]].numpy(),
        int(blank_table.feature[0]),
        int(blank_table.sign[0]),
    ),
}
steps = [2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 93, 95, 97, 98, 99]


def draw(which, percentile):
    z, feature, sign = shown[which]
    threshold = np.percentile(z, percentile)
    fig, ax = new_figure(height=3.4)
    bins = np.linspace(*np.percentile(z, [0.2, 99.8]), 40)
    on = languages.labels == feature
    on_and_off(ax, z, on, bins, languages.features[feature], "other languages")
    ax.axvline(threshold, color=COLOURS[0])
    ax.annotate("counts as the feature", (threshold, 0.99), (8 * sign, 0), color=COLOURS[0], va="top",
                ha="left" if sign > 0 else "right", xycoords=("data", "axes fraction"), textcoords="offset points")  # fmt: skip
    ax.set_xlabel("value of the neuron")
    ax.legend(loc="lower left", ncols=2, bbox_to_anchor=(0, 1))
    precision, recall, f1 = f1_at(z, feature, languages.labels, threshold, sign)
    name = languages.features[feature]
    return (
        fig,
        f"Precision {precision:.2f}, recall {recall:.2f}, F1 {f1:.2f} for “{name}”.",
    )


def describe(which, percentile):
    z, feature, sign = shown[which]
    precision, recall, f1 = f1_at(
        z, feature, languages.labels, np.percentile(z, percentile), sign
    )
    return (
        f"Histograms of the {which} on {languages.features[feature]} and on the other languages, threshold at the "
        f"{percentile}th percentile: precision {precision:.2f}, recall {recall:.2f}, F1 {f1:.2f}."
    )


explorer(
    draw,
    {
        "which": Dropdown(list(shown), label="neuron"),
        "percentile": Slider(steps, label="threshold at percentile"),
    },
    title="A neuron as a detector: where to put the threshold?",
    describe=describe,
    start={"which": "best neuron", "percentile": 93},
)

# %% [markdown]
# :::{admonition} Try this
# :class: tip
# Put the threshold where the best neuron's $F_1$ is highest. Then choose the neuron of the untrained model and do the
# same. How much of what you saw is *learned*?
# :::
#
# ## Two controls
#
# The search looked at thousands of (neuron, feature) pairs and reported the best. The best of many is never at chance,
# even where there is nothing to find. And a random network is not nothing: its neurons are random functions of the
# tokens, and languages differ in their tokens. So every figure in this book that claims selectivity carries
#
# - the **label-permutation null**: the same search with the labels shuffled;
# - the **untrained model**: the same search in the same architecture with random weights.

# %% tags=["hide-input"]
null = {name: null_neurons(values[name].numpy(), data[name].labels) for name in names}

fig, ax = new_figure(height=3.6)
groups = (("trained model", best, COLOURS[1], "o"), ("untrained model", blank_best, COLOURS[0], "s"),
          ("shuffled labels", null, COLOURS[6], "^"))  # fmt: skip
for g, (label, tables, colour, mark) in enumerate(groups):
    for d, name in enumerate(names):
        x = d + 0.24 * (g - 1) + np.linspace(-0.07, 0.07, 10)
        ax.plot(
            x,
            tables[name].f1,
            mark,
            ms=5,
            alpha=0.75,
            color=colour,
            label=label if d == 0 else None,
        )
ax.set_xticks(range(3), [name.replace("_", "\n") for name in names])
ax.set(ylim=(0, 1.02), ylabel="F1 on held-out texts")
ax.legend(loc="lower center", ncols=3, bbox_to_anchor=(0.5, 1.0))
figure(
    fig,
    alt="F1 of the ten best neurons on held-out texts, for three feature datasets. For natural and programming languages the "
    "trained model's neurons lie highest and the untrained model's well below them; for kinds of source the two overlap. "
    "Shuffled labels lie lowest, near 0.2.",
)

# %%
keep(CHAPTER, **{f"f1_{which}": {name: tables[name].f1 for name in names}
                 for which, tables in (("trained", best), ("untrained", blank_best), ("shuffled", null))})  # fmt: skip
print("trained above untrained by .02, untrained above shuffled by .1:")
for name in names:
    trained, blank, shuffled = (t[name].f1.mean() for t in (best, blank_best, null))
    print(f"{name:16} {trained > blank + 0.02!s:5} {blank > shuffled + 0.1}")

# %% [markdown]
# Read the figure from the bottom; each mark is one of the ten best neurons. Shuffled labels show what the search alone gives. The
# untrained model lies far above that: most of a "language neuron" is the difference in *tokens* between languages, which any random
# neuron sees. Training
# adds a step on top of it: a clear one for natural and for programming languages, a small one for kinds of source, where
# the untrained network is nearly as good. That step, and not the height above zero, is what the word "learned" can claim.
#
# {cite:t}`W25` report $F_1$ up to 100 % for natural language, in models from 70 million parameters up. Ours has about one
# million, and texts of only 128 bytes. That its best neurons come near is no feat of the model alone: our ten languages
# and seven kinds of source are easy to tell apart, as the untrained network shows. And the ten best are not ten kinds of neuron: one
# easy feature can fill the list. Here nine of the ten language neurons tell Slovak, and all ten source neurons tell tables.
#
# ## From texts back to tokens
#
# The mean over a text hides where the neuron fires. Here it is token by token, on the text of its own language on which
# it is strongest and on the strongest text of any other language. (· is a space, ⏎ a new line; ▯ a part of a letter: the
# tokenizer works on bytes, and an accented letter has two.)

# %% tags=["hide-input"]
sign = int(table.sign[0])
mine = languages.labels == own
rows = [np.flatnonzero(k)[np.argmax(sign * z_best[k])] for k in (mine, ~mine)]

fig, axes = new_figure(2, 1, height=5.0, sharey=True)
for ax, row in zip(axes, rows, strict=True):
    tokens, z = token_values(model, tokenizer, languages.texts[row], layers=[layer])
    shown_tokens = [
        t.replace(" ", "·").replace("\n", "⏎").replace("\ufffd", "▯") for t in tokens
    ][:36]
    ax.bar(
        range(len(shown_tokens)),
        z[:36, 0, neuron].numpy(),
        color=COLOURS[1] if row == rows[0] else COLOURS[6],
    )
    ax.set_xticks(range(len(shown_tokens)), shown_tokens, rotation=90, fontsize=9)
    ax.set_title(f"a text in “{languages.features[languages.labels[row]]}”")
    ax.set_ylabel("value")
    ax.grid(axis="x", visible=False)
figure(
    fig,
    alt="Bar charts of the neuron's value on the first tokens of two texts, its own language above and another below. "
    "The neuron fires on some tokens of its language and is near zero on others.",
)

# %% [markdown]
# The neuron does not know the language of the *text*. It fires on a few places and is silent between them: here on pieces of accented
# letters, and on the spaces and line ends behind them. Such places are more common in its language, and the other text has some that
# excite it, too, but less. A text-level feature such as "is in this language" is the sum of many such events. Keep this in mind when
# a paper says "a French neuron".
#
# ## What we found, and what we could not
#
# - A 1-million-parameter model trained on installed text has neurons that single out one feature of a dataset with a
#   held-out $F_1$ well above the search's own null, in all three datasets.
# - A large part of that is there before training, for kinds of source nearly all of it. Claims of selectivity without the
#   untrained control overstate what was learned.
# - The best neurons are selective by degree. None of this says that a neuron has *one meaning*: we only tested features
#   that we had labels for.
# - We could not say anything about scale, nor whether such neurons help or harm. And a probe needs labels, which a training
#   loop has not: the [next chapter](02_monosemantic_scale) does without.
#
# ## Exercises
#
# Some have a cell to fill in. `check` says whether it is right, and if not, what is amiss.
#
# :::{exercise} Recall
# :label: ex-always-yes
# A dataset has ten features with equally many texts. A detector of one of them says yes to *every* text. What are its precision,
# its recall and its $F_1$? Give the $F_1$ to two digits.
# :::

# %% tags=["exercise"]
f1_of_always_yes = ...  # your turn
check("ex-always-yes", f1_of_always_yes)

# %% [markdown]
# :::{solution} ex-always-yes
# :class: dropdown
# It finds all texts of its feature, so the recall is 1. One yes in ten is right, so the precision is 0.1, and
# $F_1 = 2 \cdot 0.1 \cdot 1 / 1.1 = 0.18$. That is about where the shuffled labels lie: an $F_1$ of 0.2 is *no* sign of a detector.
# :::

# %% tags=["solution", "hide-cell"]
f1_of_always_yes = 2 * 0.1 * 1 / (0.1 + 1)
check("ex-always-yes", f1_of_always_yes)

# %% [markdown]
# :::{exercise} Code
# :label: ex-threshold
# In the explorer you moved the threshold by hand. Write the search: `z` holds the values of one neuron on all texts, `on` says which
# texts have the feature, and a text counts as a yes where `z > threshold`. Return a threshold with the highest $F_1$ that any
# threshold can have.
# :::


# %% tags=["exercise"]
def best_threshold(z, on):
    """z (n,) values, on (n,) booleans; returns one number."""
    ...  # your turn


check("ex-threshold", best_threshold)

# %% [markdown]
# :::{solution} ex-threshold
# :class: dropdown
# Between two neighbouring values every threshold gives the same yeses, so one try at each value is enough, and one below all.
# The best threshold on the texts at hand is a little lucky: on new texts it is no longer the best. That is why the book shows the $F_1$
# of held-out texts.
# :::


# %% tags=["solution", "hide-cell"]
def best_threshold(z, on):
    tries = np.append(np.unique(z), z.min() - 1)
    return max(tries, key=lambda t: 2 * (on & (z > t)).sum() / ((z > t).sum() + on.sum()))


check("ex-threshold", best_threshold)

# %% [markdown]
# :::{exercise} Experiment
# :label: ex-max
# The value of a text was the *mean* over its tokens. `neuron_values(..., aggregate="max")` takes the maximum instead.
# Before you run it: for which of the three datasets would you expect the maximum to do better, and why?
# :::
#
# :::{solution} ex-max
# :class: dropdown
# The maximum suits features with a single tell-tale token: `<?xml`, `#include`, an accented letter. The mean suits
# features spread over the text. Run
# `highest = neuron_values(model, tokenizer, data[name].texts, aggregate="max").numpy()` and compare
# `top_neurons(highest, data[name].labels, groups=data[name].sources).f1.mean()` with `best[name].f1.mean()`. For this model the mean
# wins in all three, by four to eight points: features of whole texts are what these labels are.
# :::
#
# :::{exercise} Recall
# :label: ex-null
# The null above shuffles labels once. Why is one shuffle enough to see that the search has no large bias, and what would
# you need many shuffles for?
# :::
#
# :::{solution} ex-null
# :class: dropdown
# One shuffle already gives ten best neurons from the whole search, and their held-out $F_1$ all lie near what a random
# detector of the feature's frequency reaches. To say *how rarely* a given $F_1$ would arise by chance (a p-value or a
# quantile) one needs the spread of the null, so many shuffles. [Chapter 2](02_monosemantic_scale) does that for the Monosemantic
# Scale.
# :::
#
# :::{exercise} Experiment
# :label: ex-in-sample
# Score the ten neurons on the half that chose them (`best[name].f1_train`) instead of the held-out half. How large is
# the difference for real labels, and how large for shuffled ones?
# :::
#
# :::{solution} ex-in-sample
# :class: dropdown
# `(best[name].f1_train - best[name].f1).mean()` against `(null[name].f1_train - null[name].f1).mean()`. The choice was made
# by the training $F_1$, so it is too high on both. Shuffled labels lose about .07, a quarter of what they had. For real labels it
# depends: .01 and .02 for natural and programming languages, and .10 for kinds of source, where held-out texts come from other files
# and may be of another make. This is why the book reports no number from the rows that made the choice, unless to show what is wrong
# with it.
# :::
#
# :::{exercise} Critique
# :label: ex-critique
# A paper reports: "the best of 1,000 neurons detects feature X with $F_1 = 0.6$, so the model has learned X". Name two
# measurements you would ask for before you believe it.
# :::
#
# :::{solution} ex-critique
# :class: dropdown
# The same search in the untrained network (is it *learned*?), and the same search with shuffled labels, or at least a
# held-out score (is it *there*?). A third one: does the neuron still detect X on texts from other sources, or did it
# detect a source?
# :::
