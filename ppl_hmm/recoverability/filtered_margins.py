"""When a linear form in the filtered law is the margin of a task, for every text.

A causal reader knows text through α = P(H_T | x_1..x_T) alone, so that its scores are cᵀα. Of a task on H_T this is the
margin μᵀα for every text iff c − μ is orthogonal to R, the span of all α that texts lead to.

Of a task on an earlier state H_s, given all of the text, the margin is μᵀP(H_s|x). Beside p = P(H_T, x) let
a⁺(h) = Σ_s μ⁺_s P(H_s=s, H_T=h, x) and a⁻ alike, μ = μ⁺ − μ⁻. The row (a⁺, a⁻, p) is (μ⁺∘p, μ⁻∘p, p) at the time of
H_s, and each token x moves all three by A diag(w_x). Score and margin differ by

    cᵀα − μᵀP(H_s|x) = (−1, 1, c)ᵀ(a⁺, a⁻, p) / 1ᵀp,

which vanishes for every text iff (−1, 1, c) is orthogonal to the span of all these rows. For H₀ and most models no c
is: what the filtered law tells are constant μ, and blocks of states that the chain never leaves.

Both are equations S c = t, n of them in an orthonormal basis Q of the span. Ours.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_hmm.models import HMM
from ppl_hmm.recoverability.causal_reading import is_filtered
from ppl_hmm.recoverability.reachable import (
    Unclear,
    filtered_laws,
    independent,
    moved,
    reachable_laws,
    reached,
    weighed,
)
from ppl_hmm.tasks import PosteriorTask


class Identity(NamedTuple):
    """The equations S c = t under which cᵀα is a margin, relative to ‖μ‖_∞.

    Attributes
    ----------
    read, wanted
        S (n,K) and t (n,).
    of_state, of_label
        The rows of Q (K,n) for the law of H_T, and those (m,n) for what it says of an earlier state.
    clear
        Whether Q spans what texts lead to; if not, float64 does not tell, and S c = t is sufficient alone.
    """

    read: Tensor
    wanted: Tensor
    of_state: Tensor
    of_label: Tensor
    clear: bool

    def error(self, coefficients: Tensor) -> float:
        """Return the most that cᵀα differs from the margin, on any text, for coefficients c (K,).

        With e = Q(Sc − t), max_h |e_h| over the law of H_T, which sums to one, and the same over what it says of an
        earlier state, which sums to one at most.
        """
        left = self.read @ coefficients - self.wanted
        return sum(float((rows @ left).abs().max()) for rows in (self.of_state, self.of_label) if len(rows))


def margin_identities(model: HMM, task: PosteriorTask) -> list[Identity]:
    """Return the equations for each contrast of classes of a task that is given text or a prefix.

    Over all texts of a token or more that have the task's position. Cost O(V·K⁴) at most.
    """
    model = model.to(device="cpu")
    contrasts = task.contrasts.cpu()
    contrasts = contrasts / (float(contrasts.abs().max()) or 1.0)
    place = task.place
    if is_filtered(place):
        _, basis, clear = reachable_laws(model, dataclasses.replace(place, given="prefix"))
        return [Identity(basis.mT, basis.mT @ each, basis, basis[:0], clear) for each in contrasts]
    return [_of_earlier_state(model, each, place.position) for each in contrasts]


def _of_earlier_state(model: HMM, contrast: Tensor, position: int | None) -> Identity:
    n_states, clear = model.n_states, True
    try:
        rows = _joint_rows(model, contrast, position)
        basis = torch.linalg.svd(rows, full_matrices=False).Vh.mT
    except Unclear:
        basis, clear = torch.eye(3 * n_states, dtype=contrast.dtype, device=contrast.device), False
    plus, minus, of_state = basis.split(n_states)
    return Identity(of_state.mT, (plus - minus).sum(0), of_state, basis[: 2 * n_states], clear)


def _joint_rows(model: HMM, contrast: Tensor, position: int | None) -> Tensor:
    """Return independent rows (n,3K) that span all (a⁺, a⁻, p)."""
    transition = torch.block_diag(*3 * [model.transition])
    likelihoods = model.emission.mT.repeat(1, 3)

    def step(rows: Tensor) -> Tensor:
        return weighed(moved(rows, transition), likelihoods)

    if position is None:
        start = step(_joint(model.initial[None], contrast))
        return reached(independent(start[:0], start), step, None)
    if position >= 0:
        return reached(_joint(filtered_laws(model, position), contrast), step, None)
    return reached(_joint(filtered_laws(model, None), contrast), step, -1 - position)


def _joint(laws: Tensor, contrast: Tensor) -> Tensor:
    """Return the rows (μ⁺∘p, μ⁻∘p, p) (n,3K) of laws (n,K)."""
    return torch.cat([contrast.clamp(min=0) * laws, (-contrast).clamp(min=0) * laws, laws], dim=1)
