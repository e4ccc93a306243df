"""Slow float64 versions of every formula, written from the papers as loops and sharing no code with the package."""

import math

import numpy as np


def two_pass_moments(z):
    """Mean and sample variance (divisor m - 1) of each column, by definition."""
    z = np.asarray(z, dtype=np.float64)
    m, n_neurons = z.shape
    mean, var = np.zeros(n_neurons), np.full(n_neurons, np.nan)
    for j in range(n_neurons):
        mean[j] = math.fsum(z[:, j]) / m
        if m > 1:
            var[j] = math.fsum((x - mean[j]) ** 2 for x in z[:, j]) / (m - 1)
    return mean, var


def lemma_3_2(m, mu, v, batch):
    """W24 Lemma 3.2 for one neuron: old count, mean, sample variance and a list of new values."""
    b = len(batch)
    mu_new = sum(batch) / b
    v_new = sum((x - mu_new) ** 2 for x in batch) / b  # population variance
    mean = (m * mu + b * mu_new) / (m + b)
    var = m * b * (mu - mu_new) ** 2 / ((m + b) * (m + b - 1)) + (b * v_new + (m - 1) * v) / (m + b - 1)
    return mean, var


def phi(z, mean, var, eps=0.0):
    """W25 eq. 1; with eps, the denominator of W24 Algorithm 2."""
    z = np.asarray(z, dtype=np.float64)
    out = np.zeros_like(z)
    layer = sum(var) / len(var)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            out[i, j] = (z[i, j] - mean[j]) ** 2 / (var[j] + eps * layer)
    return out


def feature_scores(phi, labels, n_features):
    """W25 eq. 2."""
    out = np.full((n_features, phi.shape[1]), np.nan)
    for f in range(n_features):
        for j in range(phi.shape[1]):
            mine = [phi[i, j] for i in range(len(labels)) if labels[i] == f]
            if mine:
                out[f, j] = sum(mine) / len(mine)
    return out


def relative_feature(phi, labels):
    """W25 eq. 3."""
    scores = feature_scores(phi, labels, max(labels) + 1)
    star = []
    for j in range(phi.shape[1]):
        best = max((s, -f) for f, s in enumerate(scores[:, j]) if not math.isnan(s))
        star.append(-best[1])
    return star


def false_killing_rate(phi, labels, share):
    """W25 eq. 4 with k = the share of all pairs, rounded down."""
    n, n_neurons = phi.shape
    star = relative_feature(phi, labels)
    k = math.floor(share * n * n_neurons + 1e-9)
    if k == 0:
        return math.nan
    tau = sorted(phi.ravel(), reverse=True)[k - 1]
    killed = false = 0
    for i in range(n):
        for j in range(n_neurons):
            if phi[i, j] >= tau:
                killed += 1
                false += labels[i] != star[j]
    return false / killed


def penalty(z, mean, var, mask, form):
    """The three penalty forms of ``ms_penalty``: mean over the selected pairs."""
    z = np.asarray(z, dtype=np.float64)
    batch_var = two_pass_moments(z)[1]
    terms = []
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            if mask[i][j]:
                d2 = (z[i, j] - mean[j]) ** 2
                terms.append(
                    {"ms": d2 / var[j], "log_ms": math.log(d2)}.get(form, math.log(d2) - math.log(batch_var[j]))
                )
    return sum(terms) / len(terms) if terms else 0.0
