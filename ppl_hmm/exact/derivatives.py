"""log P(x) as a differentiable function: the gradient in closed form, further derivatives by torch's tape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Evidence(Protocol):
    """The log-evidence (P,B) of texts, as a function of some parameters."""

    def value(self, *parameters: Tensor) -> Tensor:
        """Return log P(x), −inf for impossible text."""
        ...

    def gradient(self, weights: Tensor, *parameters: Tensor) -> Sequence[Tensor]:
        """Return Σ_b weights_b · ∂ log P(x_b) by each parameter; weights are zero for impossible text."""
        ...

    def tape(self, *parameters: Tensor) -> Tensor:
        """Return log P(x) by operations that torch can differentiate as often as asked."""
        ...


def differentiable(evidence: Evidence, *parameters: Tensor) -> Tensor:
    """Return log P(x) (P,B), whose gradient needs no tape; impossible text has gradient zero."""
    return _Value.apply(evidence, *parameters)


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, evidence: Evidence, *parameters: Tensor) -> Tensor:
        value = evidence.value(*parameters)
        ctx.evidence = evidence
        ctx.save_for_backward(*parameters, value > -torch.inf)
        return value

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        *parameters, possible = ctx.saved_tensors
        weights = torch.where(possible, upstream[0], 0)
        return None, *_Gradient.apply(ctx.evidence, weights, *parameters)


class _Gradient(torch.autograd.Function):
    """The gradient, which is differentiated by the tape."""

    @staticmethod
    def forward(ctx: Any, evidence: Evidence, weights: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.evidence = evidence
        ctx.save_for_backward(weights, *parameters)
        return tuple(evidence.gradient(weights, *parameters))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        again = torch.is_grad_enabled()  # is a graph of the second derivative asked for?
        with torch.enable_grad():
            # Aliases: weights may depend on parameters, but the gradient by both is that of independent arguments.
            arguments = [_alias(each) for each in ctx.saved_tensors]
            weights, *parameters = arguments
            value = ctx.evidence.tape(*parameters)
            total = (torch.where(value > -torch.inf, value, 0) * weights).sum()
            first = _gradient(total, parameters, create_graph=True)
            along = sum((part * direction).sum() for part, direction in zip(first, upstream, strict=True))
            return None, *_gradient(along, arguments, create_graph=again)


def _alias(argument: Tensor) -> Tensor:
    return argument.view_as(argument) if argument.requires_grad else argument.detach().requires_grad_()


def _gradient(total: Any, arguments: Sequence[Tensor], create_graph: bool) -> tuple[Tensor, ...]:
    """Return the gradient of a total, zero by what it does not depend on."""
    if not total.requires_grad:
        return tuple(torch.zeros_like(argument) for argument in arguments)
    return torch.autograd.grad(
        total, arguments, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
