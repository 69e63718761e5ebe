"""Fits of several sizes by an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, as_completed
from typing import Any

from ppl_hmm.experiments.fits.store import Size


def finished(
    executor: Executor, fit: Callable[..., Size], sizes: Iterable[int], *arguments: Any
) -> Iterator[tuple[int, Size]]:
    """Yield each number of states with its fit, as they are finished; after an error no other is begun."""
    jobs = {executor.submit(fit, n_states, *arguments): n_states for n_states in sizes}
    try:
        for job in as_completed(jobs):
            yield jobs[job], job.result()
    finally:
        for job in jobs:
            job.cancel()
