"""Equations and procedures of W25 and G23, and this book's own; see :mod:`l2e_min.show.equations`."""

from l2e_min.show.equations import Equation


def w25(place: str, what: str, formula: str, symbol: str, snippet: str, explained: str, paper: str = "W25") -> Equation:
    """One entry."""
    return Equation(symbol, snippet, explained, paper, place, what, formula)


PENALTY = "05_inhibition#The penalty, its logarithm, and the trap"
IDENTITIES = "02_monosemantic_scale#Two identities to know before you believe a figure"
PROBING = "01_monosemantic_neuron#The search: sparse probing"
STEP = "04_false_killing_rate#The step"
BOOK = "this book"

PHI = (
    w25("eq. 1", "Monosemanticity Score, as W24's φ", r"\phi = \frac{(z-\bar z)^2}{S^2}",
        "monosemanticity:monosemantic_scale", "return deviation.square_().div_(scale)",
        "02_monosemantic_scale#Equation 1"),
)  # fmt: skip

MEASURES = (
    w25("eq. 2", "mean MS of a feature", r"\phi_l = \mathrm{mean}_{x_i \in l}\, \phi_i",
        "monosemanticity:feature_scores", "return (members.T @ phi) / members.sum(0)[:, None]", IDENTITIES),
    w25("eq. 2", "mean MS of all other texts", r"\phi_{\bar l} = \mathrm{mean}_{x_i \notin l}\, \phi_i",
        "lab.selectivity:on_and_off", "return on / n_on, (phi.sum(0) - on) / (len(phi) - n_on)", IDENTITIES),
    w25("eq. 3", "relatively monosemantic feature", r"l^* = \arg\max_l \phi_l", "monosemanticity:relative_feature",
        "return feature_scores(phi, labels).nan_to_num(nan=-torch.inf, posinf=torch.inf).argmax(0)", IDENTITIES),
    w25("eq. 4", "False Killing Rate",
        r"\frac{\#\{\phi_{ij} \ge \tau_k,\, x_i \notin l^*_j\}}{\#\{\phi_{ij} \ge \tau_k\}}",
        "monosemanticity:false_killing_rate", "return int((selected & off_star).sum()) / int(selected.sum())",
        "04_false_killing_rate#Equation 4"),
    w25("3, Fig. 4", "K-S statistic", r"D = \max_\phi \vert F_{l^*}(\phi) - F(\phi) \vert",
        "monosemanticity:ks_statistic", "gap = (on_star.cumsum(0) / on_star.sum(0) - everything).abs()",
        "03_scale_study#The Kolmogorov-Smirnov statistic (C04)"),
    w25("sparse probing", "rank the neurons", r"\vert\bar z_l - \bar z_{\bar l}\vert", "lab.probing:probe",
        "difference = z[train & on].mean(0) - z[train & ~on].mean(0)", PROBING, "G23"),
    w25("sparse probing", "a detector of one neuron, scored by $F_1$", r"F_1 = \frac{2PR}{P+R}", "lab.probing:fit",
        'LogisticRegression(class_weight="balanced")', PROBING, "G23"),
    w25("3", "the top 10 of a scale", "", "lab.study.measures:N_BEST", "N_BEST = 10",
        "03_scale_study#Probes: selectivity does not fade"),
)  # fmt: skip

RETRIEVAL = (
    w25("4.2", "select by a threshold", r"\phi \ge \tau", "retrieval:MovingThreshold.forward",
        "mask = phi >= self.tau", "04_false_killing_rate#Retrieval: which pairs, and at what cost"),
    w25("appendix A", "error of the batch's share $f$ (no formula there: ours)",
        r"u = \mathrm{clip}\left(\tfrac{f-k}{k}, -1, 2\right)",
        "retrieval:MovingThreshold.move", "error = ((share_above - self.share) / self.share).clamp(-1, 2)", STEP),
    w25("appendix A", "move the threshold (ours, too)", r"\log\tau \leftarrow \log\tau + \eta u",
        "retrieval:MovingThreshold.move",
        "log_tau = (self.log_tau + rate * error).clamp(-80, 80)", STEP),
    w25("Table 2", "its MEmeL: the top share by a sort", "", "lab.bench_pretrain:SortedShare.forward",
        "return phi >= phi.flatten().sort(descending=True).values[k - 1]",
        "04_false_killing_rate#Seven ways to choose 2 % of the pairs"),
)  # fmt: skip

INHIBITION = (
    w25("4.3", "MS as a regularizer", r"\lambda\, (z-\bar z)^2 / S^2", "inhibition:ms_penalty",
        "each = d2 / torch.where(mask, var.detach().clamp_min(tiny), 1)", PENALTY),
    w25("eq. 5", "its logarithm, L2E", r"\lambda \log (z-\bar z)^2", "inhibition:ms_penalty",
        "each = d2.clamp_min(tiny).log()", PENALTY),
    w25("eq. 5", "its gradient, straight into the backward pass", r"\frac{2\lambda}{z-\bar z}",
        "fused_penalty:penalty_walk", "torch.div(above, d, out=d)", PENALTY),
    w25("invariant form", "the variance of the batch, with gradient", r"\log (z-\bar z)^2 - \log S_b^2",
        "inhibition:ms_penalty", "each = each - torch.where(mask, batch_var.clamp_min(tiny).log(), 0)", PENALTY, BOOK),
)  # fmt: skip

PLACES = (
    w25("Mid-2", "the two middle layers", "", "sites:_middle",
        'count = {"middle-2": 2, "middle-third": max(1, round(len(blocks) / 3)), "all": len(blocks)}[place]',
        "05_inhibition#The same in pretraining (C16, B02 on record)"),
    w25("neurons", "what the second linear layer of an MLP receives", r"z = \mathrm{GELU}(W_1 x + b_1)",
        "sites:mlp_sites", "if _SECOND_LINEAR.search(", "01_monosemantic_neuron#A neuron and its value", "G23"),
)  # fmt: skip

EXPERIMENTS = (
    w25("two passes", "eq. 2 from moments alone", r"\phi_l = \frac{\frac{c-1}{c} v + (m-\mu)^2}{S^2}",
        "lab.study.first_pass:FirstPass.scores",
        "return torch.where(self.alive, (within + (self.mean[half] - self.mu).square()) / self.s2, 0)",
        "03_scale_study#Measuring a large model in two passes", BOOK),
    w25("null", "the labels permuted, $l^*$ chosen anew", "", "lab.selectivity:permuted_log_ratios",
        "on, off = halves.on_and_off(halves.star(chosen), held)", IDENTITIES, BOOK),
    w25("B04", "K-S at equal loss", "", "lab.study.trends:at_loss",
        "return value(before) + part * (value(after) - value(before))",
        "03_scale_study#The confound: bigger is also further (B04)", BOOK),
    w25("kurtosis", "tails by fresh moments", r"\log \mathrm{mean}\, \phi^2", "lab.training.look:log_kurtosis",
        "return (sum(site.phi.square().sum() for site in sites) / pairs).log().item() if pairs else math.nan",
        "05_inhibition#What the logarithm lets through (B02)", BOOK),
)  # fmt: skip

ALL = (*PHI, *MEASURES, *RETRIEVAL, *INHIBITION, *PLACES, *EXPERIMENTS)
