"""Moments over all of training, beside those that forget (B05)."""

from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from l2e_min import RunningMoments
from l2e_min.lab.measure import width
from l2e_min.sites import Site
from l2e_min.state import recomputing


class Cumulative(nn.Module):
    """Watches the neurons of some sites while a model trains; nothing is ever forgotten.

    Made before an inhibitor is, so that it sees values as they were. At the end of training ``bake`` writes the moments
    to ``path``, for ``read``.
    """

    def __init__(self, sites: Sequence[Site], path: Path):
        super().__init__()
        self.path = path
        self.moments = nn.ModuleList(RunningMoments(width(site)) for site in sites)
        self._handles = [site.module.register_forward_pre_hook(self._hook(i)) for i, site in enumerate(sites)]

    def _hook(self, number: int):
        @torch.no_grad()
        def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if module.training and not recomputing():
                self.moments[number].update(inputs[0].detach().float())

        return see

    def bake(self) -> None:
        """Takes the hooks off and writes the moments."""
        for handle in self._handles:
            handle.remove()
        safetensors.torch.save_file({k: v.contiguous() for k, v in self.state_dict().items()}, self.path)

    @staticmethod
    def read(sites: Sequence[Site], path: Path) -> list[RunningMoments]:
        """The moments of each site, as ``bake`` wrote them."""
        watcher = Cumulative(sites, path)
        for handle in watcher._handles:
            handle.remove()
        watcher.load_state_dict(safetensors.torch.load_file(path))
        return list(watcher.moments)
