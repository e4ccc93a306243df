"""Checks of chapter 8: reports to read, reports to judge by code, a hook, and accumulated gradients."""

import torch
from torch import nn

from l2e_min import Inhibitor, TopK
from l2e_min.lab.exercises.checking import NotYet, as_number, call, choices, described, exercise, must
from l2e_min.report import Report


@exercise("ex-own-diagnose")
def diagnose(diagnosis) -> str:
    """Six reports and what is behind each."""
    words = ("fine", "weight", "LayerNorm", "logits", "eval", "validation", "forgotten")
    expected = {
        "A": "91e5277f0f525238",
        "B": "5e2d48fe4163627c",
        "C": "6b775340f48e4f26",
        "D": "15af2b9131b8bc9a",
        "E": "52de8823c5d25877",
        "F": "6cf99d4b63931c59",
    }
    looks = {
        "A": "compare its S² with the first row's",
        "B": "look at its neurons, and at its τ beside a Gaussian's 5.4",
        "C": "two hundred steps were made; how many batches did it see?",
        "D": "would any change of the gradient leave *every* number as it was?",
        "E": "two hundred steps were made; how many batches did it see?",
        "F": "go through the decision list from the top; does any point complain?",
    }
    choices("ex-own-diagnose", diagnosis, words, expected, looks)
    return "each from one or two columns"


ROW = {"site": "first", "neurons": 64, "batches": 200, "skipped": 0, "share": 0.021, "tau": 8.0, "variance": 0.2}


def _reports(**changed) -> tuple[Report, Report]:
    """A report of two sites, the second with other numbers, and one at weight 0 with the sites the other way round."""
    now = [ROW | {"variance": 0.01}, ROW | {"site": "second", "variance": 3.0} | changed]
    before = [ROW | {"site": "second", "variance": 3.2}, ROW | {"variance": 0.011}]
    return Report(now), Report(before)


@exercise("ex-own-code")
def complaints(function) -> str:
    """Pairs (site, column) that the decision list's points 1, 3 and 4 complain of."""
    cases = (
        ({}, set(), "a report in good order"),
        ({"batches": 120}, {"batches"}, "120 batches after 200 steps"),
        ({"batches": 210}, {"batches"}, "210 batches after 200 steps"),
        ({"skipped": 1}, {"skipped"}, "one batch skipped"),
        ({"share": 0.005}, {"share"}, "a share of 0.005"),
        ({"share": 0.07}, {"share"}, "a share of 0.07"),
        ({"variance": 0.2}, {"variance"}, "S² of 0.2 where it was 3.2"),
        ({"variance": 3e-7, "share": 0.0, "skipped": 7}, {"variance", "share", "skipped"}, "three things amiss"),
    )
    for changed, columns, words in cases:
        now, before = _reports(**changed)
        found = call(function, now, before, 200)
        must(isinstance(found, list | tuple | set), f"a list of pairs is wanted, this is {described(found)}")
        must(
            all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in found),
            'every complaint is a pair (site, column), such as ("blocks.0.act", "share")',
        )
        found = {tuple(pair) for pair in found}
        mixed = {("first", "variance"), ("second", "variance")} & found - {("second", c) for c in columns}
        must(not mixed, "the two reports name their sites in different orders; match rows by `site`")
        told = ", ".join(f"{site}: {column}" for site, column in sorted(found)) or "nothing"
        must(found == {("second", column) for column in columns}, f"{words} of the second site: yours says {told}")
    return "eight reports, each judged as it should be"


@exercise("ex-own-hook")
def mean_hook(function) -> str:
    """A forward hook that gives some neurons their mean over all inputs and leaves the others."""
    g = torch.Generator().manual_seed(31)
    for shape, neurons in (((6, 5), [1, 3]), ((6, 5), []), ((2, 3, 5), [0])):
        z = torch.randn(shape, generator=g)
        module, before = nn.Identity(), z.clone()
        hook = call(function, neurons)
        must(callable(hook), f"your function returns {described(hook)}; a hook is a function, too")
        handle = module.register_forward_hook(hook)
        found = call(module, z)
        handle.remove()
        must(torch.equal(z, before), "the hook changes the values that came in; others may still need them: clone")
        must(
            isinstance(found, torch.Tensor) and found.shape == z.shape,
            f"what goes on is {described(found)}; expected a tensor of shape {shape}",
        )
        others = [n for n in range(5) if n not in neurons]
        must(torch.equal(found[..., others], z[..., others]), "neurons that are not named must stay as they are")
        if not neurons:
            continue
        must(not torch.equal(found, z), "nothing changes: what a hook *returns* goes on, and nothing else does")
        mean = z.reshape(-1, 5).mean(0)
        wanted = mean[neurons].expand_as(found[..., neurons])
        if not torch.allclose(found[..., neurons], wanted):
            must(
                z.ndim == 2,
                "for values (2, 3, 5): all axes but the last are inputs, and the mean goes over all of them",
            )
            raise NotYet("the named neurons do not get their own mean over the inputs")
    return "also for values of three axes"


def _case() -> tuple[nn.Module, Inhibitor, list]:
    """The same small net with settled moments, its inhibitor and four parts of a batch, at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(37)
        net = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))
        inhibitor = Inhibitor(net, "1", TopK(k=1), weight=0.5, start_after=0)
        for _ in range(5):
            net(torch.randn(16, 6))
        inhibitor.penalty()
        return net, inhibitor, [(torch.randn(4, 6), torch.randint(3, (4,))) for _ in range(4)]


@exercise("ex-own-accumulate")
def accumulate(function) -> str:
    """The gradient of the mean of loss and penalty over the parts, and the mean task loss."""
    net, inhibitor, parts = _case()
    losses, by_loss, by_penalty = [], [], []
    for x, y in parts:
        loss, penalty = nn.functional.cross_entropy(net(x), y), inhibitor.penalty()
        losses.append(loss.item())
        for value, gradients in ((loss, by_loss), (penalty, by_penalty)):
            each = torch.autograd.grad(value, list(net.parameters()), retain_graph=True, materialize_grads=True)
            gradients.append(torch.cat([e.flatten() for e in each]))
    inhibitor.remove()
    l, p = torch.stack(by_loss), torch.stack(by_penalty)  # (parts, parameters)
    net, inhibitor, parts = _case()
    before = [q.detach().clone() for q in net.parameters()]
    told = as_number(call(function, net, inhibitor, parts))
    inhibitor.remove()
    must(
        all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)),
        "your function changes the weights; leave the step to the optimizer",
    )
    must(all(q.grad is not None for q in net.parameters()), "no gradient arrives; where is backward()?")
    found = torch.cat([q.grad.flatten() for q in net.parameters()])
    if not torch.allclose(found, l.mean(0) + p.mean(0), rtol=1e-4, atol=1e-6):
        suspects = (
            (l.mean(0), "the penalty is missing from the gradient"),
            (l.sum(0), "the penalty is missing from the gradient, and the parts are added up"),
            (l.sum(0) + p.sum(0), "that is the gradient of the sum over the parts; it should be their mean"),
            (l.mean(0) + p.sum(0), "the loss is divided by the number of parts, the penalty is not"),
            (l.sum(0) + p.mean(0), "the penalty is divided by the number of parts, the loss is not"),
            (l[-1] + p[-1], "only the last part's gradient is left"),
            ((l[-1] + p[-1]) / len(parts), "only the last part's gradient is left"),
        )
        near = [why for gradient, why in suspects if torch.allclose(found, gradient, rtol=1e-4, atol=1e-6)]
        raise NotYet(near[0] if near else "the gradient is not that of the mean of loss and penalty over the parts")
    mean = sum(losses) / len(losses)
    if abs(told - mean) > 1e-5:
        must(abs(told - mean * len(losses)) > 1e-5, "the gradient is right; what you return is the losses' sum")
        must(abs(told - losses[-1]) > 1e-5, "the gradient is right; what you return is the last part's loss")
        raise NotYet("the gradient is right; return the mean of the *task's* loss, without the penalty")
    return "as if the parts had been one batch, each judged by itself"
