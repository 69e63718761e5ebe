"""What a backend of exact inference promises: a few passes over a chain, and which results not to trust.

A chain is as in :mod:`ppl_hmm.exact.recursion`: P models, B sequences of T row numbers, K states, R likelihood rows.
A backend may lose small weights to underflow, but never silently: each pass also says, in ``lost`` (P,B), which
sequences came near it. Those are for the caller to compute again in logarithms; what a pass returns for them is
arbitrary. Zeros of the other sequences are exact zeros. Nothing here is differentiable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ppl_hmm.exact.path_counts import PathCounts
from ppl_hmm.exact.recursion import Chain

Lost = Bool[Tensor, "P B"]
Lengths = Int[Tensor, "P B"]
Paths = Int[Tensor, "P B D S"]  # D paths h₀..h_T of each sequence, S = T+1


class ForwardBackward(NamedTuple):
    """What one forward-backward pass returns. ``marginals`` are zero rows where their condition is impossible."""

    log_evidence: Float[Tensor, "P B"]  # log P(x), natural logarithm; −inf for impossible text
    initial: Float[Tensor, "P B K"]  # P(H₀ | x)
    marginals: Float[Tensor, "P B N K"]  # P(H_t | x), or the cavity P(H_t | x_{-t})
    log_contexts: Float[Tensor, "P B N"] | None  # log P(x_{-t}), with cavities


class Filtered(NamedTuple):
    """What one pass from left to right returns, after the rows up to each of N positions.

    From the first row on that leaves the text impossible, ``filtered`` is a row of zeros and ``log_prefix`` −inf.
    """

    filtered: Float[Tensor, "P B N K"]  # P(H_t | rows up to t)
    log_prefix: Float[Tensor, "P B N"]  # log P(rows up to t), natural logarithm


class Messages(NamedTuple):
    """Backward messages after N rows: P(rows after t | H_t=h) = message_t(h) · exp(log_scale_t)."""

    messages: Float[Tensor, "P B N K"]  # normalised; the one after the last row is one for each state
    log_scales: Float[Tensor, "P B N"]


class Gradient(NamedTuple):
    """Σ_b weight_b · ∂ log P(x_b) / ∂ parameter, summed over the sequences of each model.

    Times the parameter, these are the expected counts of its use.
    """

    initial: Float[Tensor, "P K"]
    transition: Float[Tensor, "P K K"]
    table: Float[Tensor, "P R K"]


@runtime_checkable
class Backend(Protocol):
    """A way to compute the passes. All cost O(B·T·K²) time; none stores likelihoods of shape (B,T,K)."""

    def evidence(self, chain: Chain) -> tuple[Float[Tensor, "P B"], Lost]:
        """Return log P(x); memory O(B·K)."""
        ...

    def smooth(self, chain: Chain, positions: Sequence[int], own_token: bool) -> tuple[ForwardBackward, Lost]:
        """Return marginals at ``positions`` (0-based, all different), or cavities; memory that of the result."""
        ...

    def filter(self, chain: Chain, positions: Sequence[int]) -> tuple[Filtered, Lost]:
        """Return laws of the state given the rows up to ``positions``; memory that of the result.

        Positions are 0-based row numbers, all different, in any order; −1 is H₀, before any row. Rows past the last
        position change nothing and may be left out.
        """
        ...

    def messages(self, chain: Chain, positions: Sequence[int]) -> tuple[Messages, Lost]:
        """Return backward messages after rows ``positions`` (0-based; −1 is f), in that order."""
        ...

    def gradient(
        self, chain: Chain, weights: Float[Tensor, "P B"], lengths: Lengths | None = None
    ) -> tuple[Gradient, Float[Tensor, "P B"], Lost]:
        """Return the weighted gradient, and log P(x), by one pass each way.

        Sequences of weight zero add nothing and are never lost; their log P(x) is arbitrary. Where any sequence is
        lost, the whole sum is arbitrary. A text with a length ends there, and must have the mask's row of ones from
        there on: what comes after the end is not counted.
        """
        ...

    def best_path(self, chain: Chain) -> Paths:
        """Return the path that maximises P(h₀..h_T, x), ties to the lowest state; nothing is ever lost."""
        ...

    def sample_paths(self, chain: Chain, n_draws: int, generator: torch.Generator) -> tuple[Paths, Lost]:
        """Return draws from P(H₀..H_T | x) by inverse transform of uniforms (P,B,D,1), drawn for H₀, H₁, … in turn."""
        ...

    def path_counts(
        self, chain: Chain, lengths: Lengths, generator: torch.Generator
    ) -> tuple[Float[Tensor, "P B"], PathCounts, Lost]:
        """Return log P(x), and the counts of the paths that :meth:`sample_paths` draws, one for each text.

        Paths of lost sequences are not counted. Texts end at their lengths, as in :meth:`gradient`.
        """
        ...
