"""The recursions of a chain of hidden states over a sequence of likelihood rows, in any algebra.

The four arrays of a chain are one record, :class:`Chain`: a text is a sequence of row numbers ``ids`` (P,B,T) into a
table of likelihood rows ``table`` (P,R,K), tokens, the mask and prompt tokens alike. The silent state H₀ ∼ ``initial``
(P,K) comes first; row t weighs H_t, t = 1..T.

    forward    predicted_t = P(H_t | rows before t),  filtered_t = P(H_t | rows up to t)
    backward   message_t(h) ∝ P(rows after t | H_t=h),  message_0 = f, the message to the silent state

Everything else is a product of the two. Source: Rabiner (1989), §III; Wei, Xie & Ma (2021), §2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ppl_hmm.exact.algebra import Algebra, Law

Ids = Int[Tensor, "P B T"]
Table = Float[Tensor, "P R K"]

# Logarithms take arrays of K² entries a sequence; so many entries at a time (8 MB in float64) stay near the cache.
LOG_CHUNK_ENTRIES = 1 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """P chains of K states, and B texts of T rows each that every one of them reads."""

    initial: Float[Tensor, "P K"]
    transition: Float[Tensor, "P K K"]
    table: Table
    ids: Ids

    @property
    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """All but the texts."""
        return self.initial, self.transition, self.table

    def with_ids(self, ids: Ids) -> Chain:
        """Return the same chains with other texts."""
        return Chain(*self.parameters, ids)

    def sequences(self, chosen: slice | Bool[Tensor, " B"]) -> Chain:
        """Return the same chains with some of the texts."""
        return self.with_ids(self.ids[:, chosen])


def forward(algebra: Algebra, chain: Chain, start: Law | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (predicted_t, filtered_t, total_t) for t = 1..T: (P,B,K), (P,B,K), (P,B,1), in ``algebra``.

    ``start`` is the law of H₀ as probabilities, the same for all sequences (P,1,K) or not (P,B,K); by default it is
    the chain's own. total_t = P(row t | rows before). Differentiable. Cost O(B·T·K²).
    """
    filtered = algebra.represent(chain.initial[:, None] if start is None else start)
    transition = algebra.represent_moves(chain.transition)
    likelihood = rows_by_time(algebra.represent(chain.table), chain.ids)
    for t in range(chain.ids.shape[-1]):
        predicted = algebra.advance(filtered, transition)
        filtered, total = algebra.normalise(algebra.weigh(predicted, likelihood(t)))
        yield predicted, filtered, total


def backward(algebra: Algebra, chain: Chain) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (message_t, total_t) for t = T..0: (P,B,K), (P,B,1), in ``algebra``; message_T is one for each state.

    Messages before T are normalised: P(rows after t | H_t=h) = message_t(h) · ∏_{s≥t} total_s. Differentiable.
    Cost O(B·T·K²).
    """
    table, ids = chain.table, chain.ids
    reverse = algebra.represent_moves(chain.transition).transpose(-1, -2)
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
