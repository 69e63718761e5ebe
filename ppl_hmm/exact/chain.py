"""Exact inference on a chain of hidden states: a fast pass, and logarithms for what it loses.

A text is a sequence of row numbers ``ids`` (P,B,T) into a table of likelihood rows ``table`` (P,R,K), as in
:mod:`ppl_hmm.exact.recursion`. Each function takes the scaled pass of a backend
(:mod:`ppl_hmm.exact.backends`), which is fast and says which sequences came near underflow; those are computed again
in logarithms. ``backend`` names one (``'torch'``, ``'numba'``); by default it is chosen for the arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.algebra import LOG
from ppl_hmm.exact.backends import choose
from ppl_hmm.exact.backends.contract import ForwardBackward, Gradient, Messages
from ppl_hmm.exact.backends.recursive import Recursive
from ppl_hmm.exact.recursion import LOG_CHUNK_ENTRIES, Ids, Initial, Table, Transition, chunks

RESCUE = Recursive(LOG)


def log_evidence(
    initial: Initial, transition: Transition, table: Table, ids: Ids, *, backend: str | None = None
) -> Float[Tensor, "P B"]:
    """Return log P(x) in nats, −inf for impossible text, differentiable once. Cost O(B·T·K²) time, O(B·K) memory.

    The gradient is that of :func:`log_evidence_gradient`.
    """
    return _LogEvidence.apply(initial, transition, table, ids, backend)


@torch.no_grad()
def log_evidence_gradient(
    initial: Initial,
    transition: Transition,
    table: Table,
    ids: Ids,
    weights: Float[Tensor, "P B"],
    *,
    backend: str | None = None,
) -> Gradient:
    """Return Σ_b weights_b · ∂ log P(x_b): expected counts over parameters, by one pass each way. Cost O(B·T·K²).

    Finite where the true derivatives fit a float. Sequences of weight zero add nothing, and impossible text must have
    weight zero. Near underflow, where logarithms take over, an entry that is exactly zero counts as a constant: its
    derivative is zero.
    """
    arrays, fast = (initial, transition, table), choose(transition, backend)
    gradient, lost = fast.gradient(*arrays, ids, weights)
    if not lost.any():
        return gradient
    # Nothing of the sum is kept: the other sequences are computed again.
    in_log = lost.any(0)
    gradient = Gradient(*(torch.zeros_like(array) for array in arrays))
    if not in_log.all():
        gradient, _ = fast.gradient(*arrays, ids[:, ~in_log], weights[:, ~in_log])
    for few in in_chunks(in_log & (weights != 0), transition):
        model, _ = few.nonzero(as_tuple=True)
        with torch.enable_grad():
            leaves = tuple(array[model].requires_grad_() for array in arrays)
            evidence, _ = RESCUE.evidence(leaves[0], leaves[1], leaves[2], ids[few][:, None])
            by_sequence = torch.autograd.grad((evidence[:, 0] * weights[few]).sum(), leaves)
        for total, parts in zip(gradient, by_sequence, strict=True):
            total.index_add_(0, model, parts)
    return gradient


class _LogEvidence(torch.autograd.Function):
    """log P(x), whose gradient needs no tape: the weighted sum of the sequences' expected counts."""

    @staticmethod
    def forward(
        ctx: Any, initial: Tensor, transition: Tensor, table: Tensor, ids: Tensor, backend: str | None
    ) -> Tensor:
        arrays = (initial, transition, table, ids)
        evidence, lost = choose(transition, backend).evidence(*arrays)
        for few in in_chunks(lost, transition):
            evidence[few] = RESCUE.evidence(*pick(few, *arrays))[0][:, 0]
        ctx.save_for_backward(*arrays, evidence > -torch.inf)
        ctx.backend = backend
        return evidence

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        *arrays, possible = ctx.saved_tensors
        weights = torch.where(possible, upstream[0], 0)
        return *_FirstDerivative.apply(*arrays, weights, ctx.backend), None, None


class _FirstDerivative(torch.autograd.Function):
    """The gradient, which has no derivative of its own and says so."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:  # noqa: ARG004
        *arrays, backend = arguments
        return tuple(log_evidence_gradient(*arrays, backend=backend))

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:  # noqa: ARG004
        raise InvalidInput(
            "second derivative of the log-likelihood",
            "first derivatives only",
            "a gradient differentiated again",
            "use the evidence of ppl_hmm.exact.backends.recursive, whose tape can be differentiated again",
        )


@torch.no_grad()
def forward_backward(
    initial: Initial,
    transition: Transition,
    table: Table,
    ids: Ids,
    positions: Sequence[int],
    *,
    own_token: bool = True,
    backend: str | None = None,
) -> ForwardBackward:
    """Return the log-evidence, P(H₀|x), and the marginals of H at ``positions`` (0-based row numbers, all different).

    With ``own_token`` the marginals are the smoothed P(H_t|x); without it the cavities P(H_t|x_{-t}).
    Cost O(B·T·K²) time, memory of the result.
    """
    arrays = (initial, transition, table, ids)
    result, lost = choose(transition, backend).smooth(*arrays, positions, own_token)
    for few in in_chunks(lost, transition):
        exact, _ = RESCUE.smooth(*pick(few, *arrays), positions=positions, own_token=own_token)
        _replace(few, result, exact)
    return result


@torch.no_grad()
def messages_at(
    transition: Transition, table: Table, ids: Ids, positions: Sequence[int], *, backend: str | None = None
) -> Messages:
    """Return the normalised backward messages after rows ``positions`` (0-based; −1 is f, the message to H₀).

    And the logarithms of what they were divided by. Neither depends on what comes before those rows. Cost O(B·T·K²).
    """
    arrays = (transition, table, ids)
    result, lost = choose(transition, backend).messages(*arrays, positions)
    for few in in_chunks(lost, transition):
        _replace(few, result, RESCUE.messages(*pick(few, *arrays), positions=positions)[0])
    return result


def _replace(few: Tensor, result: ForwardBackward | Messages, exact: ForwardBackward | Messages) -> None:
    """Write the results of as many models of one sequence each over those of the (model, sequence) pairs in (P,B)."""
    for field, values in zip(result, exact, strict=True):
        if field is not None and values is not None:
            field[few] = values[:, 0]


def pick(chosen: Tensor, *arrays: Tensor) -> Any:
    """Return the chosen (model, sequence) pairs, marked in (P,B), as that many models of one sequence each.

    The last of ``arrays`` are the ids, the others belong to models.
    """
    *of_models, ids = arrays
    model, sequence = chosen.nonzero(as_tuple=True)
    return *(array[model] for array in of_models), ids[model, sequence][:, None]


def in_chunks(chosen: Tensor, transition: Transition) -> Iterator[Tensor]:
    """Yield masks (P,B) that mark the chosen pairs, few at a time: logarithms take K² entries a pair."""
    pairs = chosen.nonzero()
    for chunk in chunks(len(pairs), LOG_CHUNK_ENTRIES // transition[0].numel()):
        few = torch.zeros_like(chosen)
        few[tuple(pairs[chunk].T)] = True
        yield few
