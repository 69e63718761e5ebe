"""Chains on the GPU: their arrays as the kernels read them, and how the work on them is cut.

Many texts fill the GPU by themselves, a block of them in each program. Few long ones are cut into segments
(:mod:`ppl_hmm.exact.backends.fused.segments`), which then are the sequences that the passes run over.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ppl_hmm.exact.backends.fused import passes, segments
from ppl_hmm.exact.recursion import Chain
from ppl_hmm.exact.underflow import Floor

#: Sequences that one program takes through each step together: the fewest that a product on chip works on.
BLOCK = 16
#: Warps of a program, and registers of each of their threads: a multiprocessor then runs three programs.
WARPS, REGISTERS = 4, 168
#: Up to so many laws the GPU takes through a step in the time of one: segments, which start from each state, cost none.
LAWS_AT_ONCE = 1 << 12
SHORTEST_SEGMENT = 32
#: Fewer segments are not worth linking.
FEWEST_SEGMENTS = 4


class Boundaries(NamedTuple):
    """What is known where sequences start and end: of arrays (P,wrap,K), sequence n has number n modulo wrap."""

    start: Tensor | None  # law at the start, if the initial law was given
    end: Tensor  # message behind the end
    log_before: Tensor  # log P(rows before), (P,n)
    log_after: Tensor  # of the scale of ``end``, (P,n)
    log_evidence: Tensor  # (P,B), arbitrary unless segments were linked
    lost: Tensor  # (P,B)


@dataclasses.dataclass(frozen=True)
class Chains:
    """Parameters, and texts as n = B·n_segments sequences of L rows."""

    transition: Tensor  # (P,K,K)
    table: Tensor  # (P,R,K)
    ids: Tensor  # (P,n,L), −1 after a text's end
    floor: Tensor  # (P,)
    n_segments: int

    @classmethod
    def of(cls, chain: Chain) -> Chains:
        """Return the chains, their texts cut into segments where there are few of them."""
        transition, table, ids = chain.transition, chain.table, chain.ids
        n_models, n_texts, n_rows = ids.shape
        n_segments = segments_of(n_models * n_texts, n_rows, transition.shape[-1])
        length = math.ceil(n_rows / n_segments)
        if n_segments > 1:
            ids = pad(ids, (0, n_segments * length - n_rows), value=-1).reshape(n_models, -1, length)
        if not ids[0].is_contiguous():  # models may share texts: those are not worth a copy each
            ids = ids.contiguous()
        floor = Floor.of(transition, table).each[:, 0, 0].contiguous()
        return cls(transition.detach().contiguous(), table.detach().contiguous(), ids, floor, n_segments)

    @property
    def n_texts(self) -> int:
        """B."""
        return self.ids.shape[1] // self.n_segments

    def empty(self, *shape: int) -> Tensor:
        """Return room for a result of each text."""
        return self.table.new_empty(len(self.ids), self.n_texts, *shape)

    def none_lost(self, n_sequences: int) -> Tensor:
        """Return room for what each sequence lost."""
        return torch.zeros(len(self.ids), n_sequences, dtype=torch.bool, device=self.ids.device)

    def lost_texts(self, lost: Tensor) -> Tensor:
        """Return which texts (P,B) have lost a sequence."""
        return lost.view(len(self.ids), self.n_texts, -1).any(-1)

    def slots(self, positions: Sequence[int]) -> Tensor:
        """Return where the result of each row goes (n_segments,L), −1 for nowhere; negative positions are no rows."""
        slots = torch.full((self.n_segments * self.ids.shape[-1],), -1, dtype=torch.int32, device="cpu")
        if isinstance(positions, range) and positions.step == 1:  # one by one they would take as long as the pass
            begin = max(positions.start, 0)
            slots[begin : positions.stop] = torch.arange(begin, positions.stop, device="cpu") - positions.start
        else:
            rows = torch.tensor(positions, device="cpu")
            slots[rows[rows >= 0]] = torch.arange(len(rows), dtype=torch.int32, device="cpu")[rows >= 0]
        return slots.to(self.ids.device)

    def run(self, kernel: Any, *arrays: Tensor | None, n_sequences: int, **others: Any) -> None:
        """Run a pass over so many sequences of each model, in blocks."""
        self._launch(
            kernel,
            len(self.ids) * math.ceil(n_sequences / BLOCK),
            *arrays,
            n_sequences=n_sequences,
            length=self.ids.shape[-1],
            of_models=self.ids.stride(0),
            n_rows=self.table.shape[1],
            BLOCK=BLOCK,
            **others,
        )

    def boundaries(self, initial: Tensor | None) -> Boundaries:
        """Return the laws and messages at the ends of sequences: those of texts, or of linked segments."""
        n_models, n_sequences = self.ids.shape[:2]
        if self.n_segments > 1:
            return self._linked(initial)
        nothing = self.table.new_zeros(n_models, n_sequences)
        ones = self.table.new_ones(n_models, 1, self.table.shape[-1])
        start = None if initial is None else initial.detach()[:, None].contiguous()
        return Boundaries(start, ones, nothing, nothing, self.empty(), self.none_lost(n_sequences))

    def _linked(self, initial: Tensor | None) -> Boundaries:
        """Multiply out all segments, from each state, and link them."""
        n_models, n_sequences = self.ids.shape[:2]
        n_states, dtype = self.table.shape[-1], self.table.dtype
        each_state = torch.eye(n_states, dtype=dtype, device=self.table.device).expand(n_models, -1, -1).contiguous()
        matrices = self.table.new_empty(n_models, n_sequences * n_states, n_states)
        exponents = torch.empty(matrices.shape[:2], dtype=torch.int32, device=self.table.device)
        lost = self.none_lost(n_sequences * n_states)
        self.run(
            passes.forward,
            *(each_state, self.transition, self.table, self.ids, self.floor, None, matrices, exponents, lost),
            n_sequences=n_sequences * n_states,
            repeats=n_states,
            wrap=n_states,
        )
        lost, log_evidence = self.lost_texts(lost), self.empty()
        starts, ends = (self.table.new_empty(n_models, n_sequences, n_states) for _ in range(2))
        log_before, log_after = (self.table.new_empty(n_models, n_sequences) for _ in range(2))
        for kernel, *arrays in (
            (segments.link_messages, ends, log_after),
            (segments.link_laws, initial, starts, log_before, log_evidence),
        )[: 1 if initial is None else 2]:
            fades = self.none_lost(self.n_texts)
            self._launch(
                kernel,
                n_models * self.n_texts,
                *(matrices, exponents, self.floor, *arrays, fades),
                n_sequences=self.n_texts,
                n_segments=self.n_segments,
                EPSILON=torch.finfo(dtype).eps,
            )
            lost = lost | fades
        start = None if initial is None else starts
        return Boundaries(start, ends, log_before, log_after, log_evidence, lost)

    def _launch(self, kernel: Any, n_programs: int, *arrays: Tensor | None, **others: Any) -> None:
        n_states = self.table.shape[-1]
        with torch.cuda.device_of(self.table):
            kernel[(n_programs,)](
                *arrays,
                n_states=n_states,
                STATES=padded(n_states),
                num_warps=WARPS,
                num_stages=1,
                maxnreg=REGISTERS,
                **others,
            )


def segments_of(n_texts: int, n_rows: int, n_states: int) -> int:
    """Return into how many segments to cut each text: about √T where there are few texts, else one."""
    length = max(SHORTEST_SEGMENT, math.isqrt(n_rows))
    if n_texts * n_states > LAWS_AT_ONCE or n_rows < FEWEST_SEGMENTS * length:
        return 1
    return math.ceil(n_rows / length)


def padded(n_states: int) -> int:
    """Return the number of states with padding: a power of two of at least 16."""
    return max(16, 1 << (n_states - 1).bit_length())
