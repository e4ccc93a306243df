"""The progress bar of a run."""

from l2e_min.lab.training.recipe import PretrainSettings


def in_words(row: dict[str, float]) -> str:
    """A row of the log as the progress bar shows it."""
    shown = {"loss": "loss {:.3f}", "top_ms": "MS {:.0f}", "median_variance": "S² {:.2g}"}
    shown |= {"threshold": "threshold {:.2f}", "share_selected": "share {:.2%}"}
    return ", ".join(text.format(row[name]) for name, text in shown.items() if name in row)


def progress_bar(settings: PretrainSettings, first: int, show: bool):
    """The bar of a run that starts after step ``first``."""
    from tqdm.auto import tqdm

    name = f"{settings.size} {settings.method}, seed {settings.seed}"
    return tqdm(total=settings.steps, initial=first, desc=name, unit="step", disable=not show, dynamic_ncols=True)
