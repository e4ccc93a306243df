# %% [markdown]
# # What would change our mind
#
# A verdict is worth something only if you know what would overturn it. This page says, for every verdict on the
# [scoreboard](09_scoreboard.ipynb): which measurement would turn it, at which scale, what that costs, and which command starts it.

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
from l2e_min.lab.ledger.margins import MOST_SEEDS, leaning, margins, seeds_to_decide
from l2e_min.lab.paths import DATA
from l2e_min.lab.settings import Settings

settings = Settings.from_environment()
print(settings.describe("seconds: this page reads what is on record"))
rows = claims.table(folder=DATA / "results").rows

# %% [markdown]
# ## Reproduced: what would refute it
#
# A rule that holds would fall with any of its bounds. The weakest is the one to attack: that with the smallest distance from the
# bound, in half widths of its interval. At 1 the interval would touch the bound.

# %% tags=["hide-input"]
for claim, result, verdict in rows:
    if verdict.status == "reproduced":
        (name, kind, _), weakest = min(margins(claim, result), key=lambda pair: pair[1])
        exact = " (exact, no interval)" if kind.startswith("value_") else ""
        print(f"{claim.id}  {name}: {weakest:.0f} half widths{exact}")

# %% [markdown]
# C01 and C14 are statements about an algorithm: any stream of numbers that breaks them would do, and `tests/` is the place to put it. C02 and
# B01 are about models: another text, another tokenizer, another architecture could overturn them. So could another training run B05, which
# stands on the comparison of chapter 7 (below). For a model of yours:
#
# ```
# l2e study hub:EleutherAI/pythia-70m --out runs/study-70m
# ```
#
# Minutes on one GPU for the smallest Pythia, an estimate and not measured.
#
# ## Inconclusive: what would decide it
#
# For every open bound: with how many seeds would its interval leave the bound, if the mean and the spread over seeds stayed as they are? The
# table has the bound that takes most. *Leans to* is the verdict if all intervals shrank to their centres: where more of the same
# would lead. Where that is "inconclusive", no number of seeds decides: the datasets or settings asked disagree.

# %% tags=["hide-input"]
wanted = {}
print(f"{'claim':6}{'seeds':>6}{'open':>6}{'seeds to decide':>17}   leans to")
for claim, result, verdict in rows:
    if verdict.status != "inconclusive":
        continue
    open_bounds = [b for b, value in margins(claim, result) if abs(value) <= 1]
    needed = [seeds_to_decide(result.measurements[name], *b) for name, *b in open_bounds]
    most = max((n for n in needed if n), default=0)
    wanted[claim.id] = most
    told = f"over {MOST_SEEDS}" if most > MOST_SEEDS else str(most or "-")
    print(
        f"{claim.id:6}{result.seeds:6}{len(open_bounds):6}{told:>17}   {leaning(claim, result)}"
    )
keep("14_change_our_mind", seeds_to_decide=wanted)

# %% [markdown]
# A dash: no interval over seeds is open; the measurement comes from one model (C03), or all bounds are decided and disagree (B04).
#
# ### More seeds at our scale
#
# C04 to C09 and B04 stand on one suite of three seeds. Six seeds of all five scales, and the whole study:
#
# ```
# l2e pretrain suite --seeds 0 1 2 3 4 5 --out runs/suite
# l2e study runs/suite --out runs/study
# ```
#
# Training a seed of all scales took some twenty minutes of one core in a trial; measuring three seeds takes an hour on two cores. Copy
# `runs/study/study.jsonl` over `data/results/scale_study.jsonl` and run chapters 3 and 4.
#
# C10: `SEEDS` in [chapter 5](05_inhibition.ipynb) sets how many networks are trained, a second or so each. C16 and B02 stand on three short pretraining
# runs of each kind, a quarter of an hour in all; more seeds or more steps are `SEEDS` and `SETTINGS` of
#
# ```
# python -m l2e_min.lab.toy.pretraining_record
# ```
#
# C18, C19, B03 and B05 stand on the comparison of [chapter 7](07_pretraining.ipynb), and so does C17 of the next section. Hours on two cores:
#
# ```
# python -m l2e_min.lab.pretraining_study.record --out runs/pretraining --workers 2
# ```
#
# with `SEEDS` and `STEPS` in `l2e_min/lab/pretraining_study/plan.py`.
#
# C20 compares two mini BERTs, one pretrained with MEmeL and one without; its seeds are of the fine-tuning alone. More of them are
# `--seeds 10` in the `l2e finetune` of [chapter 6](06_finetuning.ipynb#the-whole-table) and that of
# [chapter 7](07_pretraining.ipynb#the-other-half-of-c20), hours on two cores. What it needs more is other pairs of BERTs: both pretrained
# again with `--seed 1`, and so on.
#
# ### The papers' scale
#
# {cite:t}`W25` measured Pythia 70M to 6.9B. `L2E_PROFILE=paper make chapters NAMES="03_scale_study 04_false_killing_rate"` runs our chapters on them: hours on
# one GPU and tens of gigabytes from the hub. It would show whether the trends differ there, *but it cannot turn a verdict of ours*: each
# of those Pythias is one training run, and the rules ask for three. The
# [PolyPythias](https://arxiv.org/abs/2503.09543) can: nine more seeds of each size up to 410M, measured one by one with the same command:
#
# ```
# l2e study hub:EleutherAI/pythia-14m-seed1 --out runs/poly/14m-seed1
# l2e study hub:EleutherAI/pythia-410m-seed1 --out runs/poly/410m-seed1
# ```
#
# Five sizes with three seeds are fifteen models; it is the measurement we would make first. (Fitting slopes over such separate records takes a
# few lines with `l2e_min.lab.study.trends`; no command does it yet.) A K-S slope below 0 on all three datasets there would turn C04.
#
# ## Not reproduced: what would rescue it

# %% tags=["hide-input"]
for claim, _, verdict in rows:
    if verdict.status == "not reproduced":
        print(f"{claim.id}  {claim.source}, {claim.where}")

# %% [markdown]
# A rule that is refuted here could hold with another model, other data, or more training. C15 is about step times, so what it needs is the papers'
# kind of machine and their models. Minutes on one GPU, not measured yet:
#
# ```
# l2e bench pretrain --sizes pythia-70m pythia-410m --device cuda
# ```
#
# For the gains of W24 in fine-tuning (C11) the obvious measurement is the paper's own setting, BERT-base on GLUE:
#
# ```
# l2e finetune --model hub:google-bert/bert-base-uncased --task glue --method all --out runs/glue
# ```
#
# About 60 fine-tuning runs a task, not measured yet; `--task glue-small` takes the four small tasks. If MEmeL minus plain, averaged over tasks and paired by
# seed, has its interval above 0, and both naive ways lose to it, C11 turns at that scale. A gain of 0.6 points needs no more than five seeds if they spread
# as ours do.
#
# For L2E (C17, and the gains of C18) the paper's claim is about pretraining at 70M and above, for a tenth of Pythia's steps. One such run and its
# plain twin:
#
# ```
# l2e pretrain --size pythia-70m --method plain --text hub:monology/pile-uncopyrighted --steps 14300 \
#     --batch 1024 --context 2048 --accumulate 64 --out runs/70m-plain
# l2e pretrain --size pythia-70m --method l2e --text hub:monology/pile-uncopyrighted --steps 14300 \
#     --batch 1024 --context 2048 --accumulate 64 --out runs/70m-l2e
# ```
#
# Three seeds of both, each at its own best learning rate, would be the smallest fair comparison. What does it cost? By the usual count a step of training
# takes six operations a parameter and token:

# %%
tokens = 14300 * 1024 * 2048
for name, parameters in (("70m", 70e6), ("410m", 405e6), ("2.8b", 2.8e9)):
    hours = 6 * parameters * tokens / 4e14 / 3600  # at 4e14 operations a second
    print(f"pythia-{name:5} {tokens:.0e} tokens: about {hours:4.0f} GPU hours a run")

# %% [markdown]
# That is arithmetic, at a speed that one large GPU reaches only with care; nobody here has made these runs. The tokenizer of the Pythias and the weights of
# a published one to begin with (`--initial hub:EleutherAI/pythia-70m`) need the hub.
#
# ## Not measured
#
# Four claims have a rule and no measurement. No command starts them yet; each would be a chapter of its own.
#
# - **C12, images.** Missing: a small Swin, images, a fine-tuning loop. Five paired seeds on images that need no download may take an hour of one GPU;
#   the paper's setting, ImageNet-1k from a checkpoint of ImageNet-22k, days.
# - **C13, rainfall.** Missing: a small ConvGRU and made-up rain. Five paired seeds, minutes each on a CPU. The paper's HKO-7 must be asked for.
# - **C21, the opposing view.** Missing: a preference loss with a decorrelation term. The first half, monosemanticity against loss over models, can be read
#   off the record of chapter 3; the second needs pairs of answers, hours on one GPU.
# - **C22, grokking.** Missing: addition modulo a prime and a small transformer. Five paired seeds with random neurons as control, ten minutes each on a CPU.
#
# All these times are guesses. `Inhibitor` takes any module and any site, so the method itself is there: [chapter 8](08_own_model.ipynb) shows it
# on models of your own. What a new claim, measure or chapter has to bring is in `CONTRIBUTING.md`.
#
# ## What would not change our mind
#
# - **One more run with a better score.** Single tasks and single seeds can move by more than the papers' gains ([chapter 6](06_finetuning.ipynb)).
# - **A lower loss without controls.** A model without the inhibited MLPs must stand beside it, and the plain model at its own best learning rate (B03).
# - **A lower MS, by itself.** Shrinking the activations lowers the penalty, too (B02), and against running moments MS (B05). Ask for fresh moments,
#   and for $S^2$.
# - **$\phi_l > \phi_{l^-}$ on $l^*$.** It holds for shuffled labels, too (B01).
