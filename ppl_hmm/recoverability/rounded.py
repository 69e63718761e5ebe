"""The texts of a refutation in float64, where a sign counts that no rounding can change.

A leaf takes two products, D_α g = A (d∘t) with d = Σ_i α_i y_i f_i and t = Wg. The message f̂ is a sum of products of
positive numbers, so |f̂ − f| ≤ e·f entry by entry, with e of :func:`~ppl_hmm.exact.rounding.message_rounding`; then

    |d̂ − d| ≤ (e + (n+2)u) Σ_i α_i f_i,      |t̂ − t| ≤ (V+3)u W|g|,

and a term of D_α g is off by |d̂ − d|·|t̂| + (|d̂| + |d̂ − d|)·|t̂ − t|, and by K+4 roundings of its own.
"""

from __future__ import annotations

import dataclasses
from typing import Self

import numpy as np
import torch

from ppl_hmm.exact.messages import wide_messages
from ppl_hmm.exact.rounding import message_rounding
from ppl_hmm.exact.wide import Wide
from ppl_hmm.recoverability.claim import Claim
from ppl_hmm.recoverability.cones import Cone, rays, spreads

_EPS, _TINY = np.finfo(float).eps, np.finfo(float).tiny
# What is lost, at most, of an entry that is too small for a float.
_LOST = 2.0**-1074


@dataclasses.dataclass(frozen=True, eq=False)
class Rounded:
    """The texts of a claim in float64: an :class:`~ppl_hmm.recoverability.claim.Arithmetic`.

    Attributes
    ----------
    claim
        What is claimed of the texts.
    messages
        f (n,K), each text's times 2^exponent.
    possible
        Which entries (n,K) of f are positive, be they no floats.
    """

    claim: Claim
    messages: np.ndarray
    possible: np.ndarray

    @classmethod
    def of(cls, claim: Claim) -> Self:
        """Return the texts of a claim. Cost O(n·T·K²)."""
        model = claim.model
        wide = wide_messages(model.transition, model.emission, torch.from_numpy(claim.texts))
        exponents = torch.from_numpy(claim.exponents)[:, None]
        scaled = Wide(wide.mantissa, (wide.exponent + exponents).clamp(-(1 << 20), 1 << 20).int())
        return cls(claim, scaled.floats().numpy(), wide.positive.numpy())

    def joined(self, other: Self) -> Self:
        """Return these texts and others of the same model, these first."""
        each = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("messages", "possible")}
        return dataclasses.replace(self, claim=self.claim.joined(other.claim), **each)

    @property
    def rounding(self) -> float:
        """Bound the relative error of each entry of f."""
        return message_rounding(self.claim.texts.shape[1], self.claim.model.n_states)

    @np.errstate(all="ignore")
    def labelled(self) -> np.ndarray:
        """Say of which texts (n,) it is sure that their class leads every other one by more than τ."""
        weights, others = self.claim.contrasts
        initial = self.claim.model.initial.numpy()
        leads = initial * (weights[self.claim.labels][:, None] - weights)  # (n,C,K)
        messages, sizes = self.messages[:, None], np.abs(leads)
        share = self.rounding + (len(initial) + 6) * _EPS
        lead = (messages * leads).sum(-1) - share * (messages * sizes).sum(-1) - _LOST * sizes.sum(-1) - _TINY
        least = self.claim.tolerance * ((1 + share) * (self.messages @ initial) + _LOST)
        return ((lead > least[:, None]) | ~others).all(1)

    @np.errstate(all="ignore")
    def refuted(self, states: np.ndarray, weights: np.ndarray, cone: Cone) -> bool:
        """Say whether a leaf with weights (n,), not all zero, is surely right for prompts on states (K,)."""
        moves, emission = self.claim.model.transition.numpy(), self.claim.model.emission.numpy()
        n_states, n_tokens = emission.shape
        heads = rays(cone)
        sizes = weights @ self.messages
        balance = ((weights * self.claim.signs) @ self.messages)[:, None]
        share = self.rounding + (len(weights) + 2) * _EPS
        balance_error = (share * sizes + _LOST * weights.sum())[:, None]
        reads, reads_error = emission @ heads, (n_tokens + 3) * _EPS * (emission @ np.abs(heads))
        error = balance_error * np.abs(reads) + (np.abs(balance) + balance_error) * reads_error
        error += (n_states + 4) * _EPS * np.abs(balance * reads)
        highest = moves @ (balance * reads) + 1.01 * (moves @ error)
        share += (n_states + n_tokens + 10) * _EPS
        least = (1 - share) * (moves @ (sizes * emission.sum(1))) - 1.01 * _LOST * weights.sum()
        highest -= self.claim.margin * least[:, None] * spreads(cone)
        counts = states & ((moves > 0) @ self.possible[weights > 0].any(0))
        return bool(weights.any() and (highest[counts] < -_TINY).all())
