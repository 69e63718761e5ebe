"""The backend ``numba``: compiled loops on the CPU, in as many threads as torch would use.

Sequences go in groups through vectors of the machine's width (:mod:`~ppl_hmm.exact.backends.compiled.vectors`),
combined into steps of the recursions (``steps``), those into passes (``passes``, ``gradient``). Here results are
allocated, and groups are shared among threads (``groups``).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ppl_hmm.exact.algebra import safe_log
from ppl_hmm.exact.backends.compiled import passes, paths as compiled_paths
from ppl_hmm.exact.backends.compiled.columns import PLACES, STATES_AT_ONCE, gradient_by_columns
from ppl_hmm.exact.backends.compiled.gradient import gradient
from ppl_hmm.exact.backends.compiled.groups import Groups, padded, panels
from ppl_hmm.exact.backends.compiled.narrow import narrow_gradient
from ppl_hmm.exact.backends.compiled.registers import lanes
from ppl_hmm.exact.backends.contract import Filtered, ForwardBackward, Gradient, Lost, Messages, Paths
from ppl_hmm.exact.path_counts import PathCounts
from ppl_hmm.exact.recursion import Chain
from ppl_hmm.exact.underflow import smallest_total


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A :class:`~ppl_hmm.exact.backends.contract.Backend` for float32 and float64 on the CPU."""

    def evidence(self, chain: Chain) -> tuple[Tensor, Lost]:
        """Return log P(x)."""
        groups = Groups.of(chain)
        lost, evidence = groups.none_lost(), groups.empty()
        start, arrays = groups.start(chain), (groups.table, groups.ids, groups.floor)

        def part(first: int, last: int) -> None:
            passes.evidence(first, last, groups.work(2), start, groups.forth, *arrays, evidence, lost)

        groups.share(part, 1)
        return torch.from_numpy(evidence), torch.from_numpy(lost)

    def smooth(self, chain: Chain, positions: Sequence[int], own_token: bool) -> tuple[ForwardBackward, Lost]:
        """Return marginals, or cavities, at positions."""
        groups, n_states = Groups.of(chain), chain.initial.shape[-1]
        lost, evidence, law_of_start = groups.none_lost(), groups.empty(), groups.empty(1, n_states)
        marginals = groups.empty(len(positions), n_states)
        log_contexts = groups.empty(0 if own_token else len(positions))
        slots = _slots(positions, chain.ids.shape[-1])[1:]
        start = groups.start(chain)
        arrays = (groups.forth, groups.back, groups.table, groups.ids, groups.floor)
        results = (evidence, law_of_start, marginals, log_contexts, lost)
        limit = smallest_total(chain.table.dtype)

        def part(first: int, last: int) -> None:
            passes.smooth(first, last, groups.work(2), start, *arrays, limit, slots, own_token, *results)

        groups.share(part, 3)
        log_evidence, of_start, kept, contexts, which = map(torch.from_numpy, results)
        return ForwardBackward(log_evidence, of_start[:, :, 0], kept, None if own_token else contexts), which

    def filter(self, chain: Chain, positions: Sequence[int]) -> tuple[Filtered, Lost]:
        """Return laws of the state given the rows up to positions."""
        groups = Groups.of(chain)
        slots = _slots(positions, chain.ids.shape[-1])
        lost = groups.none_lost()
        results = (groups.empty(len(positions), chain.table.shape[-1]), groups.empty(len(positions)), lost)
        arrays = (groups.start(chain), groups.forth, groups.table, groups.ids, groups.floor)

        def part(first: int, last: int) -> None:
            passes.filtered(first, last, groups.work(2), *arrays, slots, *results)

        groups.share(part, 1)
        laws, log_prefix, which = map(torch.from_numpy, results)
        return Filtered(laws, log_prefix), which

    def messages(self, chain: Chain, positions: Sequence[int]) -> tuple[Messages, Lost]:
        """Return backward messages after positions."""
        groups = Groups.of(chain)
        slots = _slots(positions, chain.ids.shape[-1])
        lost = groups.none_lost()
        results = (groups.empty(len(positions), chain.table.shape[-1]), groups.empty(len(positions)), lost)

        def part(first: int, last: int) -> None:
            passes.messages(
                first, last, groups.work(2), groups.back, groups.table, groups.ids, groups.floor, slots, *results
            )

        groups.share(part, 2)
        kept, log_scales, which = map(torch.from_numpy, results)
        return Messages(kept, log_scales), which

    def gradient(
        self, chain: Chain, weights: Tensor, lengths: Tensor | None = None
    ) -> tuple[Gradient, Tensor, Lost]:
        """Return expected counts over parameters, and log P(x); memory O(√T·K) for each of a few sequences."""
        groups, dtype = Groups.of(chain), chain.table.dtype
        lost, counted, start = groups.none_lost(), weights.contiguous().numpy(), groups.start(chain)
        ends = np.full(lost.shape, chain.ids.shape[-1]) if lengths is None else lengths.contiguous().numpy()
        texts, log_evidence = (groups.ids, ends, groups.floor, smallest_total(dtype)), groups.empty()
        arrays = (start, groups.forth, groups.back, groups.table, *texts)
        length, k = groups.segment_length(), chain.initial.shape[-1]
        n_segments = math.ceil(chain.ids.shape[-1] / length)
        laws = (n_segments, 1 + length, length)

        def part(first: int, last: int) -> list[np.ndarray]:
            shapes = (start.shape[1:], groups.square, groups.table.shape[1:])
            sums = [np.zeros((len(chain.ids), *shape)) for shape in shapes]
            results = (counted, *sums, log_evidence, lost)
            if groups.are_columns:
                columns = (STATES_AT_ONCE * math.ceil(k / STATES_AT_ONCE), lanes(groups.table))
                scratch = groups.works(PLACES, *laws, length, shape=columns)
                gradient_by_columns(first, last, *scratch, *arrays, *results)
            else:
                scratch = (*groups.works(4, *laws), groups.square_work())
                (narrow_gradient if groups.is_narrow else gradient)(first, last, *scratch, *arrays, *results)
            return sums

        group_size = lanes(groups.table) if groups.are_columns else None
        parts = groups.share(part, 5, parts_per_thread=1, group_size=group_size)
        of_initial, of_transition, of_table = (functools.reduce(np.add, each) for each in zip(*parts, strict=True))
        whole = (of_initial[:, :k], of_transition[:, :k, :k], of_table[:, :, :k])
        gradients = (torch.from_numpy(each).to(dtype) for each in whole)
        return Gradient(*gradients), torch.from_numpy(log_evidence), torch.from_numpy(lost)

    def best_path(self, chain: Chain) -> Paths:
        """Return the best path of each sequence."""
        groups, nothing, ids = Groups.of(chain), -torch.inf, chain.ids
        start, forth, rows = (safe_log(array).numpy() for array in chain.parameters)
        back, rows = panels(forth.swapaxes(1, 2), nothing), padded(rows, nothing)
        paths = np.empty((*ids.shape[:2], 1, 1 + ids.shape[-1]), np.int64)

        def part(first: int, last: int) -> None:
            messages = groups.work(1 + ids.shape[-1], group_size=1)
            compiled_paths.best_path(first, last, groups.work(1), messages, start, forth, back, rows, groups.ids, paths)

        groups.share(part, 2)
        return torch.from_numpy(paths)

    def sample_paths(self, chain: Chain, n_draws: int, generator: torch.Generator) -> tuple[Paths, Lost]:
        """Return draws from P(H₀..H_T | x)."""
        groups, ids = Groups.of(chain), chain.ids
        shape, lost = (*ids.shape[:2], n_draws), groups.none_lost()
        uniforms = _uniforms(1 + ids.shape[-1], shape, groups.table.dtype, generator)
        paths = np.empty((*shape, 1 + ids.shape[-1]), np.int64)
        start, moves = (array.contiguous().numpy() for array in (chain.initial, chain.transition))
        parameters = (start, moves, groups.back, groups.table)

        def part(first: int, last: int) -> None:
            scratch = (groups.work(1), groups.work(1 + ids.shape[-1]))
            compiled_paths.sample_paths(
                first, last, *scratch, *parameters, groups.ids, groups.floor, uniforms, paths, lost
            )

        groups.share(part, 2)
        return torch.from_numpy(paths), torch.from_numpy(lost)

    def path_counts(
        self, chain: Chain, lengths: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, PathCounts, Lost]:
        """Return log P(x), and the counts of one path drawn for each text; memory O(T·K) for each of a few."""
        groups, shape = Groups.of(chain), chain.ids.shape
        lost, log_evidence, ends = groups.none_lost(), groups.empty(), lengths.contiguous().numpy()
        uniforms = _uniforms(1 + shape[-1], (*shape[:2], 1), groups.table.dtype, generator)
        parameters = (groups.start(chain), padded(chain.transition.numpy()), groups.back, groups.table)
        texts = (groups.ids, ends, groups.floor, smallest_total(chain.table.dtype), uniforms)

        def part(first: int, last: int) -> list[np.ndarray]:
            counts = [np.zeros(each.shape) for each in chain.parameters]
            scratch = (groups.work(1), groups.work(1 + shape[-1]))
            compiled_paths.path_counts(first, last, *scratch, *parameters, *texts, *counts, log_evidence, lost)
            return counts

        counted = (functools.reduce(np.add, each) for each in zip(*groups.share(part, 2, 1), strict=True))
        counts = PathCounts(*(torch.from_numpy(each).to(chain.table.dtype) for each in counted))
        return torch.from_numpy(log_evidence), counts, torch.from_numpy(lost)


def _slots(positions: Sequence[int], length: int) -> np.ndarray:
    """Return where the result after each row t goes, as entry t + 1 (0 is before any row): −1 for nowhere."""
    slots = np.full(1 + length, -1)
    if isinstance(positions, range) and positions.step == 1:  # one by one they would take as long as the pass
        slots[1 + positions.start : 1 + positions.stop] = np.arange(len(positions))
    else:
        slots[[1 + t for t in positions]] = np.arange(len(positions))
    return slots


def _uniforms(n_steps: int, shape: tuple[int, ...], dtype: np.dtype, generator: torch.Generator) -> np.ndarray:
    """Return uniform numbers (S,…) in the order of the recursion, which draws as it goes."""
    uniforms = np.empty((n_steps, *shape), dtype)
    for each in torch.from_numpy(uniforms):
        torch.rand(*shape, generator=generator, out=each, device="cpu")
    return uniforms
