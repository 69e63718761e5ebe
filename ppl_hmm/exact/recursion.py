"""The recursions of a chain of hidden states over a sequence of likelihood rows, in any algebra.

A text is a sequence of row numbers ``ids`` (P,B,T) into a table of likelihood rows ``table`` (P,R,K): tokens, the
mask and prompt tokens alike. The silent state H₀ ∼ ``initial`` (P,K) comes first; row t weighs H_t, t = 1..T.

    forward    predicted_t = P(H_t | rows before t),  filtered_t = P(H_t | rows up to t)
    backward   message_t(h) ∝ P(rows after t | H_t=h),  message_0 = f, the message to the silent state

Everything else is a product of the two. Source: Rabiner (1989), §III; Wei, Xie & Ma (2021), §2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_hmm.exact.algebra import Algebra, Law

Initial = Float[Tensor, "P K"]
Transition = Float[Tensor, "P K K"]
Table = Float[Tensor, "P R K"]
Ids = Int[Tensor, "P B T"]

# Logarithms take arrays of K² entries a sequence; so many entries at a time (8 MB in float64) stay near the cache.
LOG_CHUNK_ENTRIES = 1 << 20


def forward(
    algebra: Algebra, start: Law, transition: Transition, table: Table, ids: Ids
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (predicted_t, filtered_t, total_t) for t = 1..T: (P,B,K), (P,B,K), (P,B,1), in ``algebra``.

    ``start`` is the law of H₀ as probabilities, the same for all sequences (P,1,K) or not (P,B,K);
    total_t = P(row t | rows before). Differentiable. Cost O(B·T·K²).
    """
    filtered, transition = algebra.represent(start), algebra.represent_moves(transition)
    likelihood = rows_by_time(algebra.represent(table), ids)
    for t in range(ids.shape[-1]):
        predicted = algebra.advance(filtered, transition)
        filtered, total = algebra.normalise(algebra.weigh(predicted, likelihood(t)))
        yield predicted, filtered, total


def backward(algebra: Algebra, transition: Transition, table: Table, ids: Ids) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (message_t, total_t) for t = T..0: (P,B,K), (P,B,1), in ``algebra``; message_T is one for each state.

    Messages before T are normalised: P(rows after t | H_t=h) = message_t(h) · ∏_{s≥t} total_s. Differentiable.
    Cost O(B·T·K²).
    """
    reverse = algebra.represent_moves(transition).transpose(-1, -2)
    likelihood = rows_by_time(algebra.represent(table), ids)
    message = algebra.represent(table.new_ones(*ids.shape[:2], table.shape[-1]))
    yield message, message[..., :1]
    for t in reversed(range(ids.shape[-1])):
        message, total = algebra.normalise(algebra.advance(algebra.weigh(message, likelihood(t)), reverse))
        yield message, total


def rows_by_time(table: Tensor, ids: Ids) -> Callable[[int], Tensor]:
    """Return the function t ↦ likelihood rows (P,B,K) of position t (0-based)."""
    n_models, n_rows, n_states = table.shape
    flat = table.reshape(-1, n_states)
    offsets = n_rows * torch.arange(n_models, device=ids.device)[:, None, None]
    by_time = (ids + offsets).permute(2, 0, 1).contiguous()

    def likelihood(t: int) -> Tensor:
        return flat.index_select(0, by_time[t].reshape(-1)).view(n_models, -1, n_states)

    return likelihood


def chunks(total: int, size: int) -> Iterator[slice]:
    """Yield consecutive slices of ``range(total)`` of at least one and at most ``size`` entries."""
    size = max(1, size)
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
