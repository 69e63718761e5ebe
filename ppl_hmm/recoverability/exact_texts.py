"""The texts of a refutation in exact arithmetic: floats as they are, which are integers over powers of two."""

from __future__ import annotations

import dataclasses
from typing import Self

import numpy as np

from ppl_hmm.base.tokens import MASK
from ppl_hmm.recoverability.claim import Claim
from ppl_hmm.recoverability.cones import Cone, spread
from ppl_hmm.recoverability.integer_chain import integer_message
from ppl_hmm.recoverability.rationals import integers


@dataclasses.dataclass(frozen=True, eq=False)
class ExactTexts:
    """The texts of a claim in integers: an :class:`~ppl_hmm.recoverability.claim.Arithmetic`.

    Attributes
    ----------
    claim
        What is claimed of the texts.
    messages
        f (n,K), each text's times 2^exponent; all over one power of two.
    transition, emission
        A (K,K) and W (K,V), each over a power of two.
    """

    claim: Claim
    messages: np.ndarray
    transition: np.ndarray
    emission: np.ndarray

    @classmethod
    def of(cls, claim: Claim) -> Self:
        """Return the texts of a claim. Cost O(n·T·K²) products of integers of O(T) words."""
        (transition, of_transition), (emission, of_emission) = (
            integers(array.numpy()) for array in (claim.model.transition, claim.model.emission)
        )
        exponents = claim.exponents - claim.texts.shape[1] * of_transition - (claim.texts != MASK).sum(1) * of_emission
        messages = [integer_message(transition, emission, text) for text in claim.texts.tolist()]
        shifts = (exponents - exponents.min(initial=0)).astype(object)
        shape = len(claim.texts), len(transition)
        return cls(claim, np.array(messages, object).reshape(shape) << shifts[:, None], transition, emission)

    def labelled(self) -> np.ndarray:
        """Say of which texts (n,) the class leads every other one by more than τ."""
        weights, others = self.claim.contrasts
        (weights, of_weights), (initial, _) = integers(weights), integers(self.claim.model.initial.numpy())
        tolerance, of_tolerance = integers(self.claim.tolerance)
        scores = (self.messages * initial) @ (weights << of_tolerance).T  # (n,C)
        own = np.take_along_axis(scores, self.claim.labels[:, None], 1)
        least = (self.messages @ initial) * (int(tolerance) << of_weights)
        leads = np.array(own - scores > least[:, None], bool)
        return np.all(leads | ~others, axis=1)

    def refuted(self, states: np.ndarray, weights: np.ndarray, cone: Cone) -> bool:
        """Say whether a leaf with weights (n,), not all zero, is right for prompts on states (K,)."""
        used = weights > 0
        if not used.any():
            return False
        messages = integers(weights[used])[0][:, None] * self.messages[used]
        signs = self.claim.signs[used].astype(int).astype(object)
        margin, of_margin = integers(self.claim.margin)
        sums, balance = messages.sum(0), signs @ messages
        counts = states & (self.transition @ sums > 0)
        for head in cone:
            reads = balance * (self.emission @ np.array(head, object)) << of_margin
            allowed = int(margin) * spread(head) * sums * self.emission.sum(1)
            if (self.transition[counts] @ (reads - allowed) >= 0).any():
                return False
        return True
