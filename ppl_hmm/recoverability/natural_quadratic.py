"""Natural tasks on the features of a quadratic loss: what a small excess promises of them.

A language model with features f, a last layer Φ (d,V) and offsets β scores the next word by s = Φᵀf + β. Its loss is

    ℓ_i(θ) = −E_{w∼g_i} s_w + ½‖s‖² = ½‖s − g_i‖² − ½‖g_i‖²,    s = Φᵀθ + β,

so that scores estimate the laws g_i (V,) by least squares. Let Π be the projection on the row space of Φ. Scores differ
from β by a vector of that space; the best ones for this layer are therefore β + Π(g_i − β), from which s_i differs by
Π(s_i − g_i), and by Pythagoras' theorem the excess of f over the best features for Φ is

    ε_Φ = mean_i [ℓ_i(f_i) − inf_θ ℓ_i(θ)] = ½ mean_i ‖Π(s_i − g_i)‖².

A head v = Φᵀλ in the row space has vᵀ(s_i − g_i) = vᵀΠ(s_i − g_i). By the inequalities of Cauchy-Schwarz and Jensen
mean |vᵀ(s_i − g_i)| ≤ ‖v‖₂√(2ε_Φ), and as the hinge is 1-Lipschitz,

    error(s, v) ≤ ℓ(s, v) ≤ τ + B√(2ε_Φ),    τ = ℓ(g, v), B = ‖v‖₂,                                               (3)

with ℓ(·, v) the hinge loss of :mod:`ppl_hmm.recoverability.natural`, and 2ε_Φ/γ in place of 2ε_Φ where contexts of the
loss have another law. As vᵀs = (Φv)ᵀf + vᵀβ, the head is one on the *features* with an intercept: where cross-entropy
promises linear heads on conditional means Φĝ, the quadratic loss promises them on f itself.

- The constant is sharp. If no margin y_i vᵀg_i exceeds one, s_i = β + Π(g_i − β) − y_i√(2ε_Φ)·v/‖v‖₂ attains (3).
- Sizes are Euclidean as the loss is, and ε_Φ is a square of probabilities, not nats. With ‖v‖_∞ as B the bound would
  have a further factor √V, which v = ±B needs.
- ε_Φ is the excess over the best *features*. The distance of the scores from the laws, ½ mean ‖s_i − g_i‖², is larger
  by ½ mean ‖(1 − Π)(g_i − β)‖², which no features can change: a bound by it holds, but does not end at τ.
- Tasks that only heads outside the row space solve are promised nothing: texts with the same Πg_i have the same best
  features, whatever their labels.

Source: Saunshi, Malladi & Arora (2021), arXiv 2010.03648, §5, for the loss and an error of O(√ε); statement, constant
and programme are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import orth
from scipy.special import expit

from ppl_hmm.errors import within
from ppl_hmm.recoverability.natural import LARGEST_PRICE, NaturalHead, hinge_loss

_SHARPNESSES = 10.0 ** np.arange(9)
_NEWTON_STEPS, _HALVINGS = 100, 60
_CENTRED = 0.1  # the squared Newton decrement that ends the search for one sharpness


def quadratic_excess(laws: np.ndarray, scores: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Return ℓ_i(f_i) − inf_θ ℓ_i(θ) = ½‖Π(s_i − g_i)‖² (N,) of laws g (N,V), scores s (N,V) and a layer Φ (d,V)."""
    return 0.5 * np.square((scores - laws) @ orth(layer.T)).sum(-1)


def quadratic_head(laws: np.ndarray, labels: np.ndarray, *, price: float, layer: np.ndarray) -> NaturalHead:
    """Return the head v = Φᵀλ of least ℓ(g, v) + price·‖v‖₂, whose ``size`` is ‖v‖₂.

    With ``price`` = √(2ε_Φ/γ) its bound is the least right side of (3), to 3e-8.

    Parameters
    ----------
    laws, labels
        g (N,V), and classes 0 or 1 (N,).
    price
        Of ‖v‖₂, above zero. Below 1e-6 the bound holds, but another head may have a lower one.
    layer
        Φ (d,V).

    Raises
    ------
    InvalidInput
        A price that is negative or not finite.

    Notes
    -----
    A second-order cone programme, solved by an interior point method. Let the columns of Q (V,r) be an orthonormal
    basis of the span of all Πg_i, outside of which a head gains nothing, v = Qa and z_i = y_i Qᵀg_i. With slacks
    ξ_i ≥ max(0, 1 − aᵀz_i) and t ≥ ‖a‖₂, Newton steps minimise the barrier function

        κ(Σ_i ξ_i + N·price·t) − Σ_i log ξ_i − Σ_i log(ξ_i − 1 + aᵀz_i) − log(t² − ‖a‖²)

    for sharpnesses κ = 1, 10, …, 10⁸. The best ξ and t for an a are known in closed form, so that the steps are of a
    alone. The bound is within (2 + 2/N)/κ of the least. Loss and size are those of the head that is returned: its bound
    holds in any case. Cost O(steps·N·r²), some fifty steps.
    """
    price = within("price", price, 0.0, LARGEST_PRICE)
    basis = orth(layer.T)
    basis = basis @ orth((laws @ basis).T)
    forms = (2.0 * labels - 1)[:, None] * (laws @ basis)
    head = np.zeros(basis.shape[1])
    for sharpness in _SHARPNESSES:
        head = _centred(_Barrier(forms, price, sharpness), head)
    weights = basis @ head
    return NaturalHead(weights, float(np.linalg.norm(weights)), hinge_loss(laws, labels, weights))


class _Barrier(NamedTuple):
    """The barrier function of a (r,), slacks and t at their best."""

    forms: np.ndarray  # z (N,r)
    price: float
    sharpness: float  # κ

    def value(self, head: np.ndarray) -> float:
        short, _, root = self._at(head)
        return float((np.exp(np.arcsinh(short / 2)) - np.log(2 + np.hypot(short, 2))).sum() + root - np.log1p(root))

    def slope_and_curvature(self, head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        short, price, root = self._at(head)
        multipliers = expit(np.arcsinh(short / 2))  # of the constraints ξ_i ≥ 1 − aᵀz_i
        bend = multipliers * (1 - multipliers) / np.hypot(short, 2)
        pull = price**2 / (1 + root)
        of_size = np.eye(len(head)) - np.outer(head, head) * pull / root
        slope = pull * head - self.sharpness * multipliers @ self.forms
        return slope, self.sharpness**2 * (self.forms.T * bend) @ self.forms + pull * of_size

    def _at(self, head: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Return κ(1 − aᵀz) (N,), p = κN·price, and √(1 + p²‖a‖²), which is pt − 1."""
        price = self.sharpness * len(self.forms) * self.price
        return self.sharpness * (1 - self.forms @ head), price, float(np.hypot(1, price * np.linalg.norm(head)))


def _centred(barrier: _Barrier, head: np.ndarray) -> np.ndarray:
    """Return the least of a barrier function by Newton steps, each halved until it gains."""
    for _ in range(_NEWTON_STEPS):
        slope, curvature = barrier.slope_and_curvature(head)
        step, *_ = np.linalg.lstsq(curvature, slope)
        gain, value = float(step @ slope), barrier.value(head)
        if gain < _CENTRED:
            break
        for size in 0.5 ** np.arange(_HALVINGS):
            if barrier.value(head - size * step) <= value - 0.25 * size * gain:
                head = head - size * step
                break
        else:  # no step gains: rounding hides what is left
            break
    return head
