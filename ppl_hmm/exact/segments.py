"""Smoothing a long text a segment at a time, in the memory of one segment and of one law for each.

Forth over the text only the law at the end of each segment is kept. Back, a segment is smoothed from the law before it
and the message from behind, which weighs its last state: one more likelihood row. With segments of √T rows the memory
is O(√T·K) beside the model, where the smoothed law itself has T·K entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.algebra import log_sum_exp
from ppl_hmm.exact.backends import choose
from ppl_hmm.exact.backends.contract import Lost
from ppl_hmm.exact.configurations import configurations
from ppl_hmm.exact.mixture import MemoryText, log_joint_memory
from ppl_hmm.exact.recursion import Chain, chunks


class Segment(NamedTuple):
    """The smoothed law P(H_t|x) of some rows of a text."""

    rows: slice
    smoothed: Float[Tensor, "P B S K"]


@torch.no_grad()
def smooth_in_segments(text: MemoryText, length: int) -> tuple[Float[Tensor, "P B"], Iterator[Segment]]:
    """Return log P(x), and segments of ``length`` rows, the last ones first; they are zero for impossible text.

    The backend is chosen by the rule of :mod:`ppl_hmm.exact.backends`. Cost O(C·B·T·K²) time;
    O(C·B·((length + T/length)·K + K²)) memory, as each text holds a copy of the transition.

    Raises
    ------
    InvalidInput
        Weights near underflow: laws pass from segment to segment as floats, not as logarithms.
    """
    log_joint = log_joint_memory(text).transpose(1, 2)  # (P,C,B)
    total = log_sum_exp(log_joint, dim=1)
    weights = (log_joint - total[:, None].clamp(min=torch.finfo(total.dtype).min)).exp()  # P(M|x), or zero
    chains, cuts = _Chains(text, possible=log_joint > -torch.inf), list(chunks(text.ids.shape[-1], length))
    # Where each segment starts. In one piece: among the tables of segments, small ones would leave holes in memory.
    laws = chains.initial.new_empty(len(cuts), *chains.initial.shape)
    laws[0] = chains.initial
    for n, rows in enumerate(cuts[:-1]):
        table = chains.table(rows)
        laws[n + 1] = chains.smooth(laws[n], table, [table.shape[1] - 1])[:, 0]

    @torch.no_grad()
    def backward() -> Iterator[Segment]:
        message = None
        for rows, law in zip(reversed(cuts), laws.flip(0), strict=True):
            table = chains.table(rows)
            if message is not None:  # it weighs the last state, on top of that state's own row
                table[:, -1] *= message
            smoothed = chains.smooth(law, table, range(table.shape[1]))
            yield Segment(rows, torch.einsum("pcb,pcbsk->pbsk", weights, chains.unfold(smoothed)))
            message = chains.message(table)

    return total, backward()


class _Chains:
    """C memories of B texts as P·C·B models of one sequence each: each has its own law where a segment starts."""

    def __init__(self, text: MemoryText, possible: Tensor) -> None:
        memories = configurations(text.memory_prior.shape[1], text.memory_prior.shape[2])
        n_sequences = text.ids.shape[1]
        self._shape = (len(text.ids), len(memories), n_sequences)
        self._memories = memories.repeat_interleave(n_sequences, dim=0)
        self._text, self._backend = text, choose(text.transition)
        self._transition = text.transition.repeat_interleave(len(memories) * n_sequences, dim=0)
        self._possible = possible.reshape(-1, 1)
        self.initial = text.initial.repeat_interleave(len(memories) * n_sequences, dim=0)

    def table(self, rows: slice) -> Tensor:
        """Return the likelihood rows (P·C·B,S,K) of a segment, in the order of the text."""
        ids = self._text.ids[..., rows].repeat(1, self._shape[1], 1)
        return self._text.rows_read(self._memories, ids).flatten(0, 1)

    def unfold(self, values: Tensor) -> Tensor:
        """Give results (P·C·B,…) their dimensions back: (P,C,B,…)."""
        return values.reshape(*self._shape, *values.shape[1:])

    def smooth(self, law: Tensor, table: Tensor, positions: Sequence[int]) -> Tensor:
        """Return the smoothed law (P·C·B,S,K) of rows that follow states of a law; zero for impossible text."""
        result, lost = self._backend.smooth(self._in_order(law, table), positions, own_token=True)
        return self._kept(result.marginals, lost)

    def message(self, table: Tensor) -> Tensor:
        """Return the message (P·C·B,K) to the state before the rows."""
        result, lost = self._backend.messages(self._in_order(self.initial, table), [-1])
        return self._kept(result.messages, lost)[:, 0]

    def _in_order(self, law: Tensor, table: Tensor) -> Chain:
        """Return chains that start from a law, and whose texts (P·C·B,1,S) take the rows of a table one by one."""
        ids = torch.arange(table.shape[1], device=table.device).expand(len(table), 1, -1)
        return Chain(law, self._transition, table, ids)

    def _kept(self, values: Tensor, lost: Lost) -> Tensor:
        """Return the values (P·C·B,1,S,K) of one sequence for each model, none of them lost."""
        if (lost & self._possible).any():
            raise InvalidInput(
                "smoothing in segments",
                "weights within reach of a float",
                "a text whose weights come near underflow",
                "use posterior, which turns to logarithms there",
            )
        return torch.where(self._possible[..., None, None], values, 0)[:, 0]
