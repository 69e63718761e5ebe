"""Formulas of the theorems written out, in NumPy alone: what tests of heads, prompts and masks hold the package to.

Conventions: H₀ is silent, rows of A and W are distributions, and X₁ is emitted after one transition.
"""

import numpy as np


def arrays(model):
    """π₀, A and W."""
    return model.initial.numpy(), model.transition.numpy(), model.emission.numpy()


def messages(model, texts):
    """f(x)_h = P(x | H₀=h): (B,K)."""
    _, transition, emission = arrays(model)
    result = np.ones((len(texts), model.n_states))
    for t in reversed(range(texts.shape[1])):
        result = (result * emission[:, texts[:, t]].T) @ transition.T
    return result


def entering(model, prompt=None):
    """q = π₀A diag(u_1) A ⋯ diag(u_L) A as it is written, then normalised: (K,)."""
    initial, transition, _ = arrays(model)
    law = initial @ transition
    for row in () if prompt is None else np.asarray(getattr(prompt, "rows", prompt)):
        law = (law * row) @ transition
    return law / law.sum()


def conditionals(model, texts, prompt=None):
    """G at a mask between prompt and texts: (B,V); zeros for an impossible context."""
    weights = entering(model, prompt) * messages(model, texts)
    total = weights.sum(1, keepdims=True)
    return (weights @ model.emission.numpy()) / np.where(total > 0, total, 1)


def margins(model, contrast, texts):
    """μᵀP(H₀|x), by Bayes: (B,)."""
    weights = model.initial.numpy() * messages(model, texts)
    return weights @ contrast / weights.sum(1)


def margin_error(model, contrast, law, weights):
    """max_h |Aᵀ(q∘Wb − π₀∘μ)|_h / (π₀A)_h; unbounded where (π₀A)_h = 0 and the error is not."""
    initial, transition, emission = arrays(model)
    first = initial @ transition
    error = (law * (emission @ weights) - initial * contrast) @ transition
    if np.abs(error[first == 0]).max(initial=0) > 1e-13 * (1 + np.abs(weights).sum() + np.abs(contrast).max()):
        return np.inf
    return (np.abs(error[first > 0]) / first[first > 0]).max()


def observability(model, n_masks, law):
    """R = [(A^{J−1})ᵀdiag(p_1)W | … | diag(p_J)W] (K,J·V), p_1 being the law that enters the first mask."""
    _, transition, emission = arrays(model)
    power = np.linalg.matrix_power
    return np.hstack(
        [
            power(transition, n_masks - j).T @ np.diag(law @ power(transition, j - 1)) @ emission
            for j in range(1, n_masks + 1)
        ]
    )


def filtered(model, texts):
    """α = P(H_T | x) of texts (B,T): (B,K); zeros for impossible ones."""
    initial, transition, emission = arrays(model)
    laws = np.tile(initial, (len(texts), 1))
    for t in range(np.shape(texts)[1]):
        laws = (laws @ transition) * emission[:, np.asarray(texts)[:, t]].T
        total = laws.sum(1, keepdims=True)
        laws = laws / np.where(total > 0, total, 1)
    return laws


def next_token(model, texts, rows=()):
    """g = P(X | x, u) ∝ (αᵀM AW) with M = A diag(u_1) ⋯ A diag(u_L), and P(u | x) = αᵀM1: (B,V) and (B,)."""
    _, transition, emission = arrays(model)
    laws = filtered(model, texts)
    for row in rows:
        laws = (laws @ transition) * np.asarray(row)
    total = laws.sum(1, keepdims=True)
    return laws @ transition @ emission / np.where(total > 0, total, 1), total[:, 0]
