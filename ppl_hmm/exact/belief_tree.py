"""All texts of a length with the beliefs that they leave, breadth first; and beliefs that lie in one cell of a grid.

A process is given by matrices T[x,s,s'] = P(x, s' | s) (:class:`ppl_hmm.MealyHMM`); a belief is a law of its state.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Where cells begin, as a share of their width: beliefs are often short fractions, and no such number is on an edge.
_OFFSET = (3 - math.sqrt(5)) / 2


class Texts(NamedTuple):
    """Texts of one length, in lexicographic order."""

    tokens: Int[Tensor, "N T"]
    log_probability: Float[Tensor, " N"]
    beliefs: Float[Tensor, "N S"]


def extended(beliefs: Float[Tensor, "N S"], matrices: Float[Tensor, "V S S"]) -> Float[Tensor, "N V S"]:
    """Return P(x, S_{t+1} | belief on S_t) for every next token x. Cost O(N·V·S²), as one matrix product."""
    n_tokens, n_states, _ = matrices.shape
    return (beliefs @ matrices.transpose(0, 1).reshape(n_states, -1)).reshape(-1, n_tokens, n_states)


def no_text(initial: Float[Tensor, " S"]) -> Texts:
    """Return the only text without tokens."""
    none = torch.zeros(1, 0, dtype=torch.int64, device=initial.device)
    return Texts(none, initial.new_zeros(1), initial[None])


def longer(texts: Texts, matrices: Float[Tensor, "V S S"], least: float) -> Texts:
    """Return what texts of one more token there are with log-probability above ``least``. Cost as :func:`extended`."""
    joint = extended(texts.beliefs, matrices)
    law = joint.sum(-1)
    log_probability = texts.log_probability[:, None] + law.log()
    text, token = (log_probability > least).nonzero(as_tuple=True)
    tokens = torch.cat([texts.tokens[text], token[:, None]], dim=-1)
    return Texts(tokens, log_probability[text, token], joint[text, token] / law[text, token, None])


def cells(beliefs: Float[Tensor, "N S"], width: float) -> Int[Tensor, " N"]:
    """Return the number 0, 1, … of the cell in which each belief lies, of a grid of that width in every coordinate.

    Beliefs that differ by rounding are in one cell: that an edge comes between them is as improbable as their
    difference is small beside the width. Cost O(S·N·log N).
    """
    places = (beliefs / width + _OFFSET).floor().long()
    numbers = torch.zeros_like(places[:, 0])
    for place in places.T[:-1]:  # the last coordinate follows from the others
        numbers = (numbers * (round(1 / width) + 2) + place).unique(return_inverse=True)[1]
    return numbers
