"""Identifiability: which laws of tokens determine the model, up to the names of its states.

With p = π₀A, the law of the first state that emits,

    pairs     P(X_1=x, X_{1+l}=y)          = [Wᵀ diag(p) Aˡ W]_{xy}
    triple    P(X_1=x, X_2=y, X_3=z)       = [Wᵀ diag(p) A diag(W_{·y}) A W]_{xz}

If π₀ is stationary these are the laws at every position. Pairs do not determine the model, at any number of lags. Let
R be a rotation, √p' = Rᵀ√p > 0, D = diag(√p), D' = diag(√p') and M = D'⁻¹RᵀD. The twin

    W' = MW,   A' = MAM⁻¹,   π₀' = π₀M⁻¹

has rows that sum to one, as M1 = 1, the law p' of its first state and the same laws of pairs at *every* lag; near R = I
it is a model if π₀, A, W > 0. Rotations have K(K−1)/2 directions, of which (K−1)(K−2)/2 leave √p, and so p, as it is.
Where A is doubly stochastic and π₀ uniform, the latter give twins of the same kind: W' = RᵀW, A' = RᵀAR. Lag 1 alone
leaves more: (K−1)² directions in that family and K(K−1) in all. (For V ≥ K; fewer tokens leave more open.)

A triple does determine the model, locally for V ≥ K, and up to relabelling under Kruskal's condition on its views given
the middle state. Source: Liu, Hsu, Ravikumar & Risteski (2022), arXiv 2202.09305; Kruskal (1977). The twins without
double stochasticity or stationarity are ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb
from typing import Literal

import torch
from scipy.linalg import helmert
from torch import Tensor

from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.errors import InvalidInput, at_least, one_of
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.arguments import require_model, require_thresholds
from ppl_hmm.recoverability.head import smallest_row_singular_value

#: Singular values within this share of the largest count as zero, by default.
RANK_TOLERANCE = 1e-10
#: Entries of a Jacobian, at most (256 MB).
JACOBIAN_LIMIT = 1 << 25
#: Sets of rows that a k-rank looks at, at most.
SUBSET_LIMIT = 1 << 14

Family = Literal["free", "doubly stochastic"]
_UNIFORM_TOLERANCE = 1e-12
_LAGS_COMPARED = range(1, 9)
_BISECTIONS = 40
_JACOBIAN_ROWS = 256  # at a time


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Twin:
    """Another model with the same laws of pairs at every lag.

    Attributes
    ----------
    model
        π₀', A', W'.
    rotation
        R (K,K).
    pair_distance
        Largest total variation between the laws of X_1, X_{1+l} of the two models, l = 1..8: rounding, measured.
    triple_distance
        Total variation between the two laws of X_1, X_2, X_3: the best test on a triple tells them apart by so much.
    """

    model: HMM
    rotation: Tensor
    pair_distance: float
    triple_distance: float


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
    """

    singular_values: Tensor
    nullity: int
    family: Family
    tolerance: float

    @property
    def n_parameters(self) -> int:
        """Dimension of the family."""
        return len(self.singular_values)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class TripleViews:
    """The three tokens of a triple as views of its middle state, in the order previous, own, next.

    Attributes
    ----------
    sigma_min
        The K-th singular values of P(X_1|H_2), W = P(X_2|H_2) and AW = P(X_3|H_2); 0 when K > V.
    k_ranks
        The largest k such that any k rows of a view, each divided by its norm, are independent: their smallest
        singular value exceeds ``tolerance``. A lower bound where :data:`SUBSET_LIMIT` sets of rows do not settle it.
    tolerance
        See there.
    """

    sigma_min: tuple[float, float, float]
    k_ranks: tuple[int, int, int]
    n_states: int
    tolerance: float

    @property
    def identifies(self) -> bool:
        """Whether the triple's law determines p, A and W up to the names of the states.

        By Kruskal's theorem it determines p and the views if their k-ranks sum to 2K + 2 or more; A is read off AW if
        the rows of W are independent too. π₀ follows where A is invertible. Sufficient, not necessary.
        """
        enough = self.n_states == 1 or sum(self.k_ranks) >= 2 * self.n_states + 2
        return enough and self.k_ranks[1] == self.n_states


def pair_law(model: HMM, lag: int) -> Tensor:
    """Return P(X_1=x, X_{1+lag}=y) (V,V): the first token, after the silent H₀ and one transition, and a later one.

    Parameters
    ----------
    model
        A single model. For the law at another time t pass it with initial π₀Aᵗ⁻¹; if π₀ is stationary, all are equal.
    lag
        At least 1.

    Raises
    ------
    InvalidInput
        A batch of models, a memory model, a lag below one.

    Notes
    -----
    Cost O(log(lag)·K³ + K·V·(K+V)).
    """
    require_model("pair_law", model, HMM)
    return _pair_law(*_arrays(model), at_least("lag", lag, 1))


def triple_law(model: HMM) -> Tensor:
    """Return P(X_1=x, X_2=y, X_3=z) (V,V,V); time and errors as in :func:`pair_law`. Cost O(K·V²·(K+V))."""
    require_model("triple_law", model, HMM)
    return _triple_law(*_arrays(model))


def pairwise_twin(model: HMM, *, family: Family = "free", n_directions: int = 64, seed: Seed = 0) -> Twin:
    """Return another model with the same laws of pairs at every lag, and as different a law of triples as was found.

    Each of some random directions of rotation is followed until an entry of π₀', A' or W' would vanish, by bisection.

    Parameters
    ----------
    model
        A single model of K ≥ 2 states with π₀, A, W > 0 entrywise.
    family
        ``'free'``: any rotation. ``'doubly stochastic'``: the model, which must have a doubly stochastic A and uniform
        π₀, has a twin of its kind; this takes K ≥ 3.
    n_directions, seed
        How many directions, and which.

    Raises
    ------
    InvalidInput
        A batch of models, a memory model, too few states, an entry that is zero, a model outside the family.

    Notes
    -----
    The twin is no mere relabelling if ``triple_distance`` > 0; W with equal rows everywhere has none that differs.
    Cost O(n_directions·(40·K²·(K+V) + K·V²·(K+V))).
    """
    require_model("pairwise_twin", model, HMM)
    _require_family("pairwise_twin", model, family)
    at_least("n_directions", n_directions, 1)
    fewest = 2 if family == "free" else 3  # of two states no small rotation leaves 1 as it is
    if model.n_states < fewest:
        raise InvalidInput(
            "n_states",
            f"an integer of at least {fewest}",
            str(model.n_states),
            "no smaller model of the family has twins",
        )
    arrays = _arrays(model.to(device="cpu"))
    if not all((array > 0).all() for array in arrays):
        raise InvalidInput(
            "pairwise_twin", "π₀, A, W > 0 entrywise", "a zero", "use the spectra, which do not need positive entries"
        )

    turns = _rotation_directions(model.n_states, family, n_directions, generator(seed, "pairwise twin"))
    angles = _largest_angles(arrays, turns)
    triple = _triple_law(*arrays)
    distances = [
        _distance(_triple_law(*_turned(arrays, a * turn)[1]), triple) for a, turn in zip(angles, turns, strict=True)
    ]
    best = max(range(n_directions), key=distances.__getitem__)
    rotation, twin = _turned(arrays, angles[best] * turns[best])
    return Twin(
        model=HMM(*twin),
        rotation=rotation,
        pair_distance=max(_distance(_pair_law(*twin, lag), _pair_law(*arrays, lag)) for lag in _LAGS_COMPARED),
        triple_distance=distances[best],
    )


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

    Notes
    -----
    Where V ≥ K the nullity is generically (K−1)(K−2)/2 in the doubly stochastic family and K(K−1)/2 in the free one
    with several lags, (K−1)² and K(K−1) with lag 1 alone. Cost O(n·m·min(n,m)), n parameters, m probabilities.
    """
    require_model("pair_spectrum", model, HMM)
    checked = [at_least("lag", lag, 1) for lag in lags]
    at_least("number of lags", len(checked), 1)

    def law(initial: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
        return torch.stack([_pair_law(initial, transition, emission, lag) for lag in checked], -3)

    return _spectrum(model, law, family, tolerance)


def triple_spectrum(model: HMM, *, family: Family = "free", tolerance: float = RANK_TOLERANCE) -> LawSpectrum:
    """Return the singular values of the Jacobian of the law of X_1, X_2, X_3; arguments as in :func:`pair_spectrum`.

    Notes
    -----
    Where V ≥ K the nullity is generically 0. Where V < K it is at least (K−V)², as A moves freely between the kernels
    of W and Wᵀdiag(p), and at least the parameters less the equations: V³ − 1, or V³ − V² for a stationary law.
    """
    require_model("triple_spectrum", model, HMM)
    return _spectrum(model, _triple_law, family, tolerance)


def triple_views(model: HMM, *, tolerance: float = RANK_TOLERANCE) -> TripleViews:
    """Return how well three consecutive tokens see the state of the middle one.

    P(X_1|H_2), W and AW (K,V). A state that H_2 never visits has a row of zeros in the first: nothing sees it.

    Raises
    ------
    InvalidInput
        A batch of models, a memory model, a negative tolerance.

    Notes
    -----
    Where the rows of a view are dependent, the cost is that of at most :data:`SUBSET_LIMIT` small decompositions.
    """
    require_model("triple_views", model, HMM)
    require_thresholds(0.0, tolerance)
    initial, transition, emission = _arrays(model)
    first = initial @ transition
    middle = first @ transition
    previous = (first[:, None] * transition).mT @ emission / torch.where(middle > 0, middle, 1)[:, None]
    views = (previous, emission, transition @ emission)
    sigmas = [smallest_row_singular_value(view) for view in views]
    ranks = [_k_rank(view, tolerance) for view in views]
    return TripleViews(
        sigma_min=(sigmas[0], sigmas[1], sigmas[2]),
        k_ranks=(ranks[0], ranks[1], ranks[2]),
        n_states=model.n_states,
        tolerance=tolerance,
    )


# Laws of arrays (π₀, A, W) with any leading dimensions, differentiable.


def _arrays(model: HMM) -> tuple[Tensor, Tensor, Tensor]:
    model = model.detach().to(torch.float64)
    return model.initial, model.transition, model.emission


def _first(initial: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
    """Return P(X_1=x, H_1=h) (…,V,K)."""
    return emission.mT * (initial[..., None, :] @ transition)


def _pair_law(initial: Tensor, transition: Tensor, emission: Tensor, lag: int) -> Tensor:
    later = torch.linalg.matrix_power(transition, lag) @ emission
    return _first(initial, transition, emission) @ later


def _triple_law(initial: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
    middle = _first(initial, transition, emission) @ transition  # P(X_1=x, H_2=h)
    return torch.einsum("...xh,...hy,...hz->...xyz", middle, emission, transition @ emission)


def _distance(law: Tensor, other: Tensor) -> float:
    """Return the total variation between two laws."""
    return float((law - other).abs().sum()) / 2


# Twins.


def _rotation_directions(n_states: int, family: Family, n_directions: int, stream: torch.Generator) -> Tensor:
    """Return random skew matrices (n_directions,K,K) of spectral norm one; those of the second family send 1 to 0."""
    basis = torch.eye(n_states, dtype=torch.float64, device=CPU) if family == "free" else _zero_sum_basis(n_states)
    size = basis.shape[1]
    entries = torch.randn(n_directions, size, size, generator=stream, dtype=torch.float64, device=CPU)
    turns = basis @ (entries - entries.mT) @ basis.mT
    return turns / torch.linalg.matrix_norm(turns, 2)[:, None, None]


def _turned(arrays: tuple[Tensor, ...], turn: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Return R = exp(turn) (…,K,K), and π₀M⁻¹, MAM⁻¹ and MW for M = D'⁻¹RᵀD."""
    initial, transition, emission = arrays
    rotation = torch.linalg.matrix_exp(turn)
    root = (initial @ transition).sqrt()
    turned_root = root @ rotation
    there = rotation.mT * root / turned_root[..., None]  # M
    back = rotation / root[:, None] * turned_root[..., None, :]  # M⁻¹
    return rotation, (initial @ back, there @ transition @ back, there @ emission)


def _largest_angles(arrays: tuple[Tensor, ...], turns: Tensor) -> Tensor:
    """Return for each direction an angle at which the twin is still positive, and just beyond which it is not."""
    low, high = turns.new_zeros(len(turns)), turns.new_full((len(turns),), torch.pi)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        _, twins = _turned(arrays, middle[:, None, None] * turns)
        positive = torch.stack([(array.flatten(1) > 0).all(-1) for array in twins]).all(0)
        low, high = torch.where(positive, middle, low), torch.where(positive, high, middle)
    return low


# Jacobians.


def _spectrum(model: HMM, law: Callable[..., Tensor], family: Family, tolerance: float) -> LawSpectrum:
    require_thresholds(0.0, tolerance)
    _require_family("identifiability spectrum", model, family)
    arrays = _arrays(model.to(device="cpu"))
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
        _zero_sum_basis(n_states),
        _zero_sum_basis(vocabulary_size),
    )

    def products(left: Tensor, right: Tensor) -> Tensor:
        return torch.einsum("ia,jb->ijab", left, right).flatten(2)

    if family == "free":
        return states, products(every_state, states), products(every_state, tokens)
    return states[:, :0], products(states, states), products(every_state, tokens)


def _zero_sum_basis(n: int) -> Tensor:
    """Return an orthonormal basis (n,n−1) of the vectors that sum to zero."""
    return torch.from_numpy(helmert(n).T.copy())


def _require_family(function: str, model: HMM, family: Family) -> None:
    one_of("family", family, ("doubly stochastic", "free"))
    initial, transition, _ = _arrays(model)
    far = max(float((initial * model.n_states - 1).abs().max()), float((transition.sum(0) - 1).abs().max()))
    if family == "doubly stochastic" and far > _UNIFORM_TOLERANCE:
        raise InvalidInput(
            function, "doubly stochastic A and uniform π₀", f"a deviation of {far:.3g}", "use family='free'"
        )


def _k_rank(rows: Tensor, tolerance: float) -> int:
    """Return the largest k such that any k of the rows (n,V), scaled to norm one, are independent."""
    norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    if (norms == 0).any():
        return 0
    rows = rows / norms
    if smallest_row_singular_value(rows) > tolerance:
        return len(rows)
    looks = 0
    for size in range(2, min(rows.shape) + 1):
        looks += comb(len(rows), size)
        if looks > SUBSET_LIMIT:
            return size - 1
        subsets = rows[torch.tensor(list(combinations(range(len(rows)), size)), device=rows.device)]
        if torch.linalg.svdvals(subsets)[:, -1].min() <= tolerance:
            return size - 1
    return min(rows.shape)
