"""Check of chapter 5: naive (b), forward and backward."""

import torch

from l2e_min.lab.exercises.checking import call, described, exercise, must


@exercise("ex-naive-b")
def naive_b(function) -> str:
    """The mean where selected, with the gradient as if untouched; everything else as it was."""
    g = torch.Generator().manual_seed(17)
    z = torch.randn(6, 4, generator=g, dtype=torch.float64).requires_grad_()
    mean = torch.randn(4, generator=g, dtype=torch.float64).requires_grad_()
    mask = torch.rand(6, 4, generator=g) < 0.4
    weight = torch.randn(6, 4, generator=g, dtype=torch.float64)
    before = z.detach().clone()
    found = call(function, z, mean, mask)
    must(isinstance(found, torch.Tensor), f"a tensor is wanted, this is {described(found)}")
    must(found.shape == z.shape, f"the shape is {tuple(found.shape)}; expected {tuple(z.shape)}, as z")
    must(torch.equal(z.detach(), before), "your function changes z itself; make a new tensor")
    must(torch.equal(found[~mask], z[~mask]), "values that are not selected must stay as they are")
    must(torch.allclose(found[mask], mean.expand_as(z)[mask]), "selected values must become their neuron's mean")
    must(found.requires_grad, "no gradient goes back at all; do not detach what you return")
    to_z, to_mean = torch.autograd.grad((weight * found).sum(), (z, mean), allow_unused=True)
    must(to_z is not None, "no gradient reaches z")
    must(torch.allclose(to_z[~mask], weight[~mask]), "the gradient of values that are not selected must stay as it is")
    must(not torch.allclose(to_z[mask], torch.zeros(()).double()), "selected values get no gradient: that is naive (a)")
    must(not torch.allclose(to_z[mask], -weight[mask]), "the gradient is reversed: that is Reverse Deactivation")
    must(torch.allclose(to_z[mask], weight[mask]), "the gradient of selected values is not as if untouched")
    must(to_mean is None or not to_mean.any(), "the gradient also reaches the mean, which is a constant here")
    return "the mean forward, and backward as if nothing had happened"
