"""Prompts that restrict a memory cell to some of its values, and change nothing else."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.configurations import configurations, prior_of_cells, select_rows
from ppl_hmm.inference.rows import memory_arrays
from ppl_hmm.models import MemoryHMM, MemoryPrompt
from ppl_hmm.recoverability.arguments import require_model

# A prompt restricts the memory if what enters the text is π₀ up to this, relative to each entry.
_RESTRICTION_TOLERANCE = 1e-12


def restricting_prompt(model: MemoryHMM, cell: int, values: Sequence[int]) -> MemoryPrompt | None:
    """Return a prompt after which the posterior of the memory is P(M | x, M_cell ∈ values), for every text; or None.

    The chain must then start again from π₀. Let 𝓜* be the values. Where all states that may be first read the cell, one
    token u[a,h] = 1[a∈𝓜*]·π₀(h)/(π₀A)(h) does it, if it is defined. Otherwise one token tests the cell and another
    repairs: u_1[a,h] = 1[h reads the cell, a∈𝓜*], which leaves r = π₀A on the cell's states, then u_2[a,h] =
    π₀(h)/(rA)(h). None where neither is defined: π₀ is positive where the denominator is zero.

    Raises
    ------
    InvalidInput
        No memory model or a batch, a cell or values that do not exist, no value.

    See Also
    --------
    memory_prompt_certificate : With the values that a task needs.
    MemoryPrompt : What it returns.

    Examples
    --------
    >>> from ppl_hmm import example, restricting_prompt
    >>> model, _ = example("memory")
    >>> restricting_prompt(model, 0, values=[0]).rows.numpy().round(2).tolist()
    [[[1.0, 0.87], [0.0, 0.0]]]
    """
    require_model("restricting_prompt", model, MemoryHMM)
    (cell,) = as_indices("cell", [cell], model.n_cells)
    values = as_indices("memory values", values, model.n_memory_values)
    model = model.detach().to(torch.float64)
    first = model.initial @ model.transition
    reads_cell = model.cell_of_state == cell
    allowed = torch.zeros(model.n_memory_values, dtype=first.dtype, device=first.device)
    allowed[values] = 1.0
    start = model.initial > 0
    if reads_cell[start].all() and (first[start] > 0).all():
        return _prompt(allowed[:, None] * _ratio(model.initial, first))
    tested = first * reads_cell
    repaired = tested @ model.transition
    if (repaired[start] > 0).all():
        return _prompt(allowed[:, None] * reads_cell, _ratio(model.initial, repaired).expand(len(allowed), -1))
    return None


def restriction(model: MemoryHMM, cell: int, rows: Tensor) -> tuple[Tensor, str | None]:
    """Return the values (m,) of the cell that prompt rows (L,m,K) allow, and what else the prompt does, if anything.

    It must leave every memory with an allowed value at κ·π₀, the same κ for all, and the others at zero.
    """
    memory_arrays(model)  # refuses more memories than can be looked at
    memories = configurations(model.n_cells, model.n_memory_values)
    memories = memories[(prior_of_cells(model.memory_prior, memories) > 0).all(-1).cpu()]
    law = model.initial.expand(len(memories), -1)
    for row in select_rows(rows.movedim(0, -1), model.cell_of_state, memories).unbind(-1):  # (C,K)
        law = law @ model.transition * row
        law = law / law.amax().clamp(min=torch.finfo(law.dtype).tiny)  # the scale of a row means nothing
    possible = (law > 0).any(-1)
    of_cell = memories[:, cell].to(law.device)
    values = torch.arange(model.n_memory_values, device=law.device)
    allowed = ((of_cell == values[:, None]) & possible).any(-1)
    if not allowed.any():
        return allowed, "the prompt has probability zero"
    if not torch.equal(possible, allowed[of_cell]):
        return allowed, f"the prompt excludes values of other cells than cell {cell}"
    scale = law[possible].sum() / possible.sum()  # κ, as π₀ sums to one
    excess = (law[possible] - scale * model.initial).abs() > _RESTRICTION_TOLERANCE * scale * model.initial
    if excess.any():
        return allowed, "the prompt does more than restrict the memory: the chain does not start again from π₀ after it"
    return allowed, None


def _prompt(*rows: Tensor) -> MemoryPrompt:
    """Return the prompt of rows (m,K), each scaled to a largest entry of one."""
    return MemoryPrompt(torch.stack([row / row.amax() for row in rows]))


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return above/below, zero where above is."""
    return torch.where(above > 0, above / torch.where(above > 0, below, 1), 0)


def as_indices(what: str, values: Sequence[int], size: int) -> list[int]:
    """Return at least one integer, all in 0..size−1."""
    try:
        indices = [operator.index(value) for value in values]
    except TypeError:
        indices = []
    if not indices or not all(0 <= index < size for index in indices):
        raise InvalidInput(what, f"some of 0..{size - 1}", repr(values), "pass integers, counted from 0")
    return indices
