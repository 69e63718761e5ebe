"""Attention with a memory against a linear head without, with trained language models beside the exact ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.experiments.engine.grid import Cell
from ppl_hmm.experiments.engine.runner import Progress
from ppl_hmm.experiments.figure3.answers import Answer, columns
from ppl_hmm.experiments.figure3.reproduction import reproduce
from ppl_hmm.experiments.figure3.text import LabelledText, draw
from ppl_hmm.experiments.trained.configurations import MemoryVsVanillaTrained
from ppl_hmm.experiments.trained.learned import trained
from ppl_hmm.experiments.trained.tuning import Tuned, attention_tuned, distance, head_tuned
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.regimes import random_hmm, random_memory_hmm

_UNITS = {
    schema.TOTAL_VARIATION: {"units": "1", "long_name": "to the exact law where the head reads, mean over test texts"},
    schema.EXCESS: {"units": "nat", "long_name": "held-out loss over the best, where the head reads"},
}


def memory_vs_vanilla_trained(
    states: Sequence[int],
    seeds: int,
    out: str | Path,
    *,
    workers: int = 2,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **sizes: Any,
) -> xr.DataTree:
    """Compute both readers on trained language models beside exact ones, or continue it.

    At each size S and each seed, two arms on the models, texts and tasks of :func:`ppl_hmm.memory_vs_vanilla`: a model
    with a memory of S/4 values, read by softmax attention over all positions, and a model of S states without, read by
    a linear head at a mask. For each arm a language model is trained; the readers learn on exact conditionals and on
    its own.

    Parameters
    ----------
    states
        Sizes S: multiples of 4, at least 8.
    seeds, out, workers, executor, progress
        As of :func:`ppl_hmm.head_vs_prompt`.
    sizes
        Other fields of :class:`ppl_hmm.experiments.trained.configurations.MemoryVsVanillaTrained`: ``language_model``
        (``'gru'`` or ``'transformer'``), ``objective``, ``budget`` (steps of training), ``length``, ``n_train``, …

    Returns
    -------
    xarray.DataTree
        ``/results`` with ``accuracy(approach, n_states, seed)`` for the approaches ``attention-softmax``,
        ``attention-trained``, ``vanilla-linear`` and ``vanilla-trained``; by approach, where its reader reads,
        ``total_variation`` to the exact law and ``excess`` in nats, zero for exact ones; ``/published``; ``/settings``;
        ``/timings``.

    Raises
    ------
    InvalidInput, ForeignFile, OtherConfiguration, WorkerLost, NoBalancedTask
        As :func:`ppl_hmm.memory_vs_vanilla`; a transformer without the extra ``lm``.

    See Also
    --------
    ppl_hmm.memory_vs_vanilla : The exact language models alone.
    ppl_hmm.head_vs_prompt_trained : The other panel.

    Notes
    -----
    Attention reads every position: from a transformer each costs a pass of its own.

    Examples
    --------
    >>> import tempfile, ppl_hmm
    >>> little = {"length": 8, "n_train": 60, "n_validation": 30, "n_test": 30}
    >>> tree = ppl_hmm.memory_vs_vanilla_trained([8], 1, tempfile.mkdtemp(), workers=1, budget=2, **little)
    >>> tree["results/accuracy"].approach.values.tolist()
    ['attention-softmax', 'attention-trained', 'vanilla-linear', 'vanilla-trained']
    """
    return reproduce(
        MemoryVsVanillaTrained,
        _compute,
        states,
        seeds,
        out,
        workers=workers,
        executor=executor,
        progress=progress,
        **sizes,
    )


class _Arm(NamedTuple):
    """Models with their text, the reader of it, and what the results are called."""

    data: LabelledText[Any]
    read: Callable[[Any, LabelledText[Any], int], Tuned]
    approaches: tuple[str, str]  # on exact conditionals, on trained ones
    excess: str  # which excess of a training is that of the positions read


def _compute(settings: MemoryVsVanillaTrained, cell: Cell) -> xr.Dataset:
    size, n_states, n_tokens = cell[schema.N_STATES], settings.states_per_value, settings.vocabulary_size
    with_memory = draw(settings, cell, random_memory_hmm, "wei2021-memory", n_states, size // n_states, n_tokens)
    vanilla = draw(settings, cell, random_hmm, "wei2021", size, n_tokens)
    arms = (
        _Arm(
            with_memory, attention_tuned, (schema.ATTENTION_SOFTMAX, schema.ATTENTION_TRAINED), schema.EXCESS
        ),
        _Arm(vanilla, head_tuned, (schema.VANILLA_LINEAR, schema.VANILLA_TRAINED), schema.EXCESS_AT_READ_POSITION),
    )
    answers, measured = [], []
    for arm in arms:
        found, distances = _on_both(settings, cell, arm)
        answers.append((arm.data, found))
        measured.append(distances)
    by_approach = (schema.APPROACH, schema.SEED)
    both = dict(zip(_UNITS, np.concatenate(measured, axis=1), strict=True))
    return columns(*answers).assign({name: (by_approach, both[name], units) for name, units in _UNITS.items()})


def _on_both(settings: MemoryVsVanillaTrained, cell: Cell, arm: _Arm) -> tuple[list[Answer], np.ndarray]:
    """Return the answers on exact and on trained conditionals, and distances (2,2,P) from exact: TV, then excess."""
    tuned: list[tuple[Tuned, Tuned]] = []
    excesses = []
    for p, (model, seed) in enumerate(zip(arm.data.models, cell.seeds, strict=True)):
        training = trained(settings, model, cell[schema.N_STATES], seed)
        tuned.append((arm.read(OracleLM(model), arm.data, p), arm.read(training.lm, arm.data, p)))
        excesses.append(float(training.log[arm.excess][-1]))
    answers = [
        Answer(approach, [each.accuracy for each in own], [each.separable for each in own])
        for approach, own in zip(arm.approaches, zip(*tuned, strict=True), strict=True)
    ]
    of_trained = np.array([[distance(exact, own, arm.data) for exact, own in tuned], excesses])
    return answers, np.stack([np.zeros_like(of_trained), of_trained], axis=1)
