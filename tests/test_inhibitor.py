"""The inhibitor on real architectures: where it sits, what it changes, and that it leaves without a trace."""

import copy
import math

import pytest
import torch
from models import TRANSFORMERS, PlainMLP, build
from torch import nn

from l2e_min import Inhibitor, MovingThreshold, RunningMoments, TopK, deactivate, monosemantic_scale, ms_penalty
from l2e_min.inhibitor import STRENGTHS
from l2e_min.sites import find_sites, mlp_sites

KINDS = ("reverse", "freeze", "straight_through", "ms", "log_ms", "invariant_log_ms")


def plain(seed=0):
    torch.manual_seed(seed)
    return PlainMLP()


def steps(model, inhibitor, n, seed=0, each=None):
    """n steps of SGD on a fixed stream; returns the losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    g = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(n):
        x, y = torch.randn(32, 8, generator=g), torch.randint(0, 3, (32,), generator=g)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        (loss + inhibitor.penalty() if inhibitor else loss).backward()
        optimizer.step()
        losses.append(loss.item())
        if each:
            each()
    return losses


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_finds_the_second_linear_of_every_mlp_block(name):
    model, _, blocks, width = build(name)
    sites = mlp_sites(model)
    assert len(sites) == blocks and all(site.side == "input" for site in sites)
    assert not any("attention" in site.name or "attn" in site.name for site in sites)
    seen = []
    handle = sites[0].module.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].shape[-1]))
    model(**build(name)[1])
    handle.remove()
    assert seen == [width]
    assert [s.name for s in find_sites(model, "middle-2")] == [s.name for s in sites[1:3]]


@pytest.mark.parametrize(
    ("blocks", "place", "want"),
    [
        (12, "middle-2", [5, 6]),
        (12, "middle-third", [4, 5, 6, 7]),  # W24's four
        (5, "middle-2", [1, 2]),
        (5, "middle-third", [1, 2]),
        (1, "middle-2", [0]),
        (1, "middle-third", [0]),
        (3, "all", [0, 1, 2]),
    ],
)
def test_the_middle_is_in_the_middle(blocks, place, want):
    model = nn.Module()
    model.layer = nn.ModuleList(nn.ModuleDict({"fc2": nn.Linear(2, 2)}) for _ in range(blocks))
    assert [site.name for site in find_sites(model, place)] == [f"layer.{i}.fc2" for i in want]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_trains_every_architecture_with_every_kind_and_leaves_no_trace(name, kind):
    model, batch, _, _ = build(name)
    keys, parameters = list(model.state_dict()), sum(p.numel() for p in model.parameters())
    before = model.eval()(**batch).logits
    inhibitor = Inhibitor(model, "middle-2", inhibition=kind, start_after=1)
    assert torch.equal(model(**batch).logits, before)  # does nothing in eval
    assert list(model.state_dict()) == keys and sum(p.numel() for p in model.parameters()) == parameters
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        loss = model(**batch).loss + inhibitor.penalty()
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss) and all(row["batches"] == 4 for row in inhibitor.report().rows)
    # After remove() the model computes what a fresh one with the same weights computes, bit by bit.
    twin = build(name)[0]
    twin.load_state_dict(model.state_dict())
    inhibitor.remove()
    for mode in (False, True):
        torch.manual_seed(5)
        a = model.train(mode)(**batch)
        torch.manual_seed(5)
        b = twin.train(mode)(**batch)
        assert torch.equal(a.logits, b.logits) and torch.equal(a.loss, b.loss)
    hooks = [h for m in model.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]
    assert hooks == [h for m in twin.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]


@pytest.mark.parametrize("retrieval", [TopK(k=2), MovingThreshold(0.1)])
@pytest.mark.parametrize("kind", KINDS)
def test_is_the_sum_of_its_parts(kind, retrieval):
    """Five batches by hand, with the public functions, against the inhibitor: outputs, penalties and gradients."""
    model, by_hand, floor, weight = plain(), plain(), 0.5, 0.1
    inhibitor = Inhibitor(model, "act", retrieval, kind, weight, 2, start_after=3, forget_after=None, floor=floor)
    moments, g, retrieval = RunningMoments(16), torch.Generator().manual_seed(0), copy.deepcopy(retrieval)
    for batch in range(5):
        x = torch.randn(20, 8, generator=g)
        z = nn.functional.gelu(by_hand.first(x))  # (20, 16)
        mean, var, penalty = moments.mean.clone(), moments.var.clone(), torch.zeros(())
        retrieval.train(batch > 0)  # without a variance there is nothing to learn a threshold from
        mask = retrieval(monosemantic_scale(z.detach(), mean, var, floor))
        moments.update(z)
        if batch >= 3 and kind in STRENGTHS:
            z = deactivate(z, mean, mask, 2 * STRENGTHS[kind])
        elif batch >= 3:
            penalty = weight * ms_penalty(z, mean, var, mask, kind)
        want = by_hand.out(by_hand.act2(by_hand.second(z)))
        got, added = model(x), inhibitor.penalty()
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(added, penalty)
        (want.square().sum() + penalty).backward()
        (got.square().sum() + added).backward()
        torch.testing.assert_close(model.first.weight.grad, by_hand.first.weight.grad)
    torch.testing.assert_close(inhibitor.states["act"].moments.var, moments.var)


def test_the_penalty_is_summed_over_the_sites_and_gone_after_remove():
    parts = []
    for sites in (["act"], ["act2"], ["act", "act2"]):
        model, g = plain(), torch.Generator().manual_seed(0)
        inhibitor = Inhibitor(model, sites, TopK(k=2), weight=1.0, start_after=0)
        for _ in range(3):
            model(torch.randn(20, 8, generator=g))
            parts.append(inhibitor.penalty())
        model(torch.randn(20, 8, generator=g))
        inhibitor.remove()
        assert inhibitor.penalty() == 0
    torch.testing.assert_close(parts[2] + parts[5], parts[8])
    assert parts[2] != 0 and parts[5] != 0


@pytest.mark.parametrize("kind", ["ms", "log_ms", "invariant_log_ms"])
def test_penalty_in_the_backward_pass_gives_the_same_weights(kind):
    in_loss, in_backward = plain(), plain()
    a = Inhibitor(in_loss, "act", inhibition=kind, weight=0.05, start_after=2)
    b = Inhibitor(in_backward, "act", inhibition=kind, weight=0.05, start_after=2, penalty_in="backward")
    steps(in_loss, a, 30)
    steps(in_backward, b, 30)
    for x, y in zip(in_loss.parameters(), in_backward.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-7)
    assert not same(weights(in_loss), weights(plain()))
    free = plain()
    steps(free, None, 30)
    assert (free.first.weight - in_loss.first.weight).abs().max() > 1e-3  # and the penalty did something


def test_penalty_in_the_backward_pass_honours_loss_scaling():
    gradients = []
    for scale, given in ((1.0, 1.0), (64.0, 64.0), (64.0, lambda: torch.tensor(64.0))):
        model = plain()
        Inhibitor(model, "act", weight=0.5, start_after=1, penalty_in="backward", loss_scale=given)
        g = torch.Generator().manual_seed(1)
        for _ in range(3):
            model.zero_grad()
            (model(torch.randn(32, 8, generator=g)).square().mean() * scale).backward()
        gradients.append(model.first.weight.grad / scale)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(gradients[0], gradients[2], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("enabled", [False, True])
def test_penalty_in_the_backward_pass_follows_a_grad_scaler(enabled):
    gradients = []
    for scaled in (False, True):
        model = plain()
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0, enabled=enabled and scaled)
        Inhibitor(model, "act", weight=0.5, start_after=1, penalty_in="backward", loss_scale=scaler)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        g = torch.Generator().manual_seed(1)
        for _ in range(3):
            model.zero_grad()
            scaler.scale(model(torch.randn(32, 8, generator=g)).square().mean()).backward()
        scaler.unscale_(optimizer)
        gradients.append(model.first.weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)


def test_starts_late_and_holds_its_share():
    model = plain()
    inhibitor = Inhibitor(model, ["act", "act2"], MovingThreshold(0.1), "log_ms", weight=1.0, start_after=5)
    penalties = []
    g = torch.Generator().manual_seed(0)
    for _ in range(8):
        model(torch.randn(64, 8, generator=g))
        penalties.append(inhibitor.penalty().item())
    assert penalties[:5] == [0.0] * 5 and all(p != 0 for p in penalties[5:])
    for _ in range(100):
        model(torch.randn(64, 8, generator=g))
        inhibitor.penalty()
    shares = []
    for _ in range(50):
        model(torch.randn(64, 8, generator=g))
        inhibitor.penalty()
        shares.append(inhibitor.report().rows[0]["share"])
    assert sum(shares) / 50 == pytest.approx(0.1, rel=0.1)


def test_every_site_has_a_threshold_of_its_own_that_waits_for_a_variance():
    model, given = plain(), MovingThreshold(0.02)
    inhibitor = Inhibitor(model, ["act", "act2"], given)
    model(torch.randn(1, 8))  # one input: a mean, but no variance
    start = given.tau.item()
    model(torch.randn(32, 8))  # judged by no variance
    assert [row["tau"] for row in inhibitor.report().rows] == [start, start]
    for _ in range(5):
        model(torch.randn(32, 8))
    one, other = (row["tau"] for row in inhibitor.report().rows)
    assert len({start, one, other}) == 3 and given.tau == start


def test_pause_resume_eval_and_remove():
    model, x = plain(), torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
    free = model(x)
    inhibitor = Inhibitor(model, "act", TopK(k=3), "freeze", start_after=1)
    model(x)
    assert not torch.equal(model(x), free)
    inhibitor.pause()
    state = {k: v.clone() for k, v in inhibitor.state_dict().items()}
    assert torch.equal(model(x), free) and same(state, inhibitor.state_dict())
    inhibitor.resume()
    assert not torch.equal(model(x), free)
    model.eval()
    assert torch.equal(model(x), free)
    model.train()
    model.act.eval()  # a part that is not being trained
    assert torch.equal(model(x), free)
    model.train()
    inhibitor.remove()
    assert torch.equal(model(x), free)
    inhibitor.remove()  # twice does no harm


@pytest.mark.parametrize("retrieval", [MovingThreshold(0.05), TopK(k=2)])
@pytest.mark.parametrize("kind", ["reverse", "log_ms"])
def test_the_whole_state_comes_back(kind, retrieval):
    model = plain()
    inhibitor = Inhibitor(model, ["act", "second:input"], retrieval, kind, weight=0.1, start_after=3)
    steps(model, inhibitor, 12)
    saved_model = {k: v.clone() for k, v in model.state_dict().items()}
    saved = {k: v.clone() for k, v in inhibitor.state_dict().items()}
    steps(model, inhibitor, 10, seed=1)

    again = plain(1)
    again.load_state_dict(saved_model)
    other = Inhibitor(again, ["act", "second:input"], retrieval, kind, weight=0.1, start_after=3)
    other.load_state_dict(saved)
    assert same(saved, other.state_dict())
    steps(again, other, 10, seed=1)
    assert same(weights(model), weights(again)) and same(inhibitor.state_dict(), other.state_dict())


def test_loading_replaces_all_there_was_and_nothing_is_on_the_models_device():
    model = plain()
    inhibitor = Inhibitor(model, ["act", "act2"])
    steps(model, inhibitor, 3)
    inhibitor.load_state_dict({k: v for k, v in inhibitor.state_dict().items() if k.startswith("act/")})
    assert list(inhibitor.states) == ["act"]
    assert Inhibitor(plain().to("meta"), "act").penalty().device.type == "meta"


def test_state_is_fit_for_safetensors(tmp_path):
    from safetensors.torch import load_file, save_file

    model = plain()
    inhibitor = Inhibitor(model, "act")
    steps(model, inhibitor, 3)
    save_file(inhibitor.state_dict(), tmp_path / "inhibitor.safetensors")
    other = Inhibitor(plain(), "act")
    other.load_state_dict(load_file(tmp_path / "inhibitor.safetensors"))
    assert same(inhibitor.state_dict(), other.state_dict())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_checked_mode_names_the_module_and_unchecked_moments_stay_clean(bad):
    model = plain()
    inhibitor = Inhibitor(model, "act", checked=True)
    x = torch.randn(16, 8)
    model(x)
    x[3, 2] = bad
    with pytest.raises(FloatingPointError, match=r"NaN or infinity in the output of act \(GELU\)"):
        model(x)
    inhibitor.remove()
    inhibitor = Inhibitor(model, "act")
    model(torch.randn(16, 8))
    before = {k: v.clone() for k, v in inhibitor.state_dict().items()}
    model(x)
    after = inhibitor.state_dict()
    for key in ("moments.mean", "moments.var", "moments.count", "retrieval.log_tau"):
        assert torch.equal(before[f"act/{key}"], after[f"act/{key}"]), key
    assert inhibitor.report().rows[0]["skipped"] == 1 and "skipped" in str(inhibitor.report())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(dtype):
    model, batch, _, _ = build("gpt_neox")
    inhibitor = Inhibitor(model, "middle-2", inhibition="log_ms", start_after=1)
    model.train()
    for _ in range(3):
        with torch.autocast("cpu", dtype=dtype):
            loss = model(**batch).loss + inhibitor.penalty()
        loss.backward()
    state = inhibitor.state_dict()
    assert all(v.dtype == torch.float32 for k, v in state.items() if "moments.mean" in k or "moments.var" in k)
    assert torch.isfinite(loss) and all(torch.isfinite(v).all() for v in state.values())


@pytest.mark.slow
def test_compiled_model_trains_the_same():
    results = []
    for compiled in (False, True):
        model = plain()
        inhibitor = Inhibitor(model, "act", inhibition="log_ms", weight=0.1, start_after=2)
        run = torch.compile(model, backend="aot_eager") if compiled else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        g = torch.Generator().manual_seed(0)
        for _ in range(6):
            optimizer.zero_grad()
            (run(torch.randn(32, 8, generator=g)).square().mean() + inhibitor.penalty()).backward()
            optimizer.step()
        results.append((weights(model), inhibitor.state_dict()))
    for a, b in zip(*results, strict=True):
        for key in a:
            torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-6)


def test_a_block_that_returns_a_tuple():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 6)

        def forward(self, x):
            return self.linear(x), "attention weights"

    block = Block()
    Inhibitor(nn.ModuleList([block]), "0", TopK(k=1), "freeze", start_after=0)
    x = torch.randn(10, 8)
    block(x)
    hidden, rest = block(x)
    assert rest == "attention weights" and (hidden != block.linear(x)).sum() == 10


def test_other_inputs_pass_by_untouched():
    model = nn.ModuleDict({"mix": nn.Bilinear(4, 4, 4)})
    Inhibitor(model, "mix:input", TopK(k=4), "freeze", start_after=0)
    x, y = torch.randn(10, 4), torch.randn(10, 4)
    model["mix"](x, y)
    mean = x.mean(0).expand(10, 4)
    torch.testing.assert_close(model["mix"](x, y), nn.functional.bilinear(mean, y, *model["mix"].parameters()))


def test_frozen_models_and_no_grad_cost_nothing():
    model = plain()
    inhibitor = Inhibitor(model, "act", inhibition="log_ms", start_after=0)
    with torch.no_grad():
        model(torch.randn(5, 8))
        model(torch.randn(5, 8))
    assert inhibitor.penalty() == 0
    model.first.requires_grad_(False)
    model(torch.randn(5, 8))
    assert inhibitor.penalty() == 0 and inhibitor.report().rows[0]["batches"] == 3


def test_empty_batches_and_forgotten_penalties():
    model = plain()
    inhibitor = Inhibitor(model, ["act", "act2"], start_after=0)
    assert model(torch.empty(0, 8)).shape == (0, 3)
    for _ in range(200):
        model(torch.randn(4, 8))
    with pytest.raises(RuntimeError, match=r"without inhibitor.penalty\(\)"):
        for _ in range(100):
            model(torch.randn(4, 8))
    inhibitor.remove()


def test_report_before_and_after():
    model = plain()
    inhibitor = Inhibitor(model, "act2", TopK(k=1))
    assert "not seen" in str(inhibitor.report())
    model.second.weight.data[0] = 0
    model.second.bias.data[0] = -5  # a dead unit
    steps(model, inhibitor, 2, each=lambda: model.second.weight.data[0].zero_())
    (row,) = inhibitor.report().rows
    assert row["variance"] == inhibitor.states["act2"].moments.var.median() and math.isnan(row["tau"])
    assert row["constant"] >= 1 and row["neurons"] == 12 and row["share"] == pytest.approx(1 / 12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: Inhibitor(m, "middle-2"), "no MLP blocks known in PlainMLP"),
        (lambda m: Inhibitor(m, "actt"), "no site 'actt'; near it: act"),
        (lambda m: Inhibitor(m, "act:side"), "no site 'act:side'"),
        (lambda m: Inhibitor(m, []), "no sites given"),
        (lambda m: Inhibitor(m, [m.act, "act"]), "named twice: act"),
        (lambda m: Inhibitor(m, ["act", "act:input"]), "named twice: act"),
        (lambda m: Inhibitor(m, nn.ReLU()), "ReLU given as a site is not a part"),
        (lambda m: Inhibitor(m, [3]), "a site is 3"),
        (lambda m: Inhibitor(m, "act", inhibition="kill"), "inhibition is 'kill'; expected one of reverse"),
        (lambda m: Inhibitor(m, "act", penalty_in="optimizer"), "penalty_in is 'optimizer'"),
        (lambda m: Inhibitor(m, "act", retrieval=0.02), "retrieval is 0.02; expected MovingThreshold"),
        (lambda m: Inhibitor(m, "act", weight=float("nan")), "weight is nan"),
        (lambda m: Inhibitor(m, "act", strength=float("inf")), "strength is inf"),
        (lambda m: Inhibitor(m, "act", start_after=-1), "start_after is -1"),
        (lambda m: Inhibitor(m, "act", forget_after=0), "forget_after is 0"),
        (lambda m: Inhibitor(m, "act", floor=-0.1), "floor is -0.1"),
        (lambda m: Inhibitor(m, "act").load_state_dict({"act/share": torch.zeros(())}), "no moments.mean of act"),
        (lambda m: Inhibitor(m, "first:input") and m.first(input=torch.zeros(2, 8)), "input of first .* is NoneType"),
        (lambda m: Inhibitor(m, "act").load_state_dict({"act9/moments.mean": torch.zeros(3)}), "of other sites: act9"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(plain())
