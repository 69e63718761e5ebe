"""Random families of memory-augmented models.

``wei2021-memory`` is the regime of Figure 3 (right) of Wei, Xie & Ma (2021): one cell, nearly deterministic transitions
and emissions. The released code draws the memory and the initial state together from one softmax; ours are
independent, with the marginals of that law (within 0.02 of it in total variation).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU, Seed
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.models import MemoryHMM
from ppl_hmm.regimes.draws import dirichlet_rows, mixture_of_permutations, softmax_rows
from ppl_hmm.regimes.hmm import INITIAL_TEMPERATURE, TEMPERATURE
from ppl_hmm.regimes.registry import MEMORY_REGIMES, register_memory

_BREAKS = ("independence", "span", "cell")


def random_memory_hmm(
    regime: str,
    n_states: int,
    n_memory_values: int,
    vocabulary_size: int,
    seed: Seed,
    *,
    n_cells: int = 1,
    **options: Any,
) -> MemoryHMM:
    """Return a random memory-augmented model of a named regime.

    Parameters
    ----------
    regime
        ``'wei2021-memory'`` (options ``temperature`` and ``initial_temperature``, by default 0.01 and 10): nearly
        deterministic, one cell. ``'dirichlet'`` (option ``concentration``, 1 by default):
        rows from a symmetric Dirichlet, states that read random cells. ``'recoverable'`` (options ``n_recoverable`` r,
        ``breaks``, ``concentration``): states 0..r−1 meet Theorem M for cell 0, and only they emit token 0; with
        ``breaks`` one condition fails for them: ``'independence'`` (a row is a mixture of the others), ``'span'``
        (another state's row is), or ``'cell'`` (state r−1 reads cell 1).
    n_states, n_memory_values, vocabulary_size, n_cells
        K, m, V and N.
    seed
        Same seed, same model.

    Raises
    ------
    InvalidInput
        Unknown regime (with the list) or option, a size below one, sizes that leave no room for what is asked; a
        registered function that returns something else than a model of these sizes.

    See Also
    --------
    ppl_hmm.random_hmm : models without a memory
    ppl_hmm.random_task : a task on a cell of the memory
    ppl_hmm.regimes.register_memory : add a family of one's own

    Examples
    --------
    >>> from ppl_hmm import random_memory_hmm
    >>> model = random_memory_hmm("wei2021-memory", 4, 2, 10, seed=0)
    >>> model.n_states, model.n_memory_values, model.n_cells
    (4, 2, 1)
    """
    sizes = (
        at_least("n_states", n_states, 1),
        at_least("n_memory_values", n_memory_values, 1),
        at_least("vocabulary_size", vocabulary_size, 1),
        at_least("n_cells", n_cells, 1),
    )
    return MEMORY_REGIMES.build(regime, sizes, seed, options)


@register_memory("wei2021-memory")
def _wei2021(
    n_states: int,
    n_values: int,
    vocabulary_size: int,
    n_cells: int,
    stream: torch.Generator,
    *,
    temperature: float = TEMPERATURE,
    initial_temperature: float = INITIAL_TEMPERATURE,
) -> MemoryHMM:
    if n_cells != 1:
        raise InvalidInput("n_cells of regime 'wei2021-memory'", "1", str(n_cells), "choose 'dirichlet' for more")
    joint = softmax_rows(n_values * n_states, temperature=initial_temperature, stream=stream).view(n_values, n_states)
    return MemoryHMM(
        memory_prior=joint.sum(1)[None],
        initial=joint.sum(0),
        transition=mixture_of_permutations(n_states, n_values * n_states, temperature, stream),
        cell_of_state=torch.zeros(n_states, dtype=torch.int64, device=CPU),
        emission=softmax_rows(n_values, n_states, vocabulary_size, temperature=temperature, stream=stream),
    )


@register_memory("dirichlet")
def _dirichlet(
    n_states: int,
    n_values: int,
    vocabulary_size: int,
    n_cells: int,
    stream: torch.Generator,
    *,
    concentration: float = 1.0,
) -> MemoryHMM:
    return MemoryHMM(
        memory_prior=dirichlet_rows((n_cells, n_values), concentration, stream),
        initial=dirichlet_rows((n_states,), concentration, stream),
        transition=dirichlet_rows((n_states, n_states), concentration, stream),
        cell_of_state=torch.randint(n_cells, (n_states,), generator=stream, device=CPU),
        emission=dirichlet_rows((n_values, n_states, vocabulary_size), concentration, stream),
    )


@register_memory("recoverable")
def _recoverable(
    n_states: int,
    n_values: int,
    vocabulary_size: int,
    n_cells: int,
    stream: torch.Generator,
    *,
    n_recoverable: int = 1,
    breaks: str | None = None,
    concentration: float = 1.0,
) -> MemoryHMM:
    n_recoverable = at_least("n_recoverable", n_recoverable, 1)
    n_rows, n_others = n_values * n_recoverable, n_states - n_recoverable
    room = vocabulary_size - n_rows  # dimensions left for the other rows
    needed = {
        None: n_others >= 0 and room >= (n_others > 0),
        "independence": n_others >= 0 and n_rows >= 2 and room >= (n_others > 0),
        "span": n_others >= 1 and room >= 1,
        "cell": n_others >= 0 and n_cells >= 2 and room >= (n_others > 0),
    }
    if breaks not in (None, *_BREAKS):
        raise InvalidInput("breaks", f"None or one of {', '.join(_BREAKS)}", repr(breaks), "choose from the list")
    if not needed[breaks]:
        raise InvalidInput(
            "sizes of regime 'recoverable'",
            "n_recoverable ≤ K, m·n_recoverable < V, and two rows, states or cells for what breaks",
            f"K={n_states}, m={n_values}, V={vocabulary_size}, N={n_cells}, n_recoverable={n_recoverable}, {breaks=}",
            "use more tokens, or fewer recoverable states",
        )
    model = _dirichlet(n_states, n_values, vocabulary_size, n_cells, stream, concentration=concentration)
    cells, emission = model.cell_of_state.clone(), model.emission.clone()
    cells[:n_recoverable] = 0
    emission[:, n_recoverable:] = _rows_of_rank(min(room, n_values * n_others), (n_values, n_others), emission, stream)
    recoverable = emission[:, :n_recoverable].reshape(n_rows, vocabulary_size)
    if breaks == "independence":
        emission[-1, n_recoverable - 1] = recoverable[:-1].mean(0)
    elif breaks == "span":
        emission[0, -1] = recoverable.mean(0)
    elif breaks == "cell":
        cells[n_recoverable - 1] = 1
    return MemoryHMM(model.memory_prior, model.initial, model.transition, cells, emission)


def _rows_of_rank(rank: int, shape: tuple[int, int], like: Tensor, stream: torch.Generator) -> Tensor:
    """Return rows (*shape,V) that mix ``rank`` distributions, none of which has token 0."""
    base = dirichlet_rows((rank, like.shape[-1] - 1), 1.0, stream) if rank else like.new_zeros(0, like.shape[-1] - 1)
    mixtures = dirichlet_rows((*shape, rank), 1.0, stream) if rank else like.new_zeros(*shape, 0)
    return torch.nn.functional.pad(mixtures @ base, (1, 0))
