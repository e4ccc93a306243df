"""The training log's numbers as TensorBoard events, where that package is installed."""

import sys
from functools import cache
from pathlib import Path


class Events:
    """Writes rows of numbers to ``folder``; does nothing where TensorBoard is missing. ``tensorboard --logdir OUT``."""

    def __init__(self, folder: Path, *, first: int = 0, say: bool = True, write: bool = True):
        """``first``: the step a resumed run starts from; events beyond it, of a killed run, are taken back.

        ``write``: whether this process writes; ``say``: whether it says that it cannot.
        """
        self.writer = None
        if not write:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            if say:
                say_once('no TensorBoard events, the package is missing; to have them: pip install "l2e-min[log]"')
            return
        self.writer = SummaryWriter(folder, purge_step=first + 1 if first else None)

    def add(self, row: dict[str, float]) -> None:
        """Writes every number of a row but ``step``, which says where it belongs."""
        if self.writer is not None:
            for name, value in row.items():
                if name != "step":
                    self.writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Writes out what is still in memory."""
        if self.writer is not None:
            self.writer.close()


@cache
def say_once(line: str) -> None:
    """Prints a line on stderr, the first time."""
    print(line, file=sys.stderr)
