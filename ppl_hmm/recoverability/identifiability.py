"""Identifiability: which laws of tokens determine the model, up to the names of its states.

With p = π₀A, the law of the first state that emits,

    pairs     P(X_1=x, X_{1+l}=y)          = [Wᵀ diag(p) Aˡ W]_{xy}
    triple    P(X_1=x, X_2=y, X_3=z)       = [Wᵀ diag(p) A diag(W_{·y}) A W]_{xz}

If π₀ is stationary these are the laws at every position. Pairs do not determine the model, at any number of lags: it
has :mod:`twins <ppl_hmm.recoverability.twins>`.

A triple does determine the model, locally for V ≥ K, and up to relabelling under Kruskal's condition on its views given
the middle state. Source: Liu, Hsu, Ravikumar & Risteski (2022), arXiv 2202.09305; Kruskal (1977). The twins without
double stochasticity or stationarity are ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.arguments import require_model, require_thresholds
from ppl_hmm.recoverability.token_laws import (
    RANK_TOLERANCE,
    Family,
    arrays_of,
    pair_law as pair_law,
    pair_law_of,
    require_family,
    triple_law as triple_law,
    triple_law_of,
    zero_sum_basis,
)
from ppl_hmm.recoverability.twins import Twin as Twin, pairwise_twin as pairwise_twin
from ppl_hmm.recoverability.views import TripleViews as TripleViews, triple_views as triple_views

#: Entries of a Jacobian, at most (256 MB).
JACOBIAN_LIMIT = 1 << 25
_JACOBIAN_ROWS = 256  # at a time


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class LawSpectrum:
    """How a law of tokens moves with the parameters, to first order.

    Attributes
    ----------
    singular_values
        Of the Jacobian, in descending order: one for each parameter, zeros where there are more than equations.
    nullity
        Number of singular values that count as zero: directions in which the law does not tell models apart.
    family
        ``'free'``: π₀, A and W move. ``'doubly stochastic'``: A among doubly stochastic matrices, W; π₀ stays uniform.
    tolerance
        Singular values of at most this share of the largest count as zero.

    See Also
    --------
    pair_spectrum : Of laws of pairs.
    triple_spectrum : Of the law of triples.

    Examples
    --------
    >>> from ppl_hmm import HMM, pair_spectrum
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> found = pair_spectrum(model)
    >>> found.n_parameters, found.nullity
    (7, 1)
    """

    singular_values: Tensor
    nullity: int
    family: Family
    tolerance: float

    @property
    def n_parameters(self) -> int:
        """Dimension of the family."""
        return len(self.singular_values)


def pair_spectrum(
    model: HMM, lags: Sequence[int] = (1, 2, 3), *, family: Family = "free", tolerance: float = RANK_TOLERANCE
) -> LawSpectrum:
    """Return the singular values of the Jacobian of the laws of pairs at ``lags``, together.

    Parameters
    ----------
    model
        A single model. Zeros are moved as well, whether or not probabilities would allow it.
    lags
        Each at least 1.
    family
        What moves: see :class:`LawSpectrum`. Coordinates are orthonormal in the directions that keep sums of rows.
    tolerance
        Singular values of at most this share of the largest count as zero.

    Raises
    ------
    InvalidInput
        A batch of models, a memory model, no lag or one below one, a model outside the family, a negative tolerance, a
        Jacobian of more than :data:`JACOBIAN_LIMIT` entries.

    See Also
    --------
    triple_spectrum : Of the law of triples, which leaves less open.
    pairwise_twin : A model in a direction that pairs leave open.

    Notes
    -----
    Where V ≥ K the nullity is generically (K−1)(K−2)/2 in the doubly stochastic family and K(K−1)/2 in the free one
    with several lags, (K−1)² and K(K−1) with lag 1 alone. Cost O(n·m·min(n,m)), n parameters, m probabilities.

    Examples
    --------
    >>> from ppl_hmm import HMM, pair_spectrum
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> pair_spectrum(model).nullity, pair_spectrum(model, lags=[1]).nullity
    (1, 2)
    """
    require_model("pair_spectrum", model, HMM)
    checked = [at_least("lag", lag, 1) for lag in lags]
    at_least("number of lags", len(checked), 1)

    def law(initial: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
        return torch.stack([pair_law_of(initial, transition, emission, lag) for lag in checked], -3)

    return _spectrum(model, law, family, tolerance)


def triple_spectrum(model: HMM, *, family: Family = "free", tolerance: float = RANK_TOLERANCE) -> LawSpectrum:
    """Return the singular values of the Jacobian of the law of X_1, X_2, X_3; arguments as in :func:`pair_spectrum`.

    See Also
    --------
    pair_spectrum : Of laws of pairs.
    triple_views : Kruskal's condition, beyond the first order.

    Notes
    -----
    Where V ≥ K the nullity is generically 0. Where V < K it is at least (K−V)², as A moves freely between the kernels
    of W and Wᵀdiag(p), and at least the parameters less the equations: V³ − 1, or V³ − V² for a stationary law.

    Examples
    --------
    >>> from ppl_hmm import HMM, triple_spectrum
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> triple_spectrum(model).nullity
    0
    """
    require_model("triple_spectrum", model, HMM)
    return _spectrum(model, triple_law_of, family, tolerance)


def _spectrum(model: HMM, law: Callable[..., Tensor], family: Family, tolerance: float) -> LawSpectrum:
    require_thresholds(0.0, tolerance)
    require_family("identifiability spectrum", model, family)
    arrays = arrays_of(model.to(device="cpu"))
    directions = _tangent(model.n_states, model.vocabulary_size, family)
    sizes = [direction.shape[-1] for direction in directions]
    n_equations = law(*arrays).numel()
    if n_equations * sum(sizes) > JACOBIAN_LIMIT:
        raise InvalidInput(
            "Jacobian",
            f"at most {JACOBIAN_LIMIT} entries",
            f"{n_equations} probabilities × {sum(sizes)} parameters",
            "use a smaller model, or fewer lags",
        )

    values = torch.linalg.svdvals(_jacobian(law, arrays, directions, n_equations))
    values = torch.nn.functional.pad(values, (0, sum(sizes) - len(values)))
    largest = float(values.max()) if len(values) else 0.0
    rounding = len(values) * torch.finfo(values.dtype).eps  # of probabilities: one token has a law that cannot move
    nullity = int((values <= max(tolerance * largest, rounding)).sum())
    return LawSpectrum(singular_values=values, nullity=nullity, family=family, tolerance=tolerance)


def _jacobian(
    law: Callable[..., Tensor], arrays: tuple[Tensor, ...], directions: tuple[Tensor, ...], n_equations: int
) -> Tensor:
    """Return the derivatives of the law's probabilities along the directions (n_equations,n).

    Each probability reads a copy of the parameters of its own, so that one backward pass differentiates many. What
    torch.func does for this imports a compiler first, for a second or more.
    """
    rows = []
    for equations in torch.arange(n_equations, device=arrays[0].device).split(_JACOBIAN_ROWS):
        copies = [array.expand(len(equations), *array.shape).requires_grad_() for array in arrays]
        probabilities = law(*copies).flatten(1).gather(1, equations[:, None])
        gradients = torch.autograd.grad(probabilities.sum(), copies)
        rows.append(
            torch.cat([g.flatten(1) @ d.flatten(0, -2) for g, d in zip(gradients, directions, strict=True)], 1)
        )
    return torch.cat(rows)


def _tangent(n_states: int, vocabulary_size: int, family: Family) -> tuple[Tensor, Tensor, Tensor]:
    """Return orthonormal directions of π₀ (K,n), A (K,K,n') and W (K,V,n'') that keep the sums of the family."""
    every_state, states, tokens = (
        torch.eye(n_states, dtype=torch.float64, device=CPU),
        zero_sum_basis(n_states),
        zero_sum_basis(vocabulary_size),
    )

    def products(left: Tensor, right: Tensor) -> Tensor:
        return torch.einsum("ia,jb->ijab", left, right).flatten(2)

    if family == "free":
        return states, products(every_state, states), products(every_state, tokens)
    return states[:, :0], products(states, states), products(every_state, tokens)
