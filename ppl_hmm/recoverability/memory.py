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

import dataclasses
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from ppl_hmm.base.tokens import as_text
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.configurations import configurations, prior_of_cells, select_rows
from ppl_hmm.inference.queries import Posterior, masked_conditionals, posterior
from ppl_hmm.inference.rows import memory_arrays, model_prompt
from ppl_hmm.models import MemoryHMM, MemoryPrompt
from ppl_hmm.models.kinds import Prompt, Text
from ppl_hmm.recoverability.attention import hard_attention, observed, of_token, read
from ppl_hmm.recoverability.certificate import (
    RESIDUAL_TOLERANCE,
    Certificate,
    SignAgreement,
    Verdict,
    require_model,
    require_pair,
    require_thresholds,
)
from ppl_hmm.recoverability.head import smallest_row_singular_value
from ppl_hmm.tasks import MemoryTask, decide, on_possible_values, require_uncertain

# Singular values of R below these shares of the largest count as zero: rows that nearly coincide are taken as equal
# where that reads the others off better.
_RANK_TOLERANCES = (1e-12, 1e-9, 1e-6)
# Relative error of an exact conditional, of text of hundreds of tokens.
_ROUNDING = 1e-14
# Rounding takes more from the score of a sure position the rarer its token is: up to 100 times are allowed for.
_SURE = 100
# A prompt restricts the memory if what enters the text is π₀ up to this, relative to each entry.
_RESTRICTION_TOLERANCE = 1e-12


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MemoryCertificate(Certificate):
    """The certificate of Theorem M, also after a prompt that restricts the memory.

    Attributes
    ----------
    weights
        Θ (m,|H*|,V): reads P(M_{j*}=a, H_i=h | x_{-i}) off G_i; zero for values that the prompt or the prior excludes.
    recoverable_states
        H*, in increasing order; empty where there is none.
    memory_values
        𝓜*, the values of the cell that the prompt allows; all without a prompt.
    residual
        max_r ‖ΘR_r − e_r‖₁ over the rows that text can meet.
    margin_error
        ‖μ‖_∞ (residual + rounding of ΘG_i): over G_i[x_i] it bounds the error of a value beside ‖μ‖_∞ P(H_i∉H*|x).
    sigma_min
        Smallest singular value of the rows of H* projected off the span of the others, 1/‖Θ‖₂ where the condition
        holds.
    support_threshold
        δ: positions whose score is within δ of the best are attended to as well.
    """

    recoverable_states: tuple[int, ...]
    memory_values: tuple[int, ...]
    model: MemoryHMM = dataclasses.field(repr=False)
    task: MemoryTask = dataclasses.field(repr=False)
    prompt: MemoryPrompt | None = dataclasses.field(default=None, repr=False)

    @property
    def context_score_weights(self) -> Tensor:
        """Q (V+1,V), the same row for all tokens: qᵀG_i = P(H_i∈H* | x_{-i})."""
        return self.weights.sum((0, 1)).expand(1 + self.weights.shape[-1], -1)

    @property
    def score_weights(self) -> Tensor:
        """Q (V+1,V): Q[x_i]ᵀG_i / G_i[x_i] = P(H_i∈H* | x), less what residual and rounding may add to it.

        So a score never promises too much: where G_i[x_i] is tiny, the form says little and its score is low.
        """
        exact = torch.einsum("ahx,ahv->xv", self._likelihoods, self.weights)
        largest = self._likelihoods.flatten(0, 1).amax(0) if self.recoverable_states else exact.new_zeros(len(exact))
        return exact - (self._reading_error * largest)[:, None]  # ΣG = 1

    @property
    def value_weights(self) -> Tensor:
        """B (1 or C,V+1,V): B_c[x_i]ᵀG_i = G_i[x_i] · Σ_a μ_{c,a} P(M_{j*}=a, H_i∈H* | x)."""
        return torch.einsum("ca,ahx,ahv->cxv", self.task.contrasts.to(self.weights), self._likelihoods, self.weights)

    @property
    def attention_tolerance(self) -> float:
        """Positions whose score is within it of the best are attended to: δ, and what rounding may cost a sure one."""
        return self.support_threshold + _SURE * _reading_rounding(self.weights)

    @property
    def _reading_error(self) -> float:
        return self.residual + _reading_rounding(self.weights)

    @property
    def _likelihoods(self) -> Tensor:
        """P(x | M_{j*}=a, H=h) (m,|H*|,V+1), the last for ``MASK``."""
        rows = self.model.emission[:, list(self.recoverable_states)]
        return torch.nn.functional.pad(rows, (0, 1), value=1.0)

    def coverage(self, tokens: Text, lengths: Text | None = None) -> Tensor:
        """Return max_i P(H_i∈H* | x) (B,) by exact inference; a text where it is at least 1−δ is covered.

        At its best position the value of a covered text is right up to ‖μ‖_∞ δ. Zero for text that is impossible after
        the prompt, or has no position. Cost as :func:`ppl_hmm.posterior`.
        """
        text, present = self._text(tokens, lengths)
        exact = posterior(self.model, text, prompt=self.prompt, impossible="mask")
        return (self._recoverable(exact) * present).amax(-1)

    def sign_agreement(self, tokens: Text, lengths: Text | None = None) -> SignAgreement:
        """Return on how many of the decidable texts (B,T) the constructed attention agrees with the task.

        Agreement is claimed where the margin, after the prompt, is larger than the bound at all positions attended to.
        Cost as :func:`ppl_hmm.masked_conditionals`.
        """
        text, present = self._text(tokens, lengths)
        exact = posterior(self.model, text)
        prompted = posterior(self.model, text, prompt=self.prompt, impossible="mask")
        conditionals = masked_conditionals(self.model, text, prompt=self.prompt, impossible="mask")
        rows = observed(text, self.model.vocabulary_size)
        likelihood = of_token(conditionals, rows).clamp(min=torch.finfo(conditionals.dtype).tiny)
        scores = read(self.score_weights, conditionals, rows) / likelihood
        attention = hard_attention(scores, present, self.attention_tolerance)
        values = (attention * read(self.value_weights, conditionals, rows)).sum(-1)
        bound = self.task.scale * (1 - self._recoverable(prompted)) + self.margin_error / likelihood
        bound = bound.masked_fill(attention == 0, 0).amax(-1).masked_fill((attention == 0).all(-1), torch.inf)
        claimed = self.task.decidable(exact) & (self.task.margins(prompted).abs() > bound)
        agreeing = (decide(values.mT) == self.task.labels(exact)) & claimed
        n_claimed = int(claimed.sum())
        return SignAgreement(int(agreeing.sum()), n_claimed, len(text) - n_claimed)

    def _text(self, tokens: Text, lengths: Text | None) -> tuple[Tensor, Tensor]:
        """Return checked text (B,T), and which positions are present: those before each length."""
        text, ends = as_text(tokens, self.model.vocabulary_size, lengths=lengths, device=self.model.device)
        if ends is None:
            return text, torch.ones_like(text, dtype=torch.bool)
        return text, torch.arange(text.shape[-1], device=text.device) < ends[:, None]

    def _recoverable(self, exact: Posterior) -> Tensor:
        """P(H_i∈H* | x) (B,T)."""
        return exact.smoothed[..., list(self.recoverable_states)].sum(-1)


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

    Notes
    -----
    Cost O((mK)²·V), and O(m^N·L·K²) with a prompt.
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
        allowed, failure = _restriction(model, cell, prompt.rows)
        failures += [failure] if failure else _excluded(model, task, allowed)
    met = rows_met(model, cell, allowed)
    chosen = _as_states(recoverable_states, model) if recoverable_states is not None else None
    states, forms, residual = _best_reading(model, met, cell, chosen, tolerance)
    failures += _failures(model, met, cell, states, residual, tolerance)
    verdict: Verdict = "undecided" if failures else "recoverable"
    reasons = failures or [f"states {_listed(states)} can be read off: residual {residual:.3g}, {int(met.sum())} rows"]
    if support_threshold > 0:
        reasons.append(f"support threshold {support_threshold:g}: right where the margin exceeds the bound")
    weights = forms[:, states]
    return MemoryCertificate(
        theorem="Theorem M (4.3)" if prompt is None else "Theorem M after a prompt (4.6)",
        weights=weights,
        residual=residual,
        margin_error=float(task.scale) * (residual + _reading_rounding(weights)),
        sigma_min=_smallest_own_singular_value(model, met, states),
        support_threshold=support_threshold,
        tolerance=tolerance,
        verdict=verdict,
        reasons=tuple(reasons),
        model=model,
        task=task,
        prompt=prompt,
        recoverable_states=tuple(states),
        memory_values=tuple(allowed.nonzero()[:, 0].tolist()),
    )


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
    """
    require_model("restricting_prompt", model, MemoryHMM)
    (cell,) = _as_indices("cell", [cell], model.n_cells)
    values = _as_indices("memory values", values, model.n_memory_values)
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
    """
    require_pair("memory_prompt_certificate", model, task, MemoryHMM)
    cell = int(task.target_cell)
    needed = (task.contrasts != 0).any(0) & (model.memory_prior[cell] > 0)
    values = needed.nonzero()[:, 0].tolist() or list(range(model.n_memory_values))
    prompt = restricting_prompt(model, cell, values)
    return memory_certificate(model, task, prompt, support_threshold=support_threshold, tolerance=tolerance)


def _prompt(*rows: Tensor) -> MemoryPrompt:
    """Return the prompt of rows (m,K), each scaled to a largest entry of one."""
    return MemoryPrompt(torch.stack([row / row.amax() for row in rows]))


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return above/below, zero where above is."""
    return torch.where(above > 0, above / torch.where(above > 0, below, 1), 0)


def _restriction(model: MemoryHMM, cell: int, rows: Tensor) -> tuple[Tensor, str | None]:
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


def rows_met(model: MemoryHMM, cell: int, allowed: Tensor) -> Tensor:
    """Say which rows (m,K) text can meet: the state is reached, and the cell that it reads may hold the value."""
    # By zeros and ones: products of tiny probabilities are zero as floats.
    moves = (model.transition > 0).to(model.transition)
    reached = (model.initial > 0).to(moves) @ moves > 0
    for _ in range(model.n_states - 1):
        reached = reached | (reached.to(moves) @ moves > 0)
    may_hold = model.memory_prior > 0
    may_hold[cell] &= allowed
    return may_hold[model.cell_of_state].mT & reached


def _as_states(states: Sequence[int], model: MemoryHMM) -> list[int]:
    return sorted(set(_as_indices("recoverable_states", states, model.n_states)))


def _as_indices(what: str, values: Sequence[int], size: int) -> list[int]:
    """Return at least one integer, all in 0..size−1."""
    try:
        indices = [operator.index(value) for value in values]
    except TypeError:
        indices = []
    if not indices or not all(0 <= index < size for index in indices):
        raise InvalidInput(what, f"some of 0..{size - 1}", repr(values), "pass integers, counted from 0")
    return indices


def _best_reading(
    model: MemoryHMM, met: Tensor, cell: int, chosen: list[int] | None, tolerance: float
) -> tuple[list[int], Tensor, float]:
    """Return H*, linear forms (m,K,V) that read rows off mixtures, and the residual of those of H*.

    H* is ``chosen``, or the most states that read the cell and have a residual within the tolerance, and if none has
    the best single one.
    """
    reading = (met.any(0) & (model.cell_of_state == cell)).nonzero()[:, 0].tolist()
    best, best_quality = None, None
    for rank_tolerance in (torch.finfo(model.dtype).eps * max(met.numel(), model.vocabulary_size), *_RANK_TOLERANCES):
        rows = model.emission[met]
        pseudoinverse = torch.linalg.pinv(rows, rtol=rank_tolerance)
        forms = torch.zeros_like(model.emission)
        forms[met] = pseudoinverse.mT
        # What the form of (a,h) makes of each row, less what it should: (n,m,K).
        errors = (torch.einsum("nv,ahv->nah", rows, forms) - _indicators(met)).abs().sum(1)  # (n,K)
        states = chosen if chosen is not None else _largest_set(errors, reading, tolerance)
        residual = float(errors[:, states].sum(1).max()) if states and len(rows) else torch.inf
        quality = (residual <= tolerance, len(states), -residual)
        if best_quality is None or quality > best_quality:
            best, best_quality = (states, forms, residual), quality
    assert best is not None
    return best


def _largest_set(errors: Tensor, reading: list[int], tolerance: float) -> list[int]:
    """Return the states whose errors (n,K) together stay within the tolerance, smallest first; at least one, if any."""
    chosen, total = [], errors.new_zeros(len(errors))
    for state in sorted(reading, key=lambda state: float(errors[:, state].max())):
        total = total + errors[:, state]
        if chosen and total.max() > tolerance:
            break
        chosen.append(state)
    return sorted(chosen)


def _indicators(met: Tensor) -> Tensor:
    """Return for each row that is met (n) the array (n,m,K) with a one at its place."""
    return torch.eye(met.numel(), dtype=torch.float64, device=met.device).view(-1, *met.shape)[met.flatten()]


def _own_and_others(model: MemoryHMM, met: Tensor, states: list[int]) -> tuple[Tensor, Tensor]:
    """Return the rows of H* and all others that text can meet."""
    own = torch.zeros_like(met)
    own[:, states] = True
    return model.emission[met & own], model.emission[met & ~own]


def _failures(
    model: MemoryHMM, met: Tensor, cell: int, states: list[int], residual: float, tolerance: float
) -> list[str]:
    """Return which parts of the condition fail for H*."""
    if not states:
        return [f"one cell: no state that text can be in reads cell {cell}"]
    elsewhere = [state for state in states if int(model.cell_of_state[state]) != cell]
    failures = [f"one cell: states {_listed(elsewhere)} do not read cell {cell}"] if elsewhere else []
    if residual > tolerance:
        own, _ = _own_and_others(model, met, states)
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


def _smallest_own_singular_value(model: MemoryHMM, met: Tensor, states: list[int]) -> float:
    """Return σ_min of the rows of H* projected off the span of the others."""
    own, others = _own_and_others(model, met, states)
    return smallest_row_singular_value(own - own @ torch.linalg.pinv(others) @ others) if len(own) else 0.0


def _reading_rounding(weights: Tensor) -> float:
    """Return what rounding of G may add to ‖ΘG‖₁."""
    return _ROUNDING * float(weights.abs().sum((0, 1)).max())


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
