"""The recursions of a chain of hidden states over a sequence of likelihood rows.

A text is a sequence of row numbers ``ids`` (P,B,T) into a table of likelihood rows ``table`` (P,R,K): tokens, the
mask and prompt tokens alike. The silent state H₀ ∼ ``initial`` (P,K) comes first; row t weighs H_t, t = 1..T.

    forward    predicted_t = P(H_t | rows before t),  filtered_t = P(H_t | rows up to t)
    backward   message_t(h) ∝ P(rows after t | H_t=h),  message_0 = f, the message to the silent state

Everything else is a product of the two. Source: Rabiner (1989), §III; Wei, Xie & Ma (2021), §2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_hmm.exact.algebra import LOG, SCALED, Algebra, Floor

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


def forward(
    algebra: Algebra, initial: Initial, transition: Transition, table: Table, ids: Ids
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (predicted_t, filtered_t, total_t) for t = 1..T: (P,B,K), (P,B,K), (P,B,1), in ``algebra``.

    total_t = P(row t | rows before). Differentiable. Cost O(B·T·K²).
    """
    initial, transition = algebra.represent(initial), algebra.represent(transition)
    likelihood = _rows(algebra.represent(table), ids)
    filtered = initial[:, None]
    for t in range(ids.shape[-1]):
        predicted = algebra.advance(filtered, transition)
        filtered, total = algebra.normalise(algebra.weigh(predicted, likelihood(t)))
        yield predicted, filtered, total


def backward(algebra: Algebra, transition: Transition, table: Table, ids: Ids) -> Iterator[Tensor]:
    """Yield message_t (P,B,K) for t = T..0, each normalised, in ``algebra``; message_T is uniform.

    Differentiable. Cost O(B·T·K²).
    """
    reverse = algebra.represent(transition).transpose(-1, -2)
    likelihood = _rows(algebra.represent(table), ids)
    message = algebra.represent(table.new_ones(*ids.shape[:2], table.shape[-1]))
    yield message
    for t in reversed(range(ids.shape[-1])):
        message, _ = algebra.normalise(algebra.advance(algebra.weigh(message, likelihood(t)), reverse))
        yield message


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


def first_impossible(initial: Initial, transition: Transition, table: Table, ids: Ids) -> int:
    """Return the first row (0-based) that leaves the first sequence of the first model impossible."""
    totals = [float(total[0, 0, 0]) for _, _, total in forward(LOG, initial, transition, table, ids)]
    return totals.index(-torch.inf)


def _log_evidence(
    algebra: Algebra, initial: Initial, transition: Transition, table: Table, ids: Ids
) -> tuple[Tensor, Tensor]:
    """Return the log-evidence (P,B) and which sequences may have lost some of it to underflow."""
    floor = Floor.of(transition, table)
    lost = algebra.faint(algebra.represent(initial)[:, None], floor).expand(ids.shape[:2])
    totals = []
    for _, filtered, total in forward(algebra, initial, transition, table, ids):
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
            exact, _ = _forward_backward(LOG, *pick(few, *arrays), positions, own_token)
            for field, values in zip(result, exact, strict=True):
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
    slots = {t: slot for slot, t in enumerate(positions)}
    floor = Floor.of(transition, table)
    # A total so small that entries a rounding error below it are no longer floats: weights have cancelled out.
    smallest_total = torch.finfo(table.dtype).tiny / torch.finfo(table.dtype).eps
    lost = algebra.faint(algebra.represent(initial)[:, None], floor).expand(n_models, n_sequences)

    totals = []
    for t, (predicted, filtered, total) in enumerate(forward(algebra, initial, transition, table, ids)):
        lost = lost | algebra.faint(filtered, floor)
        totals.append(total[..., 0])
        if t in slots:
            marginals[slots[t]] = filtered if own_token else predicted
    log_evidence = algebra.logarithm(torch.stack(totals)).sum(0)

    law_of_start = algebra.represent(initial)[:, None]
    start = law_of_start
    for t, message in zip(range(length - 1, -2, -1), backward(algebra, transition, table, ids), strict=True):
        lost = lost | algebra.faint(message, floor)
        if t in slots or t < 0:
            before = marginals[slots[t]] if t >= 0 else law_of_start
            law, total = algebra.normalise(algebra.weigh(before, message))
            if algebra is SCALED:
                lost = lost | (total[..., 0] < smallest_total)
            if t >= 0:
                marginals[slots[t]] = algebra.probabilities(law)
            else:
                start = algebra.probabilities(law)
    return ForwardBackward(log_evidence, start, marginals.permute(1, 2, 0, 3)), lost


@torch.no_grad()
def messages_at(transition: Transition, table: Table, ids: Ids, positions: Sequence[int]) -> Float[Tensor, "P B N K"]:
    """Return the normalised backward messages after rows ``positions`` (0-based; −1 is f, the message to H₀).

    They do not depend on what comes before those rows. Cost O(B·T·K²).
    """
    messages, lost = _messages_at(SCALED, transition, table, ids, positions)
    if lost.any():
        for few in in_chunks(lost, transition):
            _, *picked = pick(few, table[:, 0], transition, table, ids)
            messages[few] = _messages_at(LOG, picked[0], picked[1], picked[2], positions)[0][:, 0]
    return messages


def _messages_at(
    algebra: Algebra, transition: Transition, table: Table, ids: Ids, positions: Sequence[int]
) -> tuple[Tensor, Tensor]:
    floor = Floor.of(transition, table)
    lost = torch.zeros(ids.shape[:2], dtype=torch.bool, device=ids.device)
    kept: dict[int, Tensor] = {}
    for t, message in zip(range(ids.shape[-1] - 1, -2, -1), backward(algebra, transition, table, ids), strict=True):
        lost = lost | algebra.faint(message, floor)
        if t in positions:
            kept[t] = algebra.probabilities(message)
        if len(kept) == len(set(positions)):
            break
    return torch.stack([kept[t].expand(*ids.shape[:2], -1) for t in positions], dim=2), lost


def pick(
    chosen: Tensor, initial: Initial, transition: Transition, table: Table, ids: Ids
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the chosen (model, sequence) pairs, marked in (P,B), as that many models of one sequence each."""
    model, sequence = chosen.nonzero(as_tuple=True)
    return initial[model], transition[model], table[model], ids[model, sequence][:, None]


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
