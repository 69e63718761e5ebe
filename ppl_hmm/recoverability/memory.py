"""Theorem M: when attention over masked conditionals reads a memory cell, and the weights that do.

G_i is a mixture of the emission rows W[a,h,:] that text can meet, stacked here as R (n,V): its weights are
P(M_cell(h)=a, H_i=h | x_{-i}). A row can be *read off* the mixture iff it is outside the span of all others, and then
column r of R⁺ is the linear form that does: (RR⁺)_r is the unit vector. Let all states of H* read the target cell j*,
and let Θ be the columns of R⁺ of their rows: ΘG_i is P(M_{j*}=a, H_i=h | x_{-i}), a ∈ [m], h ∈ H*. Then

    score   Σ_{a,h} W[a,h,x_i] (ΘG_i)_{a,h} / G_i[x_i]  =  P(H_i∈H* | x),
    value   Σ_{a,h} μ_a W[a,h,x_i] (ΘG_i)_{a,h}  =  G_i[x_i] · Σ_a μ_a P(M_{j*}=a, H_i∈H* | x),

so that the value at a position with score 1 has the sign of the margin μᵀP(M_{j*}|x), and at any other is off it, over
G_i[x_i], by at most ‖μ‖_∞ P(H_i∉H* | x). The condition asks for m|H*| + rank(others) tokens, where the flattened model
would ask for m^N·K. It is the paper's: the rows of H* are independent and their span meets that of the others at 0
only. As each row is tested by itself, the largest H* is simply all states whose rows pass.

*Residual* means here the most that Θ is off on a row, max_r ‖ΘR_r − e_r‖₁; ΘG_i, a mixture, is off by no more.

A prompt that restricts the cell to values 𝓜* takes the rows of its other values away. Source: Wei, Xie & Ma (2021),
Assumption 4.1, Theorems 4.3 and 4.6; the form R⁺, the bound, non-stationary prompts and N > 1 are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ppl_hmm.inference.rows import model_prompt
from ppl_hmm.models import MemoryHMM, MemoryPrompt
from ppl_hmm.models.kinds import Prompt
from ppl_hmm.recoverability.arguments import require_pair, require_thresholds
from ppl_hmm.recoverability.attending import MemoryCertificate
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.mixtures import (
    best_reading,
    form_rounding,
    own_and_others,
    rows_met,
    smallest_own_singular_value,
)
from ppl_hmm.recoverability.restriction import as_indices, restricting_prompt, restriction
from ppl_hmm.schema import Cause
from ppl_hmm.tasks import MemoryTask, on_possible_values, require_uncertain


def memory_certificate(
    model: MemoryHMM,
    task: MemoryTask,
    prompt: Prompt | None = None,
    *,
    recoverable_states: Sequence[int] | None = None,
    support_threshold: float = 0.0,
    tolerance: float = RESIDUAL_TOLERANCE,
) -> MemoryCertificate:
    """Return the certificate of Theorem M: without a prompt, or after one that restricts the memory.

    Parameters
    ----------
    model, task
        One model and one task of the same m.
    prompt
        :class:`MemoryPrompt` or rows (L,m,K), in front of the text.
    recoverable_states
        H*; by default all states that can be read off, the largest set there is.
    support_threshold
        δ ≥ 0: positions whose score is within δ of the best are attended to as well.
    tolerance
        Largest residual that counts as solved.

    Raises
    ------
    InvalidInput
        Batches, a task of another size or kind, states that do not exist, a negative threshold or tolerance.

    See Also
    --------
    constructed_attention : The attention head of a certificate whose condition holds.
    memory_prompt_certificate : The same after the best prompt that restricts the memory.

    Notes
    -----
    Cost O((mK)²·V), and O(m^N·L·K²) with a prompt.

    Examples
    --------
    >>> from ppl_hmm import example, memory_certificate
    >>> certificate = memory_certificate(*example("memory"))
    >>> print(certificate.verdict, certificate.recoverable_states)
    recoverable (1,)
    """
    require_pair("memory_certificate", model, task, MemoryHMM)
    require_uncertain("memory_certificate", model, task)
    require_thresholds(support_threshold, tolerance)
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    task = on_possible_values(model, task)
    cell, failures = int(task.target_cell), []
    allowed = torch.ones(model.n_memory_values, dtype=torch.bool, device=model.device)
    if prompt is not None:
        prompt = MemoryPrompt(model_prompt(model, prompt))
        allowed, failure = restriction(model, cell, prompt.rows)
        failures += [failure] if failure else _excluded(model, task, allowed)
    met = rows_met(model, cell, allowed)
    chosen = _as_states(recoverable_states, model) if recoverable_states is not None else None
    states, forms, residual = best_reading(model, met, cell, chosen, tolerance)
    failures += _failures(model, met, cell, states, residual, tolerance)
    reasons = failures or [f"states {_listed(states)} can be read off: residual {residual:.3g}, {int(met.sum())} rows"]
    if support_threshold > 0:
        reasons.append(f"support threshold {support_threshold:g}: right where the margin exceeds the bound")
    weights = forms[:, states]
    return MemoryCertificate(
        theorem="Theorem M (4.3)" if prompt is None else "Theorem M after a prompt (4.6)",
        weights=weights,
        residual=residual,
        margin_error=float(task.scale) * (residual + form_rounding(weights)),
        sigma_min=smallest_own_singular_value(model, met, states),
        support_threshold=support_threshold,
        tolerance=tolerance,
        cause=Cause.of_condition(not failures),
        reasons=tuple(reasons),
        model=model,
        task=task,
        prompt=prompt,
        recoverable_states=tuple(states),
        memory_values=tuple(allowed.nonzero()[:, 0].tolist()),
    )


def memory_prompt_certificate(
    model: MemoryHMM,
    task: MemoryTask,
    *,
    support_threshold: float = 0.0,
    tolerance: float = RESIDUAL_TOLERANCE,
) -> MemoryCertificate:
    """Return the certificate with the prompt that restricts the cell to the values that the task needs.

    No other restriction does better: fewer values leave fewer rows to tell apart. Its ``prompt`` is None where no
    prompt can restrict the memory; the verdict is then that without one.

    Parameters and errors as in :func:`memory_certificate`.

    See Also
    --------
    memory_certificate : After a given prompt, or none.
    restricting_prompt : The prompt that it looks for.
    constructed_prompt : The prompt alone.

    Examples
    --------
    >>> from ppl_hmm import example, memory_prompt_certificate
    >>> certificate = memory_prompt_certificate(*example("memory"))
    >>> print(certificate.verdict, certificate.memory_values)
    recoverable (0, 1)
    """
    require_pair("memory_prompt_certificate", model, task, MemoryHMM)
    cell = int(task.target_cell)
    needed = (task.contrasts != 0).any(0) & (model.memory_prior[cell] > 0)
    values = needed.nonzero()[:, 0].tolist() or list(range(model.n_memory_values))
    prompt = restricting_prompt(model, cell, values)
    return memory_certificate(model, task, prompt, support_threshold=support_threshold, tolerance=tolerance)


def _as_states(states: Sequence[int], model: MemoryHMM) -> list[int]:
    return sorted(set(as_indices("recoverable_states", states, model.n_states)))


def _failures(
    model: MemoryHMM, met: Tensor, cell: int, states: list[int], residual: float, tolerance: float
) -> list[str]:
    """Return which parts of the condition fail for H*."""
    if not states:
        return [f"one cell: no state that text can be in reads cell {cell}"]
    elsewhere = [state for state in states if int(model.cell_of_state[state]) != cell]
    failures = [f"one cell: states {_listed(elsewhere)} do not read cell {cell}"] if elsewhere else []
    if residual > tolerance:
        own, _ = own_and_others(model, met, states)
        alone = own @ torch.linalg.pinv(own) if len(own) else own.new_zeros(0, 0)
        identity = torch.eye(len(own), dtype=own.dtype, device=own.device)
        dependent = (alone - identity).abs().sum(1).max() > tolerance if len(own) else True
        name = "independence: the rows of" if dependent else "span: other rows share directions with those of"
        failures.append(f"{name} states {_listed(states)}; residual {residual:.3g}")
    return failures


def _excluded(model: MemoryHMM, task: MemoryTask, allowed: Tensor) -> list[str]:
    cell = int(task.target_cell)
    outside = (task.contrasts != 0).any(0) & (model.memory_prior[cell] > 0) & ~allowed
    values = outside.nonzero()[:, 0].tolist()
    return [f"the task needs values {_listed(values)} of cell {cell}, which the prompt excludes"] if values else []


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
