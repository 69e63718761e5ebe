"""Natural tasks: how well a small head on exact next-token laws classifies, and what that promises on a trained model.

A task with labels y_i = ±1 and laws g_i (V,) is (τ, B)-natural if some head v of ‖v‖_∞ ≤ B has hinge loss at most τ:

    τ(B) = min_{‖v‖_∞ ≤ B} ℓ(g, v),    ℓ(g, v) = mean_i max(0, 1 − y_i vᵀg_i),

which is at least the share of errors. Let ĝ be another model's laws and ε = mean_i KL(g_i‖ĝ_i), in nats. The hinge is
1-Lipschitz, |vᵀ(ĝ − g)| ≤ ‖v‖_∞‖ĝ − g‖₁, and by Pinsker's and Jensen's inequalities mean ‖ĝ_i − g_i‖₁ ≤ √(2ε). So
the same v has

    error(ĝ, v) ≤ ℓ(ĝ, v) ≤ τ + B√(2ε),                                                                           (1)

and the least right side over B is one linear programme. Where contexts of the loss have another law p_L than those of
the task, p_T, ε is the mean over p_L and 2ε becomes 2ε/γ, γ = sup{g ≤ 1 : p_L ≥ g·p_T}: at the position that heads
read γ = 1, and for the mean over the n + 1 prefixes of a text γ = 1/(n+1).

For a model ĝ = softmax(Φᵀf + β) with a fixed last layer Φ (d,V), let v = Φᵀλ be in the row space of Φ, and ε_Φ the
excess of the loss of f over the best features for this layer, mean_i [ℓ_i(f_i) − inf_θ ℓ_i(θ)], where
ℓ_i(θ) = −Σ_w g_i(w) log softmax(Φᵀθ + β)_w. Along λ its slope at f is vᵀ(ĝ_i − g_i) and its curvature a variance of v,
at most ‖v‖_∞²; so a step along λ shows that (vᵀ(ĝ_i − g_i))² ≤ 2‖v‖_∞²[ℓ_i(f_i) − inf_θ ℓ_i(θ)], and

    error(Φĝ, λ) ≤ ℓ(ĝ, Φᵀλ) ≤ τ_Φ + B√(2ε_Φ),                                                                    (2)

with τ_Φ the least loss of such heads on the exact laws: d-dimensional *conditional means* Φĝ do what all of ĝ does.
The same of a model that is trained on a quadratic loss is (3) of :mod:`ppl_hmm.recoverability.natural_quadratic`.

Source: Saunshi, Malladi & Arora (2021), arXiv 2010.03648, §3 and §4: natural tasks, and the theorems on p_f, (1), and
on Φp_f, (2). They are stated for a loss that is 1-Lipschitz; the programmes are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

from ppl_hmm.base.quiet import stdout_to_stderr
from ppl_hmm.errors import PplHmmError, within

#: Of the size of a head, in hinge loss.
LARGEST_PRICE = float(np.finfo(float).max)


class NaturalHead(NamedTuple):
    """A head v = Φᵀλ and what it has on exact laws."""

    weights: np.ndarray  # v (V,)
    size: float  # B, in the norm that its theorem charges: ‖v‖_∞ in (1) and (2), ‖v‖₂ in (3)
    loss: float  # τ = ℓ(g, v)

    def bound(self, price: float) -> float:
        """Return τ + B·price, at least the hinge loss on laws that are ``price`` away: :func:`distance`."""
        return self.loss + price * self.size


def distance(excess: float, share: float = 1.0) -> float:
    """Return √(2ε/γ), at least the mean ‖ĝ − g‖₁ over the task's texts."""
    return float(np.sqrt(2 * excess / share))


def natural_head(
    laws: np.ndarray,
    labels: np.ndarray,
    *,
    price: float = 0.0,
    largest: float = np.inf,
    layer: np.ndarray | None = None,
) -> NaturalHead:
    """Return the head of least ℓ(g, v) + price·‖v‖_∞ among those with ‖v‖_∞ ≤ ``largest``.

    With ``price`` = √(2ε/γ) its bound is the least right side of (1) or (2); with a ``largest`` alone its loss is τ(B).

    Parameters
    ----------
    laws, labels
        g (N,V), and classes 0 or 1 (N,).
    price, largest
        Of ‖v‖_∞.
    layer
        Φ (d,V): v = Φᵀλ. By default every v.

    Raises
    ------
    InvalidInput
        A price that is negative or not finite.
    PplHmmError
        The solver found no optimum.

    Notes
    -----
    Solved as the dual programme, which has fewer rows: maximise Σ_i a_i − largest·t over 0 ≤ a_i ≤ 1/N and t ≥ 0,
    subject to Σ_i a_i y_i Φg_i = Φq and ‖q‖₁ ≤ price + t; λ is the multiplier of the equations. Size and loss are those
    of the head that is returned, whatever the solver's tolerance: its bound holds in any case.
    """
    price = within("price", price, 0.0, LARGEST_PRICE)
    n_texts, n_tokens = laws.shape
    layer = np.eye(n_tokens) if layer is None else layer
    unit = np.abs(layer).max()
    forms = (2.0 * labels - 1)[:, None] * (laws @ layer.T) / unit
    capped = np.isfinite(largest)
    with stdout_to_stderr():
        programme = linprog(
            c=np.r_[-np.ones(n_texts), np.zeros(2 * n_tokens), largest if capped else 0.0],
            A_eq=np.hstack([forms.T, -layer / unit, layer / unit, np.zeros((len(layer), 1))]),
            b_eq=np.zeros(len(layer)),
            A_ub=np.r_[np.zeros(n_texts), np.ones(2 * n_tokens), -1.0][None],
            b_ub=[price],
            bounds=[(0, 1 / n_texts)] * n_texts + [(0, None)] * (2 * n_tokens) + [(0, None if capped else 0)],
            method="highs",
        )
    if programme.x is None:
        raise PplHmmError("programme of a natural task", "an optimum", programme.message, "rescale the layer")
    weights = -programme.eqlin.marginals @ layer / unit
    return NaturalHead(weights, float(np.abs(weights).max()), hinge_loss(laws, labels, weights))


def hinge_loss(laws: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Return ℓ(g, v) of laws (N,V), classes 0 or 1 (N,) and a head (V,)."""
    return float(np.maximum(0, 1 - (2.0 * labels - 1) * (laws @ weights)).mean())


def error(laws: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Return the share of texts that a head (V,) puts into the wrong class; ties go to the higher one."""
    return float(np.mean((laws @ weights >= 0) != (labels == 1)))
