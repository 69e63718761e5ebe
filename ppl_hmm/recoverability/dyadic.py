"""The texts of a refutation in exact arithmetic, on floats taken as they are.

A float is a whole number times a power of two, and so are products and sums of floats: whole numbers of Python, with
one exponent for an array, do what fractions would do without looking for common divisors.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Self

import numpy as np

from ppl_hmm.recoverability.cones import Cone, spread
from ppl_hmm.recoverability.claim import Claim

_DIGITS = 53  # of a float


class Dyadic(NamedTuple):
    """An array of whole numbers times 2^exponent."""

    numbers: np.ndarray  # of Python's integers
    exponent: int

    @classmethod
    def of(cls, floats: np.ndarray) -> Dyadic:
        """Return finite floats."""
        mantissas, exponents = np.frexp(floats)
        exponent = int(exponents.min(initial=0, where=floats != 0)) - _DIGITS
        whole = np.ldexp(mantissas, _DIGITS).astype(np.int64).astype(object)
        return cls(whole << np.where(floats != 0, exponents - _DIGITS - exponent, 0).astype(object), exponent)

    def at(self, exponent: int) -> np.ndarray:
        """Return the numbers at an exponent that is no larger."""
        return self.numbers << (self.exponent - exponent)


@dataclasses.dataclass(frozen=True, eq=False)
class Exact:
    """The texts of a claim in whole numbers: an :class:`~ppl_hmm.recoverability.claim.Arithmetic`.

    Attributes
    ----------
    claim
        What is claimed of the texts.
    messages
        f (n,K), each text's times 2^exponent; all in one unit, which is a power of two.
    """

    claim: Claim
    messages: np.ndarray
    transition: Dyadic
    emission: Dyadic

    @classmethod
    def of(cls, claim: Claim) -> Self:
        """Return the texts of a claim. Cost O(n·T·K²) products of integers of O(T) words."""
        transition, emission = (Dyadic.of(each.numpy()) for each in (claim.model.transition, claim.model.emission))
        each = [_message(text, transition, emission) for text in claim.texts]
        each = [
            Dyadic(numbers, exponent + int(more))
            for (numbers, exponent), more in zip(each, claim.exponents, strict=True)
        ]
        unit = min((message.exponent for message in each), default=0)
        return cls(claim, np.array([message.at(unit) for message in each], object), transition, emission)

    def labelled(self) -> np.ndarray:
        """Say of which texts (n,) the class leads every other one by more than τ."""
        weights, others = self.claim.contrasts
        weights, (initial, _) = Dyadic.of(weights), Dyadic.of(self.claim.model.initial.numpy())
        tolerance = Dyadic.of(np.array(self.claim.tolerance))
        unit = min(weights.exponent, tolerance.exponent)
        scores = (self.messages * initial) @ weights.at(unit).T  # (n,C)
        own = np.take_along_axis(scores, self.claim.labels[:, None], 1)
        least = tolerance.at(unit) * (self.messages @ initial)
        return ((own - scores > least[:, None]) | ~others).all(1)

    def refuted(self, states: np.ndarray, weights: np.ndarray, cone: Cone) -> bool:
        """Say whether a leaf with weights (n,), not all zero, is right for prompts on states (K,)."""
        used = weights > 0
        if not used.any():
            return False
        messages = Dyadic.of(weights[used]).numbers[:, None] * self.messages[used]
        signs = self.claim.signs[used].astype(int).astype(object)
        margin = Dyadic.of(np.array(self.claim.margin))
        unit = min(margin.exponent, 0)
        moves, emission = self.transition.numbers, self.emission.numbers
        sums, balance, total = messages.sum(0), signs @ messages, emission.sum(1)
        counts = states & (moves @ sums > 0)
        for head in cone:
            reads = balance * (emission @ np.array(head, object)) << -unit
            allowed = margin.at(unit) * spread(head) * sums * total
            if (moves[counts] @ (reads - allowed) >= 0).any():
                return False
        return True


def _message(text: np.ndarray, transition: Dyadic, emission: Dyadic) -> Dyadic:
    """Return f (K,) of one text (T,)."""
    message, exponent = np.ones(len(transition.numbers), object), 0
    for token in text[::-1]:
        if token >= 0:
            message, exponent = emission.numbers[:, token] * message, exponent + emission.exponent
        message, exponent = transition.numbers @ message, exponent + transition.exponent
    return Dyadic(message, exponent)
