# %% [markdown]
# # Equation to code
#
# Every formula and algorithm of the two papers that this book implements, with the line that does it and the section that
# explains it; then every place where we did otherwise, with the reason. The papers are {cite:t}`W24` (method MEmeL),
# {cite:t}`W25` (method L2E), and {cite:t}`G23`, whose probes the second uses. The tables are made by code: an entry quotes a piece of the
# source, and the line number is looked up when the page is made. A test fails where a quotation is no longer found.

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
from l2e_min.show import deviations, equations_w24, equations_w25
from l2e_min.show.equations import Table

entries = [*equations_w24.ALL, *equations_w25.ALL]
done_otherwise = [*deviations.METHOD, *deviations.MEASURING, *deviations.TRAINING]
found = sum(entry.line() > 0 for entry in entries)
print("entries:", len(entries), " found in the code:", found)
print("deviations:", len(done_otherwise))

# %% [markdown]
# ## Moments
#
# $m$ old values with mean $\mu$ and sample variance $v$; $b$ new ones with mean $\mu'$ and population variance $v'$. In the code
# `delta` is $\mu' - \mu$ and `share` is $b/(m+b)$.

# %% tags=["hide-input"]
Table(equations_w24.MOMENTS)

# %% [markdown]
# ## The scale, and what is read off it
#
# $\phi$ of a value $z$ by its neuron's mean $\bar z$ and variance $S^2$. Without gradient it is computed in place, so it has two lines.

# %% tags=["hide-input"]
Table([*equations_w24.PHI, *equations_w25.PHI, *equations_w25.MEASURES])

# %% [markdown]
# ## Which pairs are selected
#
# $\tau$ is a layer's threshold, $k$ the wanted share of its (input, neuron) pairs, $f$ the share of this batch, $\eta$ the rate.

# %% tags=["hide-input"]
Table([*equations_w24.RETRIEVAL, *equations_w25.RETRIEVAL])

# %% [markdown]
# ## What happens to them
#
# $\mathrm{sg}$ is the stop-gradient, $D$ the strength, $\lambda$ the weight of a penalty, $L$ the loss.

# %% tags=["hide-input"]
Table([*equations_w24.INHIBITION, *equations_w25.INHIBITION])

# %% [markdown]
# ## Where

# %% tags=["hide-input"]
Table([*equations_w24.PLACES, *equations_w25.PLACES])

# %% [markdown]
# ## Experiments and controls
#
# Some of them are this book's own: they stand beside the papers' measures, not in place of them.

# %% tags=["hide-input"]
Table([*equations_w24.EXPERIMENTS, *equations_w25.EXPERIMENTS])

# %% [markdown]
# ## Where we did otherwise
#
# A paper leaves things open, and a small scale forces choices. Here is each of them: what the paper says, what is done here and,
# in italics, why. First the method itself.

# %% tags=["hide-input"]
Table(deviations.METHOD)

# %% [markdown]
# ### Measuring

# %% tags=["hide-input"]
Table(deviations.MEASURING)

# %% [markdown]
# ### Training

# %% tags=["hide-input"]
Table(deviations.TRAINING)

# %% [markdown]
# ## What is not here
#
# The experiments that we did not make have no line: Swin on images (C12), the ConvGRU on rainfall (C13) and grokking (C22) of
# {cite:t}`W24`; nor has the decorrelation of {cite:t}`Y24` (C21). What a measured number became is in the chapters and in the ledger
# (`l2e claims`); a function's arguments are in the [API reference](11_reference.md), a word in the [glossary](12_glossary.md).
