"""Five algebras for one recursion.

A *law* is a weight for each state, (…,K), in the representation of its algebra. The chain's recursions need four
operations: write a probability in the algebra, move a law through the transition (either way), weigh it by a
likelihood, and normalise it.

- :data:`SCALED`: plain probabilities, rescaled at every step: matrix products, the fast route. Small entries may
  underflow; :mod:`ppl_hmm.exact.underflow` says when, before it happens.
- :data:`LINEAR`: the same where totals are constants to torch's tape: the derivative passes through the law alone, so
  that it does not get lost where the law's weights are exactly zero.
- :data:`REDUCED`: as :data:`SCALED` with products in bfloat16: faster where the states are many and bfloat16
  has hardware.
- :data:`LOG`: logarithms: slower by an order of magnitude, and free of underflow whatever the parameters.
- :data:`MAXIMUM`: logarithms with sum replaced by maximum: best paths in place of total probability.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Law = Float[Tensor, "P #B K"]  # one row stands for all sequences before the first token is seen
Anything = Float[Tensor, "..."]
Matrix = Float[Tensor, "P K J"]
Weight = Float[Tensor, "P #B 1"]


@runtime_checkable
class Algebra(Protocol):
    """What a recursion over a chain needs."""

    underflows: bool  # may a positive weight be too small for a float?

    def represent(self, probability: Tensor) -> Tensor:
        """Write probabilities or likelihoods in this algebra."""
        ...

    def represent_moves(self, transition: Matrix) -> Matrix:
        """Write a transition as :meth:`advance` reads it."""
        ...

    def advance(self, law: Law, matrix: Matrix) -> Law:
        """Combine over the states of ``law``: law'[j] = ⊕_k law[k] ⊗ matrix[k,j]."""
        ...

    def weigh(self, law: Anything, likelihood: Anything) -> Anything:
        """Multiply state by state."""
        ...

    def normalise(self, law: Law) -> tuple[Law, Weight]:
        """Return the law divided by its total, and the total; an impossible law stays as it is."""
        ...

    def logarithm(self, weight: Tensor) -> Tensor:
        """Return the logarithms of weights, −inf for none."""
        ...

    def probabilities(self, law: Law) -> Law:
        """Return a normalised law as probabilities (zeros stay zeros)."""
        ...


def safe_log(probability: Tensor) -> Tensor:
    """Logarithm with −inf at zero and a finite gradient there."""
    positive = probability > 0
    return torch.where(positive, torch.where(positive, probability, 1).log(), -torch.inf)


class _Scaled:
    underflows = True

    def represent(self, probability: Tensor) -> Tensor:
        return probability

    def represent_moves(self, transition: Matrix) -> Matrix:
        return transition

    def advance(self, law: Law, matrix: Matrix) -> Law:
        return torch.matmul(law, matrix)

    def weigh(self, law: Anything, likelihood: Anything) -> Anything:
        return law * likelihood

    def normalise(self, law: Law) -> tuple[Law, Weight]:
        total = law.sum(-1, keepdim=True)
        return law / torch.where(total > 0, total, 1), total

    def logarithm(self, weight: Tensor) -> Tensor:
        return safe_log(weight)

    def probabilities(self, law: Law) -> Law:
        return law


class _Reduced(_Scaled):
    def represent_moves(self, transition: Matrix) -> Matrix:
        return transition.bfloat16()

    def advance(self, law: Law, matrix: Matrix) -> Law:
        # One by one: in a batch a transposed matrix would be multiplied without the hardware's instructions.
        return torch.stack([one.bfloat16() @ each for one, each in zip(law, matrix, strict=True)]).to(law.dtype)


class _Linear(_Scaled):
    def normalise(self, law: Law) -> tuple[Law, Weight]:
        total = law.detach().sum(-1, keepdim=True)
        return law / torch.where(total > 0, total, 1), total


class _Logarithmic:
    underflows = False

    def represent(self, probability: Tensor) -> Tensor:
        return safe_log(probability)

    def represent_moves(self, transition: Matrix) -> Matrix:
        return safe_log(transition)

    def weigh(self, law: Anything, likelihood: Anything) -> Anything:
        return law + likelihood

    def logarithm(self, weight: Tensor) -> Tensor:
        return weight

    def probabilities(self, law: Law) -> Law:
        return law.exp()

    def _subtract(self, law: Law, total: Weight) -> tuple[Law, Weight]:
        return law - torch.where(total > -torch.inf, total, 0), total


class _Log(_Logarithmic):
    def advance(self, law: Law, matrix: Matrix) -> Law:
        return log_sum_exp(law[..., :, None] + matrix[:, None], dim=-2)

    def normalise(self, law: Law) -> tuple[Law, Weight]:
        return self._subtract(law, log_sum_exp(law, dim=-1, keepdim=True))


class _Maximum(_Logarithmic):
    def advance(self, law: Law, matrix: Matrix) -> Law:
        return (law[..., :, None] + matrix[:, None]).amax(-2)

    def normalise(self, law: Law) -> tuple[Law, Weight]:
        return self._subtract(law, law.amax(-1, keepdim=True))


def log_sum_exp(values: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    """Return log Σ exp(values) along ``dim``; where all are −inf it is −inf, with gradient zero (not torch's NaN)."""
    top = values.detach().amax(dim, keepdim=True).clamp(min=torch.finfo(values.dtype).min)
    total = (values - top).exp().sum(dim, keepdim=True)
    result = safe_log(total) + torch.where(total > 0, top, 0)
    return result if keepdim else result.squeeze(dim)


SCALED: Algebra = _Scaled()
LINEAR: Algebra = _Linear()
REDUCED: Algebra = _Reduced()
LOG: Algebra = _Log()
MAXIMUM: Algebra = _Maximum()
