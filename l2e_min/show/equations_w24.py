"""Equations and algorithms of W24, with the lines that implement them; see :mod:`l2e_min.show.equations`."""

from l2e_min.show.equations import Equation


def w24(place: str, what: str, formula: str, symbol: str, snippet: str, explained: str) -> Equation:
    """One entry."""
    return Equation(symbol, snippet, explained, "W24", place, what, formula)


SCALE = "02_monosemantic_scale#"
KINDS = "05_inhibition#Three ways to switch a value off"
MEMEL = "06_finetuning#MEmeL in three lines"

MOMENTS = (
    w24("Lemma 3.2", "mean", r"\mu_\text{new} = \frac{m\mu + b\mu'}{m+b}", "moments:RunningMoments._combine",
        "self.mean + share * delta", SCALE + "Moments of a stream: Lemma 3.2"),
    w24("Lemma 3.2", "distance of the two means", r"\frac{mb\,(\mu-\mu')^2}{m+b}", "moments:RunningMoments._combine",
        "between = m_f * share * delta.square()", SCALE + "Moments of a stream: Lemma 3.2"),
    w24("Lemma 3.2", "spread within the two", r"b v' + (m-1) v", "moments:RunningMoments._combine",
        "within = b_f * batch_var + torch.where(m > 1, (m_f - 1) * self.var, 0)",
        SCALE + "Moments of a stream: Lemma 3.2"),
    w24("Lemma 3.2", "variance", r"v_\text{new} = \frac{mb(\mu-\mu')^2/(m+b) + bv' + (m-1)v}{m+b-1}",
        "moments:RunningMoments._combine", "new_var = (between + within) / (total - 1)",
        SCALE + "Moments of a stream: Lemma 3.2"),
    w24("Algorithm 1", "one batch into the moments", r"(m, \mu, v) \to (m+b, \mu_\text{new}, v_\text{new})",
        "moments:RunningMoments.update_from_sums",
        "self._combine(count, b, (centre - self.mean) + batch_mean, batch_var, ok)",
        SCALE + "Moments of a stream: Lemma 3.2"),
    w24("Lemma 3.2", "two moments merged", r"v' = \tfrac{b-1}{b}\,v_\text{other}", "moments:RunningMoments.merge",
        "self._combine(self.count, b, other.mean.to(self.mean) - self.mean, population_var.to(self.mean), ok=b > 0)",
        SCALE + "Moments of a stream: Lemma 3.2"),
    w24("C.1", "forgetting", r"m = n_f\, b", "moments:RunningMoments.update_from_sums",
        "count = torch.where(self.batches >= self.forget_after, self.forget_after * b, count)", SCALE + "Forgetting"),
    w24("C.2", "late start at step $l_s$", "", "state:SiteState._judge",
        "started = (moments.count > 1) & (moments.batches >= start_after)",
        SCALE + "Moments of a stream: Lemma 3.2"),
    w24("C.2 and Algorithm 2", "variance compensation", r"v_i + \varepsilon\, \mathrm{mean}_k(v_k)",
        "monosemanticity:denominator", "return var + floor * var.mean() if floor else var", SCALE + "The floor"),
)  # fmt: skip

PHI = (
    w24("eq. for φ", "Monosemantic Scale", r"\phi(z) = \frac{(z-\bar z)^2}{S^2}", "monosemanticity:monosemantic_scale",
        "return deviation.square() / scale", SCALE + "Equation 1"),
)  # fmt: skip

RETRIEVAL = (
    w24("Algorithm 2", "the $k$ largest φ of each sample; MEmeL: $k = 1$", "", "retrieval:TopK.forward",
        "values, index = rows.topk(k, dim=1, sorted=False)",
        "04_false_killing_rate#Seven ways to choose 2 % of the pairs"), )  # fmt: skip

INHIBITION = (
    w24("E.3", "all deactivations in one", r"z' = -Dz + \mathrm{sg}(\bar z + Dz)", "inhibition:deactivate",
        "replaced = mean.detach().to(z.dtype) - strength * (z - z.detach())", KINDS),
    w24("eq. 10", "naive (a): $D = 0$", r"z' = \mathrm{sg}(\bar z)", "inhibitor:STRENGTHS", '"freeze": 0.0', KINDS),
    w24("eq. 11", "naive (b): $D = -1$", r"z' = z + \mathrm{sg}(\bar z - z)", "inhibitor:STRENGTHS",
        '"straight_through": -1.0', KINDS),
    w24("eq. 13", "Reverse Deactivation: $D = 1$", r"z' = -z + \mathrm{sg}(\bar z + z)", "inhibitor:STRENGTHS",
        '"reverse": 1.0', KINDS),
    w24("Algorithm 2", "the layer: observe, select, replace", "", "inhibitor:Inhibitor._inhibit",
        "return deactivate(z, visit.mean, mask & visit.started, STRENGTHS[self.inhibition] * self.strength)", MEMEL),
    w24("Lemma 3.3", "its assumption: the neuron is useful", r"(z-\bar z)\,\partial L/\partial z' < 0",
        "lab.toy.one_update:usefulness", "return -(_of(z, neuron) - mean.gather(1, neuron)) * _of(slope, neuron)",
        "05_inhibition#Lemma 3.3: why the reversed gradient works"),
    Equation("lab.toy.contributions:contributions",
             "moved = -trained.rate * scale * torch.where(part, said, 0).sum(-1)",
             "05_inhibition#Who moves a selected value?", "this book", "Lemma 3.3 in a batch",
             r"one step of SGD, $g_k = \partial L/\partial a_k$",
             r"\Delta z_i = -\eta f'(a_i) \sum_k (x_i \cdot x_k + 1)\, g_k"),
    w24("Table 4", "decrease ratio", r"\left(1 - \phi(z')/\phi(z)\right) \cdot 100\,\%",
        "lab.toy.one_update:Updates.decrease",
        "return 100 * (1 - (self.after[kind] - self.mean).square() / self.var / phi)",
        "05_inhibition#W24's Table 4 in small (C10)"),
    w24("Table 4", "total update ratio", r"\left|z'/z - 1\right| \cdot 100\,\%".replace("|", r"\vert "),
        "lab.toy.one_update:Updates.moved", "return 100 * (self.after[kind] / self.before - 1).abs()",
        "05_inhibition#W24's Table 4 in small (C10)"),
)  # fmt: skip

PLACES = (
    w24("places", "BERT: the four middle blocks of twelve", "", "lab.finetuning.methods:middle_blocks",
        "count = min(len(blocks), max(2, round(len(blocks) / 3)))", MEMEL),
    w24("places", "a neuron is one entry of the tensor", "", "lab.finetuning.methods:Method.attach",
        'neuron_axes=2 if self.reading == "entry" else 1', "06_finetuning#What is a neuron? Two readings"),
)  # fmt: skip

EXPERIMENTS = (
    w24("MEmeL-Tune", "$k$ and $D$ are searched", r"k, D \in \{1, 5, 10, 50, 100\}", "lab.finetuning.protocol:GRID",
        "GRID = (1, 5, 10, 50, 100)", "06_finetuning#The whole table"),
    w24("Table 1", "the best learning rate by the dev score", "", "lab.finetuning.protocol:Protocol.choose",
        "tried = [replace(first, method=replace(first.method, name=under), learning_rate=r) for r in self.rates]",
        "06_finetuning#The whole table"),
    w24("Table 9", "paired t-test over the tasks", "", "lab.finetuning.table:paired_t_test",
        "result = stats.ttest_rel(*zip(*pairs, strict=True))",
        "06_finetuning#What tuning bought, and the paper's own test"),
    w24("F.1", "inhibition left on at test time", "", "lab.finetuning.run:left_on",
        "hook = inhibitor.model.register_forward_pre_hook(lambda *_: flag(True))",
        "06_finetuning#Leave it on at test time?"),
    w24("slides", "neurons held at one value", "", "lab.study.ablation:holding",
        "z[..., neurons.to(z.device)] = values.to(z)", "03_scale_study#Switch them off (C06)"),
    w24("slides", "activation gap", r"\bar z_{l} - \bar z_{\bar l}", "lab.study.first_pass:FirstPass.gap",
        "on, off = self._split(self.mean[HELD], star)", "03_scale_study#The activation gap (C07)"),
)  # fmt: skip

ALL = (*MOMENTS, *PHI, *RETRIEVAL, *INHIBITION, *PLACES, *EXPERIMENTS)
