"""Parameters padded to whole vectors, and the work on sequences cut into groups that threads share."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import torch

from ppl_hmm.exact.backends.compiled import passes, room, threads
from ppl_hmm.exact.backends.compiled.registers import lanes
from ppl_hmm.exact.backends.compiled.steps import FEW, TILE
from ppl_hmm.exact.backends.compiled.threads import Result
from ppl_hmm.exact.recursion import Chain

#: Sequences that take each step together where the transition leaves the nearest cache: they share what is read of it.
LARGEST_GROUP = 32
NEAREST_CACHE_BYTES = 1 << 14
#: Bytes of predictions that the gradient keeps at a time, unless the square root of the length is more.
SEGMENT_BYTES = 1 << 19
#: Multiplications that are worth another thread, whose start takes as long as a good part of a millisecond.
WORK_OF_A_THREAD = 1 << 23


@dataclasses.dataclass(frozen=True)
class Groups:
    """Parameters padded to whole vectors, and the work on them cut into groups of sequences."""

    forth: np.ndarray  # A in panels (P,N,K,W)
    back: np.ndarray  # Aᵀ in panels
    table: np.ndarray  # (P,R,K)
    ids: np.ndarray  # (P,B,T)
    floor: np.ndarray  # (P,)

    @classmethod
    def of(cls, chain: Chain) -> Groups:
        """Return those of a chain. Cost O(P·(K²+R·K))."""
        moves, rows = chain.transition.detach().numpy(), padded(chain.table.detach().numpy())
        forth = panels(moves)
        floor = np.empty(len(rows), rows.dtype)
        passes.floors(forth, rows, np.finfo(rows.dtype).tiny, floor)
        return cls(forth, panels(moves.swapaxes(1, 2)), rows, chain.ids.contiguous().numpy(), floor)

    @staticmethod
    def start(chain: Chain) -> np.ndarray:
        """Return the initial law (P,K), padded."""
        return padded(chain.initial.detach().numpy())

    def none_lost(self) -> np.ndarray:
        """Return False for each sequence."""
        return np.zeros(self.ids.shape[:2], bool)

    def empty(self, *shape: int) -> np.ndarray:
        """Return room for a result of each sequence."""
        return room.empty((*self.ids.shape[:2], *shape), self.table.dtype)

    @property
    def square(self) -> tuple[int, int]:
        """(K,K), padded: rows to whole tiles, columns to whole vectors."""
        return TILE * math.ceil(self.forth.shape[2] / TILE), self.table.shape[2]

    def work(self, n_planes: int, group_size: int | None = None) -> np.ndarray:
        """Return room for the laws of a group, several times."""
        return self._aligned(n_planes, group_size or self.group_size, self.table.shape[-1])

    def works(self, *n_planes: int, shape: tuple[int, int] | None = None) -> list[np.ndarray]:
        """Return several rooms for laws of a group, or for planes of another shape, at the cost of one."""
        whole = self._aligned(sum(n_planes), *(shape or (self.group_size, self.table.shape[-1])))
        ends = itertools.accumulate(n_planes)
        return [whole[end - n : end] for n, end in zip(n_planes, ends, strict=True)]

    def square_work(self) -> np.ndarray:
        """Return room for one (K,K) array."""
        return self._aligned(*self.square)

    def _aligned(self, *shape: int) -> np.ndarray:
        """Return zeros that start where a cache line does. Not torch's: it would wake its threads to fill them."""
        size, line = math.prod(shape) * self.table.itemsize, 64
        zeros = np.zeros(size + line, np.uint8)
        start = -zeros.__array_interface__["data"][0] % line
        return zeros[start : start + size].view(self.table.dtype).reshape(shape)

    @property
    def group_size(self) -> int:
        """How many sequences take each step together."""
        if self.ids.shape[1] <= FEW:
            return self.ids.shape[1]
        if self.forth[0].nbytes <= NEAREST_CACHE_BYTES or self.ids.shape[1] <= TILE:
            return TILE
        per_thread = math.ceil(self.ids.shape[1] / torch.get_num_threads())
        return min(LARGEST_GROUP, TILE * math.ceil(per_thread / TILE))

    @property
    def is_narrow(self) -> bool:
        """Whether few texts share laws that fit one vector: then each is fastest alone."""
        return self.ids.shape[1] <= FEW and self.forth.shape[1] == 1

    @property
    def are_columns(self) -> bool:
        """Whether laws leave half of a vector empty or more: then as many texts as it holds are fastest together."""
        return self.ids.shape[1] > FEW and 2 * self.forth.shape[2] <= lanes(self.table)

    def segment_length(self) -> int:
        """Return how many steps of a group's predictions are kept at a time."""
        one_step = self.group_size * self.table[0, 0].nbytes
        return min(self.ids.shape[2], max(SEGMENT_BYTES // one_step, math.isqrt(self.ids.shape[2] - 1) + 1))

    def share(
        self,
        part: Callable[[int, int], Result],
        n_products: int,
        parts_per_thread: int = 4,
        group_size: int | None = None,
    ) -> list[Result]:
        """Compute all groups, a part at a time, in threads where there is enough work; return the parts' results.

        A step of a sequence takes about as long as ``n_products`` products of a law and a matrix.
        """
        n_models, n_sequences, length = self.ids.shape
        group_size = group_size or self.group_size
        n_groups = n_models * math.ceil(n_sequences / group_size)
        work = n_groups * group_size * length * math.prod(self.square) * n_products
        n_threads = max(1, min(torch.get_num_threads(), n_groups, work // WORK_OF_A_THREAD))
        if n_threads == 1:
            return [part(0, n_groups)]
        n_parts = min(n_groups, n_threads * parts_per_thread)
        cuts = [n_groups * i // n_parts for i in range(n_parts + 1)]
        return threads.share(part, list(itertools.pairwise(cuts)), n_threads)


def padded(array: np.ndarray, value: float = 0.0) -> np.ndarray:
    """Return an array (…,K) padded with states of no weight, to a whole number of vectors and of tiles."""
    n_states, whole = array.shape[-1], max(TILE, lanes(array))
    room_for_all = np.empty((*array.shape[:-1], whole * math.ceil(n_states / whole)), array.dtype)
    room_for_all.fill(value)
    room_for_all[..., :n_states] = array
    return room_for_all


def panels(matrix: np.ndarray, value: float = 0.0) -> np.ndarray:
    """Return matrices (P,K,K) as panels (P,N,K,W) of one vector of columns each; only columns are padded."""
    whole = padded(matrix, value)
    return np.ascontiguousarray(whole.reshape(*whole.shape[:2], -1, lanes(whole)).swapaxes(1, 2))
