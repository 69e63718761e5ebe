"""The recursions of a chain of hidden states over a sequence of likelihood rows.

A text is a sequence of row numbers ``ids`` (P,B,T) into a table of likelihood rows ``table`` (P,R,K): tokens, the
mask and prompt tokens alike. The silent state H₀ ∼ ``initial`` (P,K) comes first; row t weighs H_t, t = 1..T.

    forward    predicted_t = P(H_t | rows before t),  filtered_t = P(H_t | rows up to t)
    backward   message_t(h) ∝ P(rows after t | H_t=h),  message_0 = f, the message to the silent state

Everything else is a product of the two. Source: Rabiner (1989), §III; Wei, Xie & Ma (2021), §2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_hmm.exact.algebra import LOG, SCALED, Algebra, Floor, Law

Initial = Float[Tensor, "P K"]
Transition = Float[Tensor, "P K K"]
Table = Float[Tensor, "P R K"]
Ids = Int[Tensor, "P B T"]

# Logarithms take arrays of K² entries a sequence; so many entries at a time (8 MB in float64) stay near the cache.
LOG_CHUNK_ENTRIES = 1 << 20


class ForwardBackward(NamedTuple):
    """What one forward-backward pass returns. ``marginals`` are zero rows where their condition is impossible."""

    log_evidence: Float[Tensor, "P B"]  # log P(x), natural logarithm; −inf for impossible text
    initial: Float[Tensor, "P B K"]  # P(H₀ | x)
    marginals: Float[Tensor, "P B N K"]  # P(H_t | x), or the cavity P(H_t | x_{-t})
    log_contexts: Float[Tensor, "P B N"] | None  # log P(x_{-t}), with cavities


def forward(
    algebra: Algebra, start: Law, transition: Transition, table: Table, ids: Ids
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (predicted_t, filtered_t, total_t) for t = 1..T: (P,B,K), (P,B,K), (P,B,1), in ``algebra``.

    ``start`` is the law of H₀ as probabilities, the same for all sequences (P,1,K) or not (P,B,K);
    total_t = P(row t | rows before). Differentiable. Cost O(B·T·K²).
    """
    filtered, transition = algebra.represent(start), algebra.represent(transition)
    likelihood = _rows(algebra.represent(table), ids)
    for t in range(ids.shape[-1]):
        predicted = algebra.advance(filtered, transition)
        filtered, total = algebra.normalise(algebra.weigh(predicted, likelihood(t)))
        yield predicted, filtered, total


def backward(algebra: Algebra, transition: Transition, table: Table, ids: Ids) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (message_t, total_t) for t = T..0: (P,B,K), (P,B,1), in ``algebra``; message_T is one for each state.

    Messages before T are normalised: P(rows after t | H_t=h) = message_t(h) · ∏_{s≥t} total_s. Differentiable.
    Cost O(B·T·K²).
    """
    reverse = algebra.represent(transition).transpose(-1, -2)
    likelihood = _rows(algebra.represent(table), ids)
    message = algebra.represent(table.new_ones(*ids.shape[:2], table.shape[-1]))
    yield message, message[..., :1]
    for t in reversed(range(ids.shape[-1])):
        message, total = algebra.normalise(algebra.advance(algebra.weigh(message, likelihood(t)), reverse))
        yield message, total


def _rows(table: Tensor, ids: Ids) -> Callable[[int], Tensor]:
    """Return the function t ↦ likelihood rows (P,B,K) of position t (0-based)."""
    n_models, n_rows, n_states = table.shape
    flat = table.reshape(-1, n_states)
    offsets = n_rows * torch.arange(n_models, device=ids.device)[:, None, None]
    by_time = (ids + offsets).permute(2, 0, 1).contiguous()

    def likelihood(t: int) -> Tensor:
        return flat.index_select(0, by_time[t].reshape(-1)).view(n_models, -1, n_states)

    return likelihood


def log_evidence(initial: Initial, transition: Transition, table: Table, ids: Ids) -> Float[Tensor, "P B"]:
    """Return log P(x) in nats, −inf for impossible text, differentiable. Cost O(B·T·K²).

    Gradients are finite where the true derivatives fit a float. Near underflow, where logarithms take over, an entry
    that is exactly zero counts as a constant: its derivative is zero.
    """
    arrays = (initial, transition, table)
    evidence, lost = _log_evidence(SCALED, *arrays, ids)
    if not lost.any():
        return evidence
    # The scaled tape of a lost sequence may overflow, so nothing of it is kept: the others are computed again.
    in_log = lost.any(0)
    evidence = torch.empty_like(evidence)
    if not in_log.all():
        evidence[:, ~in_log] = _log_evidence(SCALED, *arrays, ids[:, ~in_log])[0]
    for few in in_chunks(in_log.expand_as(lost), transition):
        evidence[few] = _log_evidence(LOG, *pick(few, *arrays, ids))[0][:, 0]
    return evidence


def _log_evidence(
    algebra: Algebra, initial: Initial, transition: Transition, table: Table, ids: Ids
) -> tuple[Tensor, Tensor]:
    """Return the log-evidence (P,B) and which sequences may have lost some of it to underflow."""
    floor = Floor.of(transition, table)
    lost = algebra.faint(algebra.represent(initial)[:, None], floor).expand(ids.shape[:2])
    totals = []
    for _, filtered, total in forward(algebra, initial[:, None], transition, table, ids):
        lost = lost | algebra.faint(filtered, floor)
        totals.append(total[..., 0])
    logs = algebra.logarithm(torch.stack(totals))
    possible = (logs > -torch.inf).all(0)
    return torch.where(possible, torch.where(logs > -torch.inf, logs, 0).sum(0), -torch.inf), lost


@torch.no_grad()
def forward_backward(
    initial: Initial,
    transition: Transition,
    table: Table,
    ids: Ids,
    positions: Sequence[int],
    *,
    own_token: bool = True,
) -> ForwardBackward:
    """Return the log-evidence, P(H₀|x), and the marginals of H at ``positions`` (0-based row numbers, all different).

    With ``own_token`` the marginals are the smoothed P(H_t|x); without it the cavities P(H_t|x_{-t}).
    Sequences whose scaled weights come near underflow are computed again in logarithms. Cost O(B·T·K²).
    """
    arrays = (initial, transition, table, ids)
    result, lost = _forward_backward(SCALED, *arrays, positions, own_token)
    if lost.any():
        for few in in_chunks(lost, transition):
            exact, _ = _forward_backward(LOG, *pick(few, *arrays), positions=positions, own_token=own_token)
            for field, values in zip(result, exact, strict=True):
                if field is not None and values is not None:
                    field[few] = values[:, 0]
    return result


def _forward_backward(
    algebra: Algebra,
    initial: Initial,
    transition: Transition,
    table: Table,
    ids: Ids,
    positions: Sequence[int],
    own_token: bool,
) -> tuple[ForwardBackward, Tensor]:
    """Return the pass in one algebra, and which sequences (P,B) may have lost weight to underflow."""
    n_models, n_sequences, length = ids.shape
    # Time-major storage: each step writes one contiguous block.
    marginals = table.new_empty(len(positions), n_models, n_sequences, table.shape[-1])
    log_contexts = None if own_token else table.new_empty(len(positions), n_models, n_sequences)
    slots = {t: slot for slot, t in enumerate(positions)}
    floor = Floor.of(transition, table)
    # A total so small that entries a rounding error below it are no longer floats: weights have cancelled out.
    smallest_total = torch.finfo(table.dtype).tiny / torch.finfo(table.dtype).eps
    lost = algebra.faint(algebra.represent(initial)[:, None], floor).expand(n_models, n_sequences)

    totals = []
    for t, (predicted, filtered, total) in enumerate(forward(algebra, initial[:, None], transition, table, ids)):
        lost = lost | algebra.faint(filtered, floor)
        totals.append(total[..., 0])
        if t in slots:
            marginals[slots[t]] = filtered if own_token else predicted
    log_totals = algebra.logarithm(torch.stack(totals))
    log_evidence = log_totals.sum(0)

    law_of_start = algebra.represent(initial)[:, None]
    start = law_of_start
    log_after = table.new_zeros(n_models, n_sequences)  # of the message's totals
    steps = zip(range(length - 1, -2, -1), backward(algebra, transition, table, ids), strict=True)
    for t, (message, message_total) in steps:
        lost = lost | algebra.faint(message, floor)
        if log_contexts is not None:
            log_after = log_after + algebra.logarithm(message_total[..., 0])
        if t in slots or t < 0:
            before = marginals[slots[t]] if t >= 0 else law_of_start
            law, total = algebra.normalise(algebra.weigh(before, message))
            if algebra is SCALED:
                lost = lost | (total[..., 0] < smallest_total)
            if t >= 0:
                marginals[slots[t]] = algebra.probabilities(law)
                if log_contexts is not None:
                    log_before = log_totals[:t].sum(0)
                    log_contexts[slots[t]] = log_before + algebra.logarithm(total[..., 0]) + log_after
            else:
                start = algebra.probabilities(law)
    if log_contexts is not None:
        log_contexts = log_contexts.permute(1, 2, 0)
    return ForwardBackward(log_evidence, start, marginals.permute(1, 2, 0, 3), log_contexts), lost


@torch.no_grad()
def messages_at(
    transition: Transition, table: Table, ids: Ids, positions: Sequence[int]
) -> tuple[Float[Tensor, "P B N K"], Float[Tensor, "P B N"]]:
    """Return the normalised backward messages after rows ``positions`` (0-based; −1 is f, the message to H₀).

    And the logarithms of what they were divided by. Neither depends on what comes before those rows. Cost O(B·T·K²).
    """
    arrays = (transition, table, ids)
    *result, lost = _messages_at(SCALED, *arrays, positions)
    if lost.any():
        for few in in_chunks(lost, transition):
            *exact, _ = _messages_at(LOG, *pick(few, *arrays), positions=positions)
            for field, values in zip(result, exact, strict=True):
                field[few] = values[:, 0]
    return result[0], result[1]


def _messages_at(
    algebra: Algebra, transition: Transition, table: Table, ids: Ids, positions: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    floor = Floor.of(transition, table)
    lost = torch.zeros(ids.shape[:2], dtype=torch.bool, device=ids.device)
    messages: dict[int, Tensor] = {}
    log_scales: dict[int, Tensor] = {}
    log_scale = table.new_zeros(ids.shape[:2])
    steps = zip(range(ids.shape[-1] - 1, -2, -1), backward(algebra, transition, table, ids), strict=True)
    for t, (message, total) in steps:
        lost = lost | algebra.faint(message, floor)
        log_scale = log_scale + algebra.logarithm(total[..., 0])
        if t in positions:
            messages[t], log_scales[t] = algebra.probabilities(message), log_scale
        if len(messages) == len(set(positions)):
            break
    stacked = torch.stack([messages[t] for t in positions], dim=2)
    return stacked, torch.stack([log_scales[t] for t in positions], dim=2), lost


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


def chunks(total: int, size: int) -> Iterator[slice]:
    """Yield consecutive slices of ``range(total)`` of at least one and at most ``size`` entries."""
    size = max(1, size)
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
