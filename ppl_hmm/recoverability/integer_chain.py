"""A model, and the prompt in front of its masks, as integers: exact messages, labels and features of text.

Every array is its floats over a unit that all its entries share, rows of laws completed to one exactly:
:func:`~ppl_hmm.recoverability.rationals.laws`. Units change neither the sign of a margin or a score nor the direction
of G, so that most results leave them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple, Self

import numpy as np

from ppl_hmm.base.tokens import MASK
from ppl_hmm.inference.rows import model_prompt
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Prompt
from ppl_hmm.recoverability.rationals import integers, laws


def integer_message(transition: np.ndarray, emission: np.ndarray, text: Sequence[int]) -> np.ndarray:
    """Return f (K,) of a text by A (K,K) and W (K,V) in integers: its unit is theirs, once for each step and token.

    Cost O(T·K²) products of up to O(T) words.
    """
    message = np.full(len(transition), 1, object)
    for token in reversed(text):
        message = transition @ (message if token == MASK else emission[:, token] * message)
    return message


class IntegerChain(NamedTuple):
    """π₀, A, W and the law p_1 that enters the first mask, in integers.

    Attributes
    ----------
    initial, transition, emission, law
        (K,), (K,K), (K,V), (K,): true values are these times the units.
    units
        Of the four, in this order. The law of a state after the prompt is divided by its sum before it moves on.
    """

    initial: np.ndarray
    transition: np.ndarray
    emission: np.ndarray
    law: np.ndarray
    units: tuple[Fraction, Fraction, Fraction, Fraction]

    @classmethod
    def of(cls, model: HMM, prompt: Prompt | None = None) -> Self:
        """Return the integers of one model of float64, and of a prompt. Cost O(K²) products for each prompt token."""
        (initial, of_initial), (transition, of_transition), (emission, of_emission) = (
            laws(array.detach().cpu().numpy()) for array in (model.initial, model.transition, model.emission)
        )
        law, unit = initial, Fraction(1, 1 << of_initial)
        if prompt is not None:
            for row in model_prompt(model, prompt).detach().cpu().numpy():
                law = (law @ transition) * integers(row)[0]
            unit = Fraction(1, int(law.sum()) or 1)
        units = (Fraction(1, 1 << of_initial), Fraction(1, 1 << of_transition), Fraction(1, 1 << of_emission))
        return cls(initial, transition, emission, law @ transition, (*units, unit * units[1]))

    def message(self, text: Sequence[int]) -> np.ndarray:
        """Return f (K,) of a text, up to a unit."""
        return integer_message(self.transition, self.emission, text)

    def observability(self, n_masks: int) -> np.ndarray:
        """Return R (K,J·V), whose unit is that of the law times A's to the power J−1 times W's."""
        law, blocks = self.law, []
        for _ in range(n_masks):
            blocks = [self.transition.T @ block for block in blocks]
            blocks.append(law[:, None] * self.emission)
            law = law @ self.transition
        return np.hstack(blocks)
