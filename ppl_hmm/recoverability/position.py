"""Heads for tasks on another state than H₀: a mask that hides its token, or stands after it.

The laws of H_t that a head reads through G are

    hidden token   G = Wᵀk,   k = P(H_t | x_{-t}), the cavity;  N = W
    after it       G = Nᵀα,   α = P(H_t | x_1..x_t);            N = AW, [AW | A²W | … | A^J W] at J masks

so that bᵀG = (Nb)ᵀk. No law π₀ enters, no posterior of H₀: nothing has to be divided out.

*context*, μᵀk, and *prefix*, μᵀα: the score bᵀG is the margin itself, for every text, iff Nb − μ is orthogonal to all
laws that texts lead to; Nb = μ on the possible states is enough.

*text*, μᵀP(H_t|x): the token x_t that the mask hides turns k into the posterior, P(H_t=h|x) = k(h) W[h,x_t] / G[x_t].
So a head whose weights depend on that token, b_x with Wb_x = μ∘w_x on these laws, has the score G[x_t]·μᵀP(H_t|x):
a positive factor. Without the token no head can know it: texts that differ in x_t alone have the same G.

An e = Nb − μ that is not quite zero moves no margin by more than max_h |e_h|; e = Wb_x − μ∘w_x by no more than
max_h |e_h|/W[h,x]. Only the part of e in the span of the laws counts. *Residual* is the bound relative to ‖μ‖_∞.

Source: Wei, Xie & Ma (2021), Theorem 4.3 for the value that depends on the token; the rest is ours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ppl_hmm.base.positions import Place
from ppl_hmm.errors import InvalidInput
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.arguments import require_pair, require_thresholds
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.entering import range_over_classes, smallest_row_singular_value
from ppl_hmm.recoverability.head import refined_least_squares
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.reachable import Reachable, reachable_laws
from ppl_hmm.recoverability.rounding import SCORE_ROUNDING
from ppl_hmm.schema import Cause
from ppl_hmm.tasks import PosteriorTask, on_possible_values, require_uncertain

_THEOREMS = {
    "text": "head at the hidden token, which it sees",
    "context": "head at the hidden token",
    "prefix": "head after the token",
}


class _Equations(NamedTuple):
    """N b = τ on the laws that texts lead to: one equation for each class, and for each token that the head sees."""

    matrix: Tensor  # N (K,V), or (K,J·V)
    targets: Tensor  # τ (C,J,K)
    sizes: Tensor  # (J,K): what a law is divided by, state by state


def position_certificate(
    model: HMM, task: PosteriorTask, *, n_masks: int = 1, tolerance: float = RESIDUAL_TOLERANCE
) -> HeadCertificate:
    """Return the certificate of the head for a task on a position.

    Its head reads :func:`~ppl_hmm.probe_features` with the task's ``position`` and ``given``.

    Parameters
    ----------
    model, task
        One model and one task of the same K, on a position.
    n_masks
        J masks after the text, for ``given='prefix'``; 1 for others.
    tolerance
        Largest relative residual that counts as solved.

    Returns
    -------
    HeadCertificate
        ``sigma_min`` is the smallest singular value of QᵀN, Q an orthonormal basis of the laws that texts lead to:
        where it is positive every task on this position is recoverable. For ``given='text'`` the weights are V+1
        blocks of V, one for each token that the mask may hide, the last for ``MASK``.

    Raises
    ------
    InvalidInput
        Batches, different numbers of states, a task on H₀, a state that is certain, a negative tolerance; several masks
        that would have to hide tokens.

    See Also
    --------
    head_certificate : For a task on H₀.
    probe_features : What its head reads.

    Notes
    -----
    The condition is necessary as well for the score to be the margin, up to the factor G[x_t]; a head may still get
    all labels right where it fails. Cost O(V·K⁴) at most, O(K·V·min(K,V)) beside the span of the laws.

    Examples
    --------
    >>> from ppl_hmm import PosteriorTask, position_certificate, random_hmm
    >>> model = random_hmm("dirichlet", 3, 5, seed=0)
    >>> print(position_certificate(model, PosteriorTask([[1, 0, 0], [0, 0, 1]], position=-1)).verdict)
    recoverable
    """
    require_pair("position_certificate", model, task, HMM, any_position=True)
    require_thresholds(0.0, tolerance)
    place = task.place
    if place.position is None:
        raise InvalidInput(
            "position_certificate", "a task on a position", f"one on {place}", "use head_certificate for H₀"
        )
    n_masks = place.masks(n_masks)
    require_uncertain("position_certificate", model, task)
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    task = on_possible_values(model, task)
    reachable = reachable_laws(model, place).to(model.device)
    equations = _equations(model, task, place, n_masks)
    read = reachable.basis.mT @ equations.matrix
    wanted = equations.targets @ reachable.basis
    weights = refined_least_squares(read, wanted.flatten(0, 1)).unflatten(0, wanted.shape[:2])  # (C,J,V)
    rounding = SCORE_ROUNDING * float(weights.flatten(1).abs().sum(-1).max())
    error = _margin_error(equations, reachable, weights, rounding)
    residual = error / (float(task.contrasts.abs().max()) or 1.0)
    weights = weights.flatten(1)
    return HeadCertificate(
        theorem=_THEOREMS[place.given],
        weights=weights[0] if task.n_classes == 2 else weights,
        residual=residual,
        margin_error=error,
        sigma_min=smallest_row_singular_value(read),
        support_threshold=0.0,
        tolerance=tolerance,
        cause=Cause.of_condition(residual <= tolerance),
        reasons=_reasons(place, residual, reachable),
        score_error=rounding,
        n_masks=n_masks,
        model=model,
        task=task,
    )


def _equations(model: HMM, task: PosteriorTask, place: Place, n_masks: int) -> _Equations:
    contrasts = task.contrasts.to(model.initial)[:, None]  # (C,1,K)
    if place.given == "prefix":
        blocks = [model.transition @ model.emission]
        while len(blocks) < n_masks:
            blocks.append(model.transition @ blocks[-1])
        return _Equations(torch.cat(blocks, dim=1), contrasts, torch.ones_like(model.initial)[None])
    if not place.sees_token:
        return _Equations(model.emission, contrasts, torch.ones_like(model.initial)[None])
    likelihoods = torch.nn.functional.pad(model.emission, (0, 1), value=1.0).mT  # (V+1,K), the last for MASK
    return _Equations(model.emission, contrasts * likelihoods, likelihoods)


def _margin_error(equations: _Equations, reachable: Reachable, weights: Tensor, rounding: float) -> float:
    """Return the most that weights (C,J,V) move the margin of any text.

    max_h |QQᵀ(Nb − τ)|_h over the size of h; for more than two classes the range over classes counts. A state of size
    zero has posterior zero, and must have no error but the rounding of a score: nothing is claimed on scores within it.
    """
    matrix, targets, sizes = equations
    error = (weights @ matrix.mT - targets) @ (reachable.basis @ reachable.basis.mT)
    change = range_over_classes(error)  # (J,K)
    unbounded = torch.where(change > rounding, torch.inf, 0.0)
    bound = torch.where(sizes > 0, change / torch.where(sizes > 0, sizes, 1), unbounded)
    return float(bound[:, reachable.possible].max())


def _reasons(place: Place, residual: float, reachable: Reachable) -> tuple[str, ...]:
    equation = {"text": "Wb_x = μ∘w_x", "context": "Wb = μ", "prefix": "AWb = μ"}[place.given]
    n_states, n_laws = int(reachable.possible.sum()), reachable.basis.shape[1]
    laws = "" if n_laws == n_states else f", whose laws span {n_laws} dimensions"
    return (
        f"{place}: the mask {'stands after' if place.given == 'prefix' else 'hides'} the token there",
        f"{equation}: relative margin error {residual:.3g}, {n_states} possible states{laws}",
    )
