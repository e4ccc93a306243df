"""One settings object, three profiles: how big an experiment is, and on what it runs.

The same chapter runs under all three. ``L2E_PROFILE`` chooses; without it a CUDA device means "gpu", else "quick".
"""

import os
from dataclasses import dataclass, replace

from l2e_min.lab.errors import UserError

VARIABLE = "L2E_PROFILE"


@dataclass(frozen=True)
class Settings:
    """What a chapter may spend. ``Settings.from_environment()`` chooses; ``dataclasses.replace`` changes one field."""

    profile: str
    """"quick", "gpu" or "paper"."""
    device: str
    """Where tensors live: "cpu" or "cuda"."""
    dtype: str
    """Type of the forward pass. Measurements stay in float32: bfloat16 has 8 bits, too few for a variance."""
    model: str
    """The model that a chapter looks at: a shipped mini model's size, or ``hub:NAME``."""
    encoder: str
    """The BERT that is fine-tuned: "mini", the shipped one, or ``hub:NAME``."""
    tasks: tuple[str, ...]
    """Tasks it is fine-tuned on, as ``l2e finetune --task`` takes them; the first is followed live."""
    scales: tuple[str, ...]
    """Models of a study across scales, smallest first."""
    revisions: tuple[str, ...]
    """Hub models along their training, for the study; the shipped suite has its own checkpoints."""
    text: str
    """Training text, as ``load_corpus`` takes it."""
    rows_per_feature: int
    """Texts for each label of a feature data set. W25's sets hold thousands; 200 resolve a phi of 1.2 from 1, and the
    installed text has little more for some labels (213 rows of Swedish), so every profile takes 200."""
    seeds: tuple[int, ...]
    """Seeds of repeated runs; 5 is the least that gives a paired comparison an interval worth reading."""
    random_neurons: int
    """Neurons drawn for comparisons with random neurons (W25 draws 1,000)."""
    permutations: int
    """Draws of a label-permutation null; 200 put five beyond each 97.5 % quantile."""
    bootstrap: int
    """Resamples behind a bootstrap interval."""
    batch_size: int
    """Texts of one forward pass when measuring."""
    train_steps: int
    """Steps of a training run inside a chapter."""
    minutes: str
    """What a chapter costs, in words."""

    @classmethod
    def from_environment(cls) -> "Settings":
        """The profile that L2E_PROFILE names, or the one that fits the machine.

        UserError: a name that is none of the three, or "gpu" without a CUDA device.
        """
        name = os.environ.get(VARIABLE, "").strip()
        if not name:
            name = "gpu" if _cuda() else "quick"
        if name not in PROFILES:
            raise UserError(f"{VARIABLE} is {name!r}; expected one of {', '.join(PROFILES)}")
        settings = PROFILES[name]
        if name == "gpu" and not _cuda():
            raise UserError(f"{VARIABLE} is 'gpu', but there is no CUDA device here; {VARIABLE}=quick needs none")
        if name == "paper" and not _cuda():  # possible for the smallest Pythia, in many hours
            return replace(settings, device="cpu", dtype="float32")
        return settings

    def describe(self, cost: str = "") -> str:
        """What a chapter's first cell prints: profile, on what, and what it costs (``cost``: a chapter's own)."""
        where = {"cpu": "CPU", "cuda": "one GPU"}[self.device]
        model = self.model if self.model.startswith("hub:") else f"the shipped mini Pythia {self.model}"
        text = "text that is installed anyway" if self.text == "installed" else self.text
        others = ", ".join(f"{VARIABLE}={name}" for name in PROFILES if name != self.profile)
        return (
            f"Profile: {self.profile} ({where}); others: {others}\n"
            f"Model:   {model}\n"
            f"Text:    {text}\n"
            f"Cost:    {cost or self.minutes}"
        )

    def require_hub(self) -> None:
        """UserError where this profile needs the Hugging Face hub and the hub is out of reach."""
        from l2e_min.lab import hub  # which takes VARIABLE from here

        if not self.needs_hub or hub.reachable():
            return
        why = "HF_HUB_OFFLINE is set" if hub.offline() else "no answer"
        raise UserError(
            f"profile {self.profile} needs the Hugging Face hub, which is out of reach here ({why}); "
            f"{VARIABLE}=quick works without it"
        )

    @property
    def needs_hub(self) -> bool:
        """Whether models or text of this profile come from the hub."""
        return any(name.startswith("hub:") for name in (self.model, self.text, *self.scales))


PYTHIA_STEPS = (1000, 4000, 16000, 64000)
"""Of Pythia's 154 published checkpoints: around the step where 410M passes the final loss of 70M, and one far on."""

PROFILES = {
    "quick": Settings(
        profile="quick",
        device="cpu",
        dtype="float32",
        model="128x4",
        encoder="mini",
        tasks=("accept", "topic", "match", "paraphrase", "sts"),
        scales=("32x2", "64x3", "128x4", "192x5", "256x6"),
        revisions=(),
        text="installed",
        rows_per_feature=200,
        seeds=(0, 1, 2, 3, 4),
        random_neurons=1000,
        permutations=200,
        bootstrap=1000,
        batch_size=64,
        train_steps=200,
        minutes="about a minute on 2 cores, nothing is downloaded",
    ),
    "gpu": Settings(
        profile="gpu",
        device="cuda",
        dtype="bfloat16",
        model="128x4",
        encoder="hub:google-bert/bert-base-uncased",
        tasks=("rte", "mrpc", "stsb", "cola"),
        scales=("32x2", "64x3", "128x4", "192x5", "256x6"),
        revisions=(),
        text="installed",
        rows_per_feature=200,
        seeds=(0, 1, 2, 3, 4),
        random_neurons=1000,
        permutations=1000,
        bootstrap=10000,
        batch_size=512,
        train_steps=2000,
        minutes="minutes on one GPU or Colab; only chapter 6 downloads (a BERT-base and its tasks)",
    ),
    "paper": Settings(
        profile="paper",
        device="cuda",
        dtype="bfloat16",
        model="hub:EleutherAI/pythia-70m",
        encoder="hub:google-bert/bert-base-uncased",
        tasks=("rte", "mrpc", "stsb", "cola", "sst2", "qnli", "qqp", "mnli"),
        scales=tuple(f"hub:EleutherAI/pythia-{size}" for size in ("70m", "160m", "410m", "1b", "2.8b", "6.9b")),
        revisions=tuple(
            f"hub:EleutherAI/pythia-{size}@step{step}" for size in ("70m", "160m", "410m") for step in PYTHIA_STEPS
        ),
        text="hub:monology/pile-uncopyrighted",
        rows_per_feature=200,
        seeds=(0,),  # each published Pythia is one run; its interval comes from texts and neurons
        random_neurons=1000,
        permutations=1000,
        bootstrap=10000,
        batch_size=64,
        train_steps=14300,  # 10 % of Pythia's 143,000 (W25 section 5)
        minutes="hours on one GPU, and tens of gigabytes from the Hugging Face hub",
    ),
}
"""The three profiles, smallest first."""


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()
