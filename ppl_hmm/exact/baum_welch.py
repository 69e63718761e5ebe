"""One iteration of Baum–Welch: expected counts of texts, and the laws that they make most likely.

The gradient of log P(x) times the parameter is the expected count of its use given x, so that one pass each way counts
everything: H₀ in the initial law, each move of the chain (the one from the silent H₀ too) in the transition, each
emitted token in its row of the table. Source: Baum, Petrie, Soules & Weiss (1970); Rabiner (1989), §III.C.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ppl_hmm.exact.backends.contract import Lengths
from ppl_hmm.exact.chain import evidence_and_gradient
from ppl_hmm.exact.recursion import Chain

Rows = Float[Tensor, "P ..."]

#: Shares of a law that become exact zeros, by precision. In float64 no text can tell; in float32 they are below the
#: rounding of the law's sum. Smaller ones would come near underflow, and every pass would turn to logarithms.
NEGLIGIBLE = {torch.float64: 1e-30, torch.float32: 1e-7}


class Counts(NamedTuple):
    """Expected numbers of uses of each parameter, given the texts; or the parameters themselves."""

    initial: Float[Tensor, "P K"]
    transition: Float[Tensor, "P K K"]
    emission: Float[Tensor, "P V K"]  # tokens first, as in a table of likelihood rows


def expected_counts(
    chain: Chain, weights: Float[Tensor, "P B"], lengths: Lengths, *, backend: str | None = None
) -> tuple[Float[Tensor, "P B"], Counts]:
    """Return log P(x_b) and the expected counts Σ_b weights_b E[uses | x_b]. Cost O(B·T·K²).

    Texts end at their lengths: neither rows nor moves after the end are counted.
    """
    log_evidence, gradient = evidence_and_gradient(chain, weights, lengths=lengths, backend=backend)
    # By a parameter of zero the derivative may be infinite; its count is zero all the same.
    counts = (torch.where(p > 0, p * by_p, 0) for p, by_p in zip(chain.parameters, gradient, strict=True))
    return log_evidence, Counts(*counts)


def most_likely_law(counts: Rows, otherwise: Rows, dim: int) -> Rows:
    """Return counts over their sum along ``dim``, shares below :data:`NEGLIGIBLE` as zeros; ``otherwise`` of none."""
    total = counts.sum(dim, keepdim=True)
    kept = torch.where(counts < NEGLIGIBLE[counts.dtype] * total, 0, counts)
    law, usable = kept / kept.sum(dim, keepdim=True), total > torch.finfo(counts.dtype).tiny
    return law if usable.all() else torch.where(usable, law, otherwise)
