"""Theorem C: when a head on a chain of masks recovers the task, and the head that does.

Input (∅^J, x), or (u, ∅^J, x): one head b_1, …, b_J reads the conditionals of all J masks. With p_j = π₀A^j the law
that enters the j-th of them (after a prompt p_1 = q and p_j = qA^{j−1}), and f the message of the text,

    G_j = Wᵀ(p_j ∘ A^{J−j}f) / p_Jᵀf,    Σ_j b_jᵀG_j = (Rb)ᵀf / p_Jᵀf,    Rb = Σ_j (Aᵀ)^{J−j} (p_j ∘ Wb_j).

All masks have the same divisor, so the head has the score of one with Rb in place of q∘Wb: Theorem H with another
matrix. It is enough that

    Aᵀ(Rb − π₀∘μ) = 0,

and max_h |Aᵀ(Rb − π₀∘μ)|_h / (π₀A)_h bounds what an error costs. R is the observability matrix of the chain run
backwards. Every block of it holds p_J (b_j = 1), so its rank is at most J(V−1)+1. Where A is invertible, all tasks are
recovered by J ≥ (K−1)/(V−1) masks generically, and by no fewer. Neither independent rows of W nor K ≤ V is asked for.
The theorem is ours; one mask is Theorem 3.3 of Wei, Xie & Ma (2021).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_hmm.errors import at_least
from ppl_hmm.exact.wide import Wide, wide_product
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.models.kinds import Prompt
from ppl_hmm.recoverability.arguments import require_pair, require_thresholds
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.entering import margin_error, smallest_row_singular_value, wide_law
from ppl_hmm.recoverability.half_range import narrowest_heads
from ppl_hmm.recoverability.head import refined_least_squares
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.proof import proved
from ppl_hmm.recoverability.rounding import law_rounding
from ppl_hmm.schema import Cause
from ppl_hmm.tasks import PosteriorTask, on_possible_values, require_uncertain

#: Masks that :func:`masks_needed` tries, by default.
MOST_MASKS = 12
# Least squares whose heads move margins by more, relative to ‖μ‖_∞, solve nothing: no head beside them does.
_SOLVES = 1e-3
# Of two residuals, the share of the first that the second must stay below to count as less.
_CLEARLY_LESS = 0.99


def chain_certificate(
    model: HMM,
    task: PosteriorTask,
    n_masks: int,
    prompt: Prompt | None = None,
    *,
    tolerance: float = RESIDUAL_TOLERANCE,
    exact: bool = False,
) -> HeadCertificate:
    """Return the certificate of a head on ``n_masks`` masks in front of the text.

    Its head reads :func:`~ppl_hmm.probe_features` with ``n_masks``, flattened mask by mask to (B,J·V).

    Parameters
    ----------
    model, task
        One model and one task of the same K, no batch dimensions.
    n_masks
        J ≥ 1.
    prompt
        :class:`SoftPrompt` or rows (L,K) in front of the masks.
    tolerance
        Largest relative residual that counts as solved.
    exact
        Whether to prove the condition, or that it fails, in rational arithmetic: as in
        :func:`~ppl_hmm.head_certificate`.

    Returns
    -------
    HeadCertificate
        ``weights`` (J·V,) or (C,J·V): of the heads that solve the equations the one of least half-range in a block,
        which noise in G moves least. ``sigma_min`` is the K-th singular value of R, 0 when K > J(V−1)+1.

    Raises
    ------
    InvalidInput
        Batches, different numbers of states, no masks, a negative tolerance.

    Notes
    -----
    Cost O(J·K²·V) for R, O(K·J·V·min(K,J·V)) for least squares, and a linear programme in J·V variables.
    ``exact``: O(K³·bits) operations on words, 2 s at K = 30 and J = 4.

    See Also
    --------
    masks_needed : The fewest masks for a task.
    head_certificate : One mask, by the equations of the paper.

    Examples
    --------
    >>> from ppl_hmm import chain_certificate, random_hmm, random_task, sample
    >>> model = random_hmm("wei2021", 15, 10, seed=0)
    >>> task = random_task(model, 0, sample(model, 500, 20, seed=0).tokens)
    >>> [str(chain_certificate(model, task, n_masks).verdict) for n_masks in (1, 2, 3)]
    ['undecided', 'recoverable', 'recoverable']
    """
    n_masks = at_least("n_masks", n_masks, 1)
    model, task, prompt = _checked("chain_certificate", model, task, prompt, tolerance)
    chain = _chain(model, prompt, n_masks)
    certificate = _certificate(model, task, prompt, chain, tolerance)
    return proved(certificate) if exact else certificate


def masks_needed(
    model: HMM,
    task: PosteriorTask,
    *,
    prompt: Prompt | None = None,
    most: int = MOST_MASKS,
    tolerance: float = RESIDUAL_TOLERANCE,
) -> HeadCertificate | None:
    """Return the certificate with the fewest masks whose condition holds; None where ``most`` are not enough.

    Parameters
    ----------
    model, task, prompt, tolerance
        As in :func:`chain_certificate`, and so are the errors.
    most
        Masks that are tried, at most.

    See Also
    --------
    chain_certificate : A given number of masks.

    Examples
    --------
    >>> from ppl_hmm import masks_needed, random_hmm, random_task, sample
    >>> model = random_hmm("wei2021", 15, 10, seed=0)
    >>> task = random_task(model, 0, sample(model, 500, 20, seed=0).tokens)
    >>> masks_needed(model, task).n_masks
    2
    """
    found = fewest_masks(model, task, prompt=prompt, most=most, tolerance=tolerance)
    return found if found.recoverable else None


def fewest_masks(
    model: HMM,
    task: PosteriorTask,
    *,
    prompt: Prompt | None = None,
    most: int = MOST_MASKS,
    tolerance: float = RESIDUAL_TOLERANCE,
) -> HeadCertificate:
    """Return the certificate of :func:`masks_needed`; where the condition never holds, the one that comes nearest.

    Of two that come as near within a percent, that with fewer masks.
    """
    most = at_least("most", most, 1)
    model, task, prompt = _checked("masks_needed", model, task, prompt, tolerance)
    best = None
    for chain in itertools.islice(_chains(model, prompt), most):
        found = _certificate(model, task, prompt, chain, tolerance)
        if best is None or found.recoverable or found.residual < _CLEARLY_LESS * best.residual:
            best = found
        if found.recoverable:
            break
    assert best is not None  # at least one mask was tried
    return best


def _checked(
    function: str, model: HMM, task: PosteriorTask, prompt: Prompt | None, tolerance: float
) -> tuple[HMM, PosteriorTask, SoftPrompt | None]:
    """Return the arguments of a public function in float64, the task on possible values."""
    require_pair(function, model, task, HMM)
    require_uncertain(function, model, task)
    require_thresholds(0.0, tolerance)
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    if prompt is not None and not isinstance(prompt, SoftPrompt):
        prompt = SoftPrompt(prompt)  # type: ignore[arg-type]
    return model, on_possible_values(model, task), prompt


class _Chain(NamedTuple):
    """The masks in front of the text: the laws p_1, …, p_J (K,) that enter them, and R (K,J·V)."""

    laws: tuple[Wide, ...]
    matrix: Tensor


def _chains(model: HMM, prompt: SoftPrompt | None) -> Iterator[_Chain]:
    """Yield the chains of one mask, of two, and so on."""
    moves, law = Wide.of(model.transition), wide_law(model, prompt)
    chain = _Chain((), model.emission[:, :0])
    while True:
        blocks = model.transition.mT @ chain.matrix, law.floats()[:, None] * model.emission
        chain = _Chain((*chain.laws, law), torch.cat(blocks, dim=1))
        yield chain
        law = wide_product(law[None], moves)[0]


def _chain(model: HMM, prompt: SoftPrompt | None, n_masks: int) -> _Chain:
    return next(itertools.islice(_chains(model, prompt), n_masks - 1, None))


def observability(model: HMM, prompt: SoftPrompt | None, n_masks: int) -> Tensor:
    """Return R (K,J·V): what the weights of each mask and token add to Rb."""
    return _chain(model, prompt, n_masks).matrix


class _Head(NamedTuple):
    """A proposal: heads (C,J·V), what they solve, and the most that they move a margin."""

    equation: str
    weights: Tensor
    error: float


def _certificate(
    model: HMM, task: PosteriorTask, prompt: SoftPrompt | None, chain: _Chain, tolerance: float
) -> HeadCertificate:
    """Return the certificate of the best head on the masks of a chain."""
    n_masks, scale = len(chain.laws), float(task.contrasts.abs().max()) or 1.0
    rounding = law_rounding(model, prompt, n_masks)

    def measured(equation: str, weights: Tensor) -> _Head:
        blocks = weights.unflatten(-1, (n_masks, -1))
        return _Head(equation, weights, margin_error(model, task, chain.laws, blocks, rounding))

    masks = "one mask" if n_masks == 1 else f"{n_masks} masks"
    best = _Head("", chain.matrix.new_zeros(0), torch.inf)
    for equation, rows, least in _solutions(model, task, chain):
        head = measured(equation, least)
        if head.error <= _SOLVES * scale:
            narrow = measured(equation, _narrowest(least, rows, task.n_classes, n_masks))
            head = narrow if narrow.error <= max(tolerance * scale, head.error) else head
        if not best.error <= head.error or not len(best.weights):
            best = head
        if best.error <= tolerance * scale:
            break
    return HeadCertificate(
        theorem="Theorem C (several masks)",
        weights=best.weights[0] if task.n_classes == 2 else best.weights,
        residual=best.error / scale,
        margin_error=best.error + rounding * float(task.scale),
        sigma_min=smallest_row_singular_value(chain.matrix) if model.n_states <= _largest_rank(model, n_masks) else 0.0,
        support_threshold=0.0,
        tolerance=tolerance,
        cause=Cause.of_condition(best.error <= tolerance * scale),
        reasons=(f"{best.equation} on {masks}: relative margin error {best.error / scale:.3g}",),
        model=model,
        task=task,
        prompt=prompt,
        n_masks=n_masks,
    )


def _largest_rank(model: HMM, n_masks: int) -> int:
    """Return the largest rank that R can have."""
    return n_masks * (model.vocabulary_size - 1) + 1


def _solutions(model: HMM, task: PosteriorTask, chain: _Chain) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield equations with the heads (C,J·V) of least norm that solve them, the best scaled first.

    The first asks for the score itself, in the states that enter the last mask; the second for all that some text can
    tell. :func:`~ppl_hmm.recoverability.entering.margin_error` says what a solution of either is worth.
    """
    contrasts = task.contrasts.to(model.initial)
    last = chain.laws[-1].floats()
    entered = last > 0
    wanted = model.initial * contrasts
    first = model.initial @ model.transition
    reached = first > 0
    backwards = (model.transition / torch.where(reached, first, 1.0)).mT[reached]  # texts weigh a state by (π₀A)
    equations = {
        "Rb = π₀∘μ": (chain.matrix[entered] / last[entered, None], wanted[:, entered] / last[entered]),
        "Aᵀ(Rb − π₀∘μ) = 0": (backwards @ chain.matrix, wanted @ backwards.mT),
    }
    for equal_columns in (False, True):
        for equation, (rows, targets) in equations.items():
            yield equation, rows, refined_least_squares(rows, targets, equal_columns)


def _narrowest(heads: Tensor, rows: Tensor, n_classes: int, n_masks: int) -> Tensor:
    """Return the heads of least half-range beside those given that have the same products with the rows."""
    return heads.new_tensor(narrowest_heads(heads.cpu().numpy(), rows.cpu().numpy(), n_classes, n_masks))
