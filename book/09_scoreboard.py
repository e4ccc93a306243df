# %% [markdown]
# # 9 The scoreboard
#
# **Question.** What did the papers claim, what did we find, and how sure are we?
#
# Every claim of {cite:t}`W24` and {cite:t}`W25` that this book puts to the test, and every one of its own, stands in one file,
# `data/claims.yml`, with a rule that was written before the run. A chapter measures and records; code compares the record with the rule. This page
# holds no number and no verdict that was typed: it draws what is on record.

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
from l2e_min.lab.ledger import claims
from l2e_min.lab.ledger.margins import margins
from l2e_min.lab.paths import DATA
from l2e_min.lab.settings import Settings
from l2e_min.show import figure
from l2e_min.show.scoreboard import (
    EDGE,
    Scoreboard,
    by_verdict,
    describe_scoreboard,
    draw_scoreboard,
)

CHAPTER = "09_scoreboard"
settings = Settings.from_environment()
print(settings.describe("seconds: this page reads what is on record"))
rows = claims.table(folder=DATA / "results").rows

# %% [markdown]
# ## The whole at a glance
#
# A verdict is one of four, *at our scale*:
#
# - ✓ **reproduced**: the rule holds.
# - ✗ **not reproduced**: the rule is refuted.
# - ≈ **inconclusive**: an interval holds its bound, datasets disagree, or there were too few seeds.
# - … **not yet**: nobody has measured it here, or its rule has changed since.

# %%
for status, found in by_verdict(rows):
    print(f"{len(found):2} {status:15} {' '.join(claim.id for claim, _, _ in found)}")
print(f"{len(rows):2} claims")

# %% [markdown]
# A rule is made of bounds on measured numbers, such as "the interval of this slope lies below 0". The figure has a line for
# each claim and a mark for each bound. How far is the measured interval from the bound, in units of its own half width? Right of 1
# the interval lies on the claim's side and the bound holds. Left of -1 it lies on the other side. In the shaded strip it holds
# the bound, and nothing is said. Marks at the edge lie further out; hollow marks are exact statements, which have no interval.

# %% tags=["hide-input"]
figure(draw_scoreboard(rows), alt=describe_scoreboard(rows))

# %% [markdown]
# "Inconclusive" has two causes, and the figure tells them apart. Marks in the strip are a lack of precision: more seeds may move them
# out of it. A line with marks far out on both sides, such as C03 or B04, is no such lack: datasets or settings disagree, and more seeds
# would not help. Which claim would be decided by more seeds, and by how many, is on the page
# [What would change our mind](14_change_our_mind.ipynb).
#
# ## What Learning from Emergence claims
#
# Each card says what is claimed, by which rule it is judged, and why the verdict came out as it did. The papers' figures and ours
# unfold below it. A result that is *sealed* carries a fingerprint of the code that made it (the end of this page says what for);
# "sealed by hand" means that it was recorded before results did.


# %% tags=["hide-input"]
def of(source):
    return Scoreboard(tuple(row for row in rows if row[0].source == source))


of("W24")

# %% [markdown]
# ## What Learning Towards Emergence claims

# %% tags=["hide-input"]
of("W25")

# %% [markdown]
# ## The opposing view
#
# {cite:t}`Y24` find that monosemanticity and performance are not linked once the model changes, and that *decorrelating* features,
# which makes neurons more monosemantic, helps.

# %% tags=["hide-input"]
of("Y24")

# %% [markdown]
# ## What this book claims
#
# Beyond the papers: what their measures do by construction, and what else could explain a gain.

# %% tags=["hide-input"]
of("this book")

# %% [markdown]
# ## How much stands behind it

# %% tags=["hide-input"]
recorded = [(claim, result) for claim, result, _ in rows if result is not None]
seeds = [result.seeds for _, result in recorded]
print(
    f"{len(recorded)} of {len(rows)} claims measured, each with {min(seeds)} to {max(seeds)} seeds"
)
print("profiles:", ", ".join(sorted({result.profile for _, result in recorded})))
by_hand = sum(bool(result.sealed) for _, result in recorded)
print(f"sealed by the run itself: {len(recorded) - by_hand}, by hand: {by_hand}")
keep(
    CHAPTER,
    margins={
        claim.id: [max(-EDGE, min(EDGE, value)) for _, value in margins(claim, result)]
        for claim, result in recorded
    },
)

# %% [markdown]
# ## What this page cannot say
#
# - **Scale.** Almost everything here comes from models of 0.1 to 5 million parameters that read 20 million tokens at most. The papers'
#   models are ten to some thousand times larger. A claim that is not reproduced here may hold there, and the other way round.
# - **Independent tests.** Claims share models, texts and seeds. Of intervals at 95 % one in twenty misses by chance. The figure has
#   some eighty, and nothing was corrected for that: read patterns, not single marks.
# - **Rules are ours.** A paper's sentence had to become an inequality. Another reader would have drawn some bounds elsewhere; `l2e claims --id C08`
#   prints each with its test, so you can.
#
# Is a number here older than the code that makes it? Every result keeps a fingerprint of the statements that led to it, through all
# modules, and a test compares: `python -m l2e_min.lab.ledger.seal` lists what has changed since.
#
# ## Exercises
#
# One has a cell to fill in. `check` says whether it is right, and if not, what is amiss.

# %%
from l2e_min.lab.exercises import check

# %% [markdown]
# :::{exercise} Recall
# :label: ex-board-verdicts
# A rule asks of three datasets that a slope's interval lies below 0. It lies below 0 for one, above 0 for another, and holds 0 for the third.
# Which verdict does the ledger draw, and would a hundred seeds change it?
# :::
#
# :::{solution} ex-board-verdicts
# :class: dropdown
# Inconclusive: a mixed answer is open (`each` in `l2e_min/lab/ledger/verdicts.py`). More seeds narrow the third interval only. The first two have
# decided, against each other; the verdict can turn only if one of them turns out to have been a chance result.
# :::
#
# :::{exercise} Experiment
# :label: ex-board-own
# Run chapter 2 yourself. Its results go to `_build/results`. Draw the figure from your own results instead of the shipped ones. Where do they differ?
# :::
#
# :::{solution} ex-board-own
# :class: dropdown
# `from l2e_min.lab.paths import results_folder`, then `mine = claims.table(folder=results_folder()).rows` and
# `figure(draw_scoreboard(mine), alt=describe_scoreboard(mine))`. Claims of chapters that you have not run say "not yet". On another kind of processor
# intervals move in their third digit; a verdict that flips from that was never worth much.
# :::
#
# :::{exercise} Code
# :label: ex-board-margin
# Write the figure's horizontal axis: `margin(value, low, high, bound)` for a rule "interval above bound", in half widths of the interval. For
# which results do your function and the rule `low > bound` say the same? (The interval may be lopsided around the value, as those of a
# bootstrap are.)
# :::


# %% tags=["exercise"]
def margin(value, low, high, bound):
    """All numbers, low < high; returns one number."""
    ...  # your turn


check("ex-board-margin", margin)

# %% [markdown]
# :::{solution} ex-board-margin
# :class: dropdown
# Above 1 exactly where `low > bound`. With `value` in place of the centre the two would differ for lopsided intervals.
# `l2e_min/lab/ledger/margins.py` holds the book's.
# :::


# %% tags=["solution", "hide-cell"]
def margin(value, low, high, bound):
    return ((low + high) / 2 - bound) / ((high - low) / 2)


check("ex-board-margin", margin)

# %% [markdown]
# :::{exercise} Critique
# :label: ex-board-critique
# Somebody counts the ticks and says: "Most claims failed, so the method does not work." What is wrong with counting?
# :::
#
# :::{solution} ex-board-critique
# :class: dropdown
# Claims are not votes. Some are about arithmetic, some about mini models, some about gains; "inconclusive" is no failure but a missing answer, and
# "not yet" is no answer at all. What counts for the method are the claims about gains, at scales where the papers saw them.
# :::
