# %% [markdown]
# # What it costs to run
#
# **Question.** Which machine, how many minutes, how much memory and how much download does this book ask for, and where
# can it be run without money?
#
# Short answer: the profile `quick`, in which these pages were made, runs on a laptop with two processor cores and
# downloads nothing but the packages. The other two profiles want a GPU. This page says what was measured, what was only
# computed, and what nobody has tried.

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

# %% tags=["hide-input"]
from IPython.display import Markdown

from l2e_min.lab import run_costs
from l2e_min.lab.paths import DATA, ROOT
from l2e_min.lab.settings import PROFILES, Settings

settings = Settings.from_environment()
print(settings.describe("seconds: this page reads what is on record"))


def table(heads, rows):
    """A table in Markdown; all columns but the first to the right."""
    lines = [heads, [":--", *["--:"] * (len(heads) - 1)], *rows]
    return Markdown(
        "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
    )


# %% [markdown]
# ## `quick`, chapter by chapter
#
# Each chapter was run alone, in a fresh kernel and with empty caches, as for a reader who opens it first. *CPU* is the
# processor time of the kernel and of what it starts; on a machine with other work it comes out too high, never too low.
# *Wall* is what a clock on the wall says; it is given only where nobody else used the machine. *Memory* is the most
# that kernel and children held in RAM at one time. *Download* is what came from the Hugging Face hub.

# %% tags=["hide-input"]
names = sorted(path.stem for path in (ROOT / "book").glob("[0-9][0-9]_*.py"))
rows = {
    row["chapter"]: row for row in run_costs.measured("quick") if row["chapter"] in names
}
total = sum(row["cpu_seconds"] for row in rows.values())
lines = [
    (
        name,
        run_costs.wall(rows[name]),
        f"{rows[name]['cpu_seconds']:.0f}",
        rows[name]["memory_mb"],
        f"{rows[name]['downloaded_mb']:g}",
    )
    if name in rows
    else (name, *["–"] * 4)
    for name in names
]
together = "together" if len(rows) == len(names) else "together, so far"
table(
    ("chapter", "wall s", "CPU s", "memory MB", "download MB"),
    [*lines, (together, "", f"{total:.0f}", "", "")],
)

# %% tags=["hide-input"]
largest = max(rows.values(), key=lambda row: row["memory_mb"])
print("measured on:", "; ".join(sorted({row["machine"] for row in rows.values()})))
print("threads:    ", ", ".join(sorted({str(row["threads"]) for row in rows.values()})))
for versions in sorted({tuple(row["versions"].items()) for row in rows.values()}):
    print("with:       ", ", ".join(" ".join(pair) for pair in versions))
print(f"most memory: {largest['chapter']}, {largest['memory_mb']} MB")
busy = [row["others"] for row in rows.values() if row["others"] > run_costs.QUIET]
if len(rows) < len(names):
    print(f"–:           {len(names) - len(rows)} chapters, not measured yet")
if busy:
    print(f"busy:        other work on up to {max(busy):.1f} cores; CPU s are too high")

# %% [markdown]
# Pages without code (reference, glossary, workshop) cost nothing. `make book` runs the chapters one after the other and
# keeps what they share, such as the text that was read, so it takes less than the sum. Memory of several processes is
# added up, and pages that they share count for each: a little too much rather than too little. Your machine has another
# speed. For the chapters that train, the kind of processor matters, too: most without AVX-512 have no instructions for
# bfloat16, and the book then trains in float32, which takes about twice as long. To measure on yours, with nothing else running:
#
# ```
# python book/_tools/costs.py --record my-costs.json
# ```
#
# ## What changes under `gpu` and `paper`
#
# The notebooks are the same, and read their sizes from one settings object. These are the settings that a chapter reads
# and that differ from `quick`:

# %% tags=["hide-input"]
lines = []
for name in names:
    chapter = (ROOT / "book" / f"{name}.py").read_text(encoding="utf-8")
    found = [run_costs.changes(chapter, profile) for profile in ("gpu", "paper")]
    if any(found):
        lines.append((name, *(", ".join(fields) or "nothing" for fields in found)))
table(("chapter", "gpu", "paper"), lines)

# %% [markdown]
# A chapter that is not in the table does the same under every profile. So `gpu` asks little of a GPU: more resamples in
# chapter 2, a BERT-base on four tasks of GLUE in chapter 6 (the one download: 440 MB for [its
# weights](https://huggingface.co/google-bert/bert-base-uncased), and the tasks), a ten times longer live training in
# chapter 7.
#
# **Nobody has measured minutes on a GPU yet.** `gpu` does not begin without a CUDA device, and `paper` not without the
# Hugging Face hub, so neither could be run here. What follows is arithmetic.
#
# ### The published models
#
# Parameters follow from the published configurations. The weights are stored with two bytes a parameter, and one mask a
# layer lies beside them. That gives the 166 MB that the hub lists for [Pythia
# 70M](https://huggingface.co/EleutherAI/pythia-70m/tree/refs%2Fpr%2F2), and the 13.85 GB of
# [6.9B](https://huggingface.co/EleutherAI/pythia-6.9b/tree/main), so the others will be close. *Measuring* is the
# weights in bf16 and the scores of all words for one batch, at most; a measuring run holds more, but nothing of that
# size. *Training* is weights, gradients and AdamW's moments in float32, without what a batch takes.

# %% tags=["hide-input"]
batch = PROFILES["paper"].batch_size
lines = []
for size in run_costs.PYTHIA:
    need = run_costs.measuring_bytes(size, batch)
    gigabytes = (
        run_costs.download_bytes(size),
        need["weights"] + need["scores"],
        run_costs.training_bytes(size),
    )
    million = run_costs.parameters(size) / 1e6
    lines.append((size, f"{million:,.0f}", *(f"{n / 1e9:.1f}" for n in gigabytes)))
table(
    ("model", "parameters, million", "download, GB", "measuring, GB", "training, GB"),
    lines,
)


# %% tags=["hide-input"]
def gigabytes(names):
    """What these hub models weigh; every revision is a download of its own."""
    sizes = [name.rpartition("/")[2].partition("@")[0] for name in names]
    return sum(run_costs.download_bytes(size) for size in sizes) / 1e9


paper = PROFILES["paper"]
print(f"chapters 0, 1, 2 (paper): {gigabytes([paper.model]):5.1f} GB, computed")
print(
    f"chapters 3, 4 (paper):    {gigabytes([*paper.scales, *paper.revisions]):5.1f} GB, computed"
)

# %% [markdown]
# The second number is six models and twelve earlier checkpoints of the three smallest; both chapters read the same
# files, which are kept. Chapter 6 adds BERT and the eight tasks of GLUE, chapter 7 a stream of the Pile as long as its
# training. Models are loaded into the computer's own memory before they go to the GPU, so it needs room for the
# weights, too. Only safetensors are loaded; should one of the earlier checkpoints come without them, the chapter says
# so and stops. GPU hours for pretraining at the papers' length are computed in [What would change our
# mind](14_change_our_mind.ipynb).
#
# ## Behind the records
#
# Some numbers come from experiments that took longer than a chapter may. Their records ship, and chapters read them.
# You need not repeat any of them; these are the commands if you want to.

# %% tags=["hide-input"]
experiments = (
    ("pretraining/runs.jsonl", "chapter 7, pretraining with and without inhibition"),
    ("scale_study.jsonl", "chapters 3 and 4, the study across scales, models"),
    ("finetuning/runs.jsonl", "chapter 6, fine-tuning"),
    ("finetuning_memel_bert/runs.jsonl", "chapter 7, fine-tuning the MEmeL BERT"),
)
lines = []
for name, what in experiments:
    runs, hours = run_costs.cpu_hours(DATA / "results" / name)
    lines.append((what, runs, "not counted" if hours is None else f"{hours:.1f}"))
table(("experiment", "runs", "CPU hours"), lines)

# %% [markdown]
# The pretraining runs of chapter 7 count their processor time, and the table adds it up. The others did not. For them
# there are only times taken by hand, in [data/README.md](https://github.com/l2e-min/l2e-min/blob/main/data/README.md):
# about three hours on one core for the suite and its study, about two for the fine-tuning, a quarter of an hour for the
# mini BERT.
#
# ```
# python -m l2e_min.lab.pretraining_study.record --out runs/pretraining --workers 2
# l2e pretrain suite --out runs/suite
# l2e study runs/suite --out runs/study
# l2e finetune --task accept topic match paraphrase sts --train-rows 3000 --method all \
#     --controls random --precision bf16 --out runs/finetuning
# python -m l2e_min.lab.toy.pretraining_record
# ```
#
# The last is a quarter of an hour for chapter 5, by hand. The other records (benchmarks, baselines, multiple-choice
# answers) are short; their commands are in the same file, or in the chapter that reads them.
#
# ## Where it runs without money
#
# Such services change their terms often. What stands here was looked up in November 2026, in stored copies that may be
# some months older, and each line names its source. Nobody has run the whole book on any of these services.
#
# **Your own computer.** Two cores, the memory above and 3 GB of disk; no account, no time limit. A graphics card is not
# needed. Without internet: see [Giving a workshop](13_workshop.md).
#
# **[Binder](https://mybinder.org)**, by the rocket at the top of each chapter. No account, no GPU. [Its
# guidelines](https://mybinder.readthedocs.io/en/latest/about/user-guidelines.html) promise 1 GB of memory and allow at
# most 2; above that the kernel is restarted. A session ends after ten idle minutes. Up to six hours, or one hour of
# processor time, are meant for each, and more is not guaranteed; a hundred people at most can use one repository at a
# time. Against the measured chapters:

# %% tags=["hide-input"]
limits = ((0, 1000, "up to 1 GB"), (1000, 2000, "1 to 2 GB"), (2000, 1e9, "above 2 GB"))
for low, high, words in limits:
    found = [name for name, row in rows.items() if low < row["memory_mb"] <= high]
    print(f"{words:11} {len(found):2}  {', '.join(name[:2] for name in found)}")
told = total < 3600 if len(rows) == len(names) else "not all are measured yet"
print("their processor time together is below one hour:", told)

# %% [markdown]
# These are kernels. Jupyter's own server comes on top, and every notebook that is left open keeps its kernel: shut one
# down before you open the next. Binder builds the environment of 2.5 GB when the first reader comes, which takes a
# while.
#
# **[Google Colab](https://colab.research.google.com)**, by the same rocket. A Google account. [Its
# FAQ](https://research.google.com/colaboratory/faq.html) says that resources are not guaranteed, that limits fluctuate,
# and that GPUs are hardly to be had for nothing. Others report sessions of [at most twelve
# hours](https://raw.githubusercontent.com/api-evangelist/google-colab/refs/heads/main/rate-limits/google-colab-rate-limits.yml)
# (May 2026), [12.7 GB of
# memory](https://linux-blog.anracom.com/2023/05/04/google-colab-ram-vram-and-gpu-usage-limits-i-no-clear-conditions-over-multiple-sessions/)
# (2023), and a [T4 as the free GPU](https://mccormickml.com/2024/04/23/colab-gpus-features-and-pricing) (March 2026).
# `quick` fits with room to spare.
#
# **[Kaggle](https://www.kaggle.com)**, by the rocket again. An account, and a verified phone number for GPUs. [Its
# documentation](https://www.kaggle.com/docs/notebooks#technical-specifications), which we could read in quotations
# only, gives four cores and 30 GB of memory, sessions of twelve hours that end after twenty idle minutes (quoted in
# September 2026), and [30 hours of GPU a week](https://github.com/ripienaar/free-for-dev), a P100 or two T4s.
#
# **[GitHub Codespaces](https://docs.github.com/en/billing/concepts/product-billing/github-codespaces).** A GitHub
# account. The free plan includes [120 core hours a month](https://github.com/orgs/community/discussions/211751), 60
# hours on two cores; [two cores come with 8 GB](https://github.com/redcanaryco/atomic-red-team/wiki/Github-Codespaces).
# No GPU. `make book` as on any Linux.
#
# **[Lightning AI](https://lightning.ai/docs/platform/overview/faq/billing).** An account. A [summary of its billing
# page](https://raw.githubusercontent.com/api-evangelist/lightning-ai/refs/heads/main/plans/lightning-ai-plans.yml)
# (July 2026) names one free studio with four cores and 10 GB of storage; credits for GPUs come and go. How much memory
# it has we did not find.
#
# ### What the free GPUs can and cannot do
#
# P100 and T4 have 16 GB each and no arithmetic for bfloat16 (it [begins with compute capability
# 8.0](https://nvidia.github.io/TransformerEngine/support_matrix.html); theirs is 6.0 and 7.5), the type in which newer
# GPUs train and the published models are measured. Training falls back to float16 there; what still asks for bfloat16
# PyTorch imitates, more slowly. Nobody here has tried. By the arithmetic above, measuring fits into their memory up to
# 2.8B. 6.9B all but fills it with its weights, and is too large for 12.7 GB of the computer's own. Training fits up to
# 410M, but for how long? [A T4's peak](https://www.nvidia.com/en-us/data-center/tesla-t4/) is 65e12 operations a
# second; training takes six operations a parameter and token.

# %% tags=["hide-input"]
tokens = paper.train_steps * 1024 * 2048  # the papers' batch and context
hours = 6 * run_costs.parameters("pythia-70m") * tokens / 65e12 / 3600
print(f"Pythia 70M, a tenth of its steps, on a T4 that never waits: {hours:.0f} hours")

# %% [markdown]
# That is for the smallest model, one run, at a speed that no training reaches, and above a week's quota.
#
# ## What we found, and what we could not
#
# The book as you read it needs no GPU, no account and no money. That was measured, on one machine. What a GPU buys is
# the papers' scale in chapters 3, 4, 6 and 7, and what *that* costs in minutes is open: if you run it, `python
# book/_tools/costs.py --profile gpu` writes the rows that are missing here.
