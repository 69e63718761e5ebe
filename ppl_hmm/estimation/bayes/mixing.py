"""Do chains agree? R̂ and effective draws of what no order of states changes, modes of chains, and their weights.

Two chains are of one mode where R̂ of the pair is at most :data:`SAME_MODE` for every quantity, and so is whoever agrees
with either. Chains that stay in different modes say nothing of how probable each mode is. Their weights are those of
stacking: the mixture of modes that predicts each text best from the others,

    maximise Σ_b log Σ_m w_m p(x_b | x_{−b}, draws of mode m),

p by truncated importance sampling; chains of one mode share its weight equally. They are no posterior
probabilities of the modes, which the draws cannot tell. Nothing here averages over chains.
Source: Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021) for R̂ and effective draws; Yao, Vehtari & Gelman (2022),
Stacking for non-mixing Bayesian computations; Ionides (2008) for p.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from arviz_stats.base.array import array_stats
from numpy.typing import ArrayLike
from scipy.optimize import LinearConstraint, minimize
from scipy.sparse.csgraph import connected_components
from scipy.special import logsumexp

from ppl_hmm import schema
from ppl_hmm.schema import Agreement

#: R̂ of chains that agree (Vehtari et al. 2021), and of a pair of one mode.
AGREE, SAME_MODE = 1.01, 1.1
#: Fewer draws of a chain have no R̂.
FEWEST_DRAWS = 4


def mixing(
    quantities: Mapping[str, np.ndarray], log_likelihood: np.ndarray, diverging: ArrayLike | None = None
) -> xr.Dataset:
    """Return how far chains agree.

    Parameters
    ----------
    quantities
        (C,D) by name; among them ``log_evidence``, in nats.
    log_likelihood
        Of each text (C,D,B), in nats.
    diverging
        (C,D): whether the trajectory of a draw diverged; None of a sampler without trajectories.

    Returns
    -------
    xarray.Dataset
        ``rhat``, ``ess_bulk``, ``ess_tail`` (quantity); ``mode`` (chain), numbered by evidence, the best first;
        ``evidence_gap`` (mode): nats of mean log-evidence below the best; ``weight`` (chain); ``n_diverging`` (chain)
        where trajectories may diverge. Attributes: ``agreement``, a :class:`~ppl_hmm.schema.Agreement`, and
        ``summary``, in words. A constant has R̂ = 1; R̂ of too few draws, or of one chain's, is that of its halves.
    """
    names = list(quantities)
    values = np.stack([np.asarray(quantities[name], dtype=float) for name in names])  # (Q,C,D)
    n_chains, n_draws = values.shape[1:]
    rhat = np.array([_rhat(each) for each in values])
    modes = _modes(values) if n_draws >= FEWEST_DRAWS else np.zeros(n_chains, int)
    evidence = np.asarray(quantities[schema.LOG_EVIDENCE], dtype=float)
    means = np.array([evidence[modes == mode].mean() for mode in range(modes.max() + 1)])
    order = np.argsort(-means, kind="stable")
    modes, gaps = np.argsort(order)[modes], means[order[0]] - means[order]
    weights = _weights(modes, np.asarray(log_likelihood, dtype=float))
    by_quantity, by_chain = schema.QUANTITY, schema.CHAIN
    variables = {
        schema.RHAT: (by_quantity, rhat),
        schema.ESS_BULK: (by_quantity, np.array([_effective(each, "bulk") for each in values])),
        schema.ESS_TAIL: (by_quantity, np.array([_effective(each, "tail") for each in values])),
        schema.MODE_OF_CHAIN: (by_chain, modes),
        schema.EVIDENCE_GAP: (schema.MODE, gaps),
        schema.WEIGHT: (by_chain, weights),
    }
    if diverging is not None:
        variables[schema.N_DIVERGING] = (by_chain, np.asarray(diverging).sum(1))
    found = xr.Dataset(variables, {by_quantity: names, by_chain: np.arange(n_chains)})
    agreement = _agreement(rhat, len(gaps), n_draws)
    return found.assign_attrs(agreement=agreement.value, summary=_summary(agreement, found, n_draws))


def _agreement(rhat: np.ndarray, n_modes: int, n_draws: int) -> Agreement:
    if n_draws < FEWEST_DRAWS:
        return Agreement.UNKNOWN
    if n_modes > 1:
        return Agreement.MODES
    return Agreement.MIXED if (rhat <= AGREE).all() else Agreement.UNFINISHED


def _rhat(values: np.ndarray) -> float:
    """Return R̂ of draws (C,D): one of a constant, infinite of chains that are constant and differ."""
    if values.shape[1] < FEWEST_DRAWS:
        return np.inf
    spread = np.ptp(values, axis=1)
    if not spread.any():
        return 1.0 if np.ptp(values) == 0 else np.inf
    return float(np.asarray(array_stats.rhat(values)))


def _effective(values: np.ndarray, method: str) -> float:
    """Return the effective number of draws (C,D): all of a constant, none of chains that are constant and differ."""
    if values.shape[1] < FEWEST_DRAWS:
        return 0.0
    if not np.ptp(values, axis=1).any():
        return float(values.size) if np.ptp(values) == 0 else 0.0
    within = (0.05, 0.95) if method == "tail" else None
    return float(np.asarray(array_stats.ess(values, method=method, prob=within)))


def _modes(values: np.ndarray) -> np.ndarray:
    """Return the number of the mode of each chain, from draws (Q,C,D)."""
    n_chains = values.shape[1]
    near = np.eye(n_chains, dtype=bool)
    for one in range(n_chains):
        for other in range(one):
            near[one, other] = all(_rhat(each[[one, other]]) <= SAME_MODE for each in values)
    return connected_components(near, directed=False)[1]


def _weights(modes: np.ndarray, log_likelihood: np.ndarray) -> np.ndarray:
    """Return weights of chains (C,), those of each mode shared among its chains."""
    sizes = np.bincount(modes)
    if len(sizes) == 1:
        return np.full(len(modes), 1 / len(modes))
    log_predictive = np.stack([_left_out(log_likelihood[modes == mode]) for mode in range(len(sizes))], 1)
    return (_stacked(log_predictive) / sizes)[modes]


def _left_out(log_likelihood: np.ndarray) -> np.ndarray:
    """Return log p(x_b | x_{−b}) (B,) from S = C·D draws (C,D,B) given all texts.

    Their weights are 1/p(x_b | draw), none more than √S times the mean.
    """
    own = log_likelihood.reshape(-1, log_likelihood.shape[-1])
    n_draws = len(own)
    largest = logsumexp(-own, axis=0) - 0.5 * np.log(n_draws)  # log (mean weight · √S)
    log_weights = np.minimum(-own, largest)
    return logsumexp(log_weights + own, axis=0) - logsumexp(log_weights, axis=0)


def _stacked(log_predictive: np.ndarray) -> np.ndarray:
    """Return the weights (M,) on the simplex that maximise Σ_b log Σ_m w_m exp(log_predictive[b, m])."""
    shares = np.exp(log_predictive - log_predictive.max(1, keepdims=True))
    n_modes = shares.shape[1]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(shares @ weights, np.finfo(float).tiny)
        return -float(np.log(mixed).mean()), -(shares / mixed[:, None]).mean(0)

    simplex = LinearConstraint(np.ones(n_modes), 1, 1)
    start = np.full(n_modes, 1 / n_modes)
    found = minimize(loss, start, jac=True, bounds=[(0, 1)] * n_modes, constraints=[simplex], method="SLSQP").x
    return np.clip(found, 0, None) / np.clip(found, 0, None).sum()


def _summary(agreement: Agreement, found: xr.Dataset, n_draws: int) -> str:
    """Return in words whether the draws can be relied on, the answer first."""
    worst = int(found[schema.RHAT].values.argmax())
    where = f"R-hat of {found[schema.QUANTITY].values[worst]} is {found[schema.RHAT].values[worst]:.3f}"
    fewest = f"{found[schema.ESS_BULK].min().item():.0f}"
    sentences = {
        Agreement.MIXED: f"The chains agree: the largest R-hat is {found[schema.RHAT].max().item():.3f}, and the draws "
        f"are worth at least {fewest} independent ones.",
        Agreement.UNFINISHED: f"The chains do not agree yet: {where}, above {AGREE}. Draw more before relying on them.",
        Agreement.MODES: f"The chains stay in {found.sizes[schema.MODE]} different modes: {where}. "
        f"{_modes_in_words(found)}",
        Agreement.UNKNOWN: f"Nothing can be said of agreement from {n_draws} draws a chain: draw at least "
        f"{FEWEST_DRAWS}.",
    }
    said = sentences[agreement]
    n_diverging = int(found[schema.N_DIVERGING].sum()) if schema.N_DIVERGING in found else 0
    if n_diverging:
        said += f" {n_diverging} trajectories diverged: parts of the posterior may be missing."
    return said


def _modes_in_words(found: xr.Dataset) -> str:
    """Return chains, evidence and weight of each mode, and what the weights are."""
    modes = found[schema.MODE_OF_CHAIN].values
    parts = []
    for mode, gap in enumerate(found[schema.EVIDENCE_GAP].values):
        chains = np.flatnonzero(modes == mode)
        weight = found[schema.WEIGHT].values[chains].sum()
        behind = f"{gap:.1f} nats less evidence than the best" if mode else "the best evidence"
        which = "chain" if len(chains) == 1 else "chains"
        parts.append(f"mode {mode} ({which} {', '.join(map(str, chains))}): {behind}, weight {weight:.2f}")
    return (
        f"{'; '.join(parts)}. Weights are those by which the modes together predict texts that were left out best, not "
        "posterior probabilities: read each mode by itself before averaging."
    )
