"""Twins: other models with the same laws of pairs of tokens at every lag.

Let p = π₀A be the law of the first state that emits, R a rotation, √p' = Rᵀ√p > 0, D = diag(√p), D' = diag(√p') and
M = D'⁻¹RᵀD. The twin

    W' = MW,   A' = MAM⁻¹,   π₀' = π₀M⁻¹

has rows that sum to one, as M1 = 1, the law p' of its first state and the same laws of pairs at *every* lag; near R = I
it is a model if π₀, A, W > 0. Rotations have K(K−1)/2 directions, of which (K−1)(K−2)/2 leave √p, and so p, as it is.
Where A is doubly stochastic and π₀ uniform, the latter give twins of the same kind: W' = RᵀW, A' = RᵀAR. Lag 1 alone
leaves more: (K−1)² directions in that family and K(K−1) in all. (For V ≥ K; fewer tokens leave more open.)
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.arguments import require_model
from ppl_hmm.recoverability.token_laws import (
    Family,
    arrays_of,
    law_distance,
    pair_law_of,
    require_family,
    triple_law_of,
    zero_sum_basis,
)

_LAGS_COMPARED = range(1, 9)
_BISECTIONS = 40


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

    See Also
    --------
    pairwise_twin : The twin of a model.

    Examples
    --------
    >>> from ppl_hmm import HMM, pairwise_twin
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> twin = pairwise_twin(model, seed=0)
    >>> twin.pair_distance < 1e-12, round(twin.triple_distance, 3)
    (True, 0.014)
    """

    model: HMM
    rotation: Tensor
    pair_distance: float
    triple_distance: float


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

    See Also
    --------
    pair_spectrum : How many directions of twins there are.
    triple_law : The law that tells twins apart.

    Notes
    -----
    The twin is no mere relabelling if ``triple_distance`` > 0; W with equal rows everywhere has none that differs.
    Cost O(n_directions·(40·K²·(K+V) + K·V²·(K+V))).

    Examples
    --------
    >>> from ppl_hmm import HMM, pairwise_twin
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> pairwise_twin(model, seed=0).pair_distance < 1e-12
    True
    """
    require_model("pairwise_twin", model, HMM)
    require_family("pairwise_twin", model, family)
    at_least("n_directions", n_directions, 1)
    fewest = 2 if family == "free" else 3  # of two states no small rotation leaves 1 as it is
    if model.n_states < fewest:
        raise InvalidInput(
            "n_states",
            f"an integer of at least {fewest}",
            str(model.n_states),
            "no smaller model of the family has twins",
        )
    arrays = arrays_of(model.to(device="cpu"))
    if not all((array > 0).all() for array in arrays):
        raise InvalidInput(
            "pairwise_twin", "π₀, A, W > 0 entrywise", "a zero", "use the spectra, which do not need positive entries"
        )

    turns = _rotation_directions(model.n_states, family, n_directions, generator(seed, "pairwise twin"))
    angles = _largest_angles(arrays, turns)
    triple = triple_law_of(*arrays)
    distances = [
        law_distance(triple_law_of(*_turned(arrays, angle * turn)[1]), triple)
        for angle, turn in zip(angles, turns, strict=True)
    ]
    best = max(range(n_directions), key=distances.__getitem__)
    rotation, twin = _turned(arrays, angles[best] * turns[best])
    return Twin(
        model=HMM(*twin),
        rotation=rotation,
        pair_distance=max(law_distance(pair_law_of(*twin, lag), pair_law_of(*arrays, lag)) for lag in _LAGS_COMPARED),
        triple_distance=distances[best],
    )


def _rotation_directions(n_states: int, family: Family, n_directions: int, stream: torch.Generator) -> Tensor:
    """Return random skew matrices (n_directions,K,K) of spectral norm one; those of the second family send 1 to 0."""
    basis = torch.eye(n_states, dtype=torch.float64, device=CPU) if family == "free" else zero_sum_basis(n_states)
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
