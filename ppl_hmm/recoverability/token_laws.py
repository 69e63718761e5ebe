"""Laws of two and of three tokens of a model, and the families of models that they are compared in."""

from __future__ import annotations

from typing import Literal

import torch
from scipy.linalg import helmert
from torch import Tensor

from ppl_hmm.errors import InvalidInput, at_least, one_of
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.arguments import require_model

#: Singular values within this share of the largest count as zero, by default.
RANK_TOLERANCE = 1e-10

Family = Literal["free", "doubly stochastic"]
_UNIFORM_TOLERANCE = 1e-12


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

    See Also
    --------
    triple_law : Of three consecutive tokens.
    pairwise_twin : Another model with the same laws of pairs.

    Notes
    -----
    Cost O(log(lag)·K³ + K·V·(K+V)).

    Examples
    --------
    >>> from ppl_hmm import HMM, pair_law
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> pair_law(model, lag=1).numpy().round(3).tolist()
    [[0.104, 0.09, 0.106], [0.084, 0.09, 0.126], [0.092, 0.12, 0.188]]
    """
    require_model("pair_law", model, HMM)
    return pair_law_of(*arrays_of(model), at_least("lag", lag, 1))


def triple_law(model: HMM) -> Tensor:
    """Return P(X_1=x, X_2=y, X_3=z) (V,V,V); time and errors as in :func:`pair_law`. Cost O(K·V²·(K+V)).

    See Also
    --------
    pair_law : Of two tokens.
    triple_spectrum : How far it determines the model.

    Examples
    --------
    >>> from ppl_hmm import HMM, pair_law, triple_law
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> law = triple_law(model)
    >>> bool((law.sum(1) - pair_law(model, lag=2)).abs().max() < 1e-15)
    True
    """
    require_model("triple_law", model, HMM)
    return triple_law_of(*arrays_of(model))


# Laws of arrays (π₀, A, W) with any leading dimensions, differentiable.


def arrays_of(model: HMM) -> tuple[Tensor, Tensor, Tensor]:
    """Return π₀, A and W in float64, without their graph."""
    model = model.detach().to(torch.float64)
    return model.initial, model.transition, model.emission


def _first(initial: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
    """Return P(X_1=x, H_1=h) (…,V,K)."""
    return emission.mT * (initial[..., None, :] @ transition)


def pair_law_of(initial: Tensor, transition: Tensor, emission: Tensor, lag: int) -> Tensor:
    """Return P(X_1=x, X_{1+lag}=y) (…,V,V)."""
    later = torch.linalg.matrix_power(transition, lag) @ emission
    return _first(initial, transition, emission) @ later


def triple_law_of(initial: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
    """Return P(X_1=x, X_2=y, X_3=z) (…,V,V,V)."""
    middle = _first(initial, transition, emission) @ transition  # P(X_1=x, H_2=h)
    return torch.einsum("...xh,...hy,...hz->...xyz", middle, emission, transition @ emission)


def law_distance(law: Tensor, other: Tensor) -> float:
    """Return the total variation between two laws."""
    return float((law - other).abs().sum()) / 2


def zero_sum_basis(n: int) -> Tensor:
    """Return an orthonormal basis (n,n−1) of the vectors that sum to zero."""
    return torch.from_numpy(helmert(n).T.copy())


def require_family(function: str, model: HMM, family: Family) -> None:
    """Raise :class:`InvalidInput` unless the model is in the family, and the family known."""
    one_of("family", family, ("doubly stochastic", "free"))
    initial, transition, _ = arrays_of(model)
    far = max(float((initial * model.n_states - 1).abs().max()), float((transition.sum(0) - 1).abs().max()))
    if family == "doubly stochastic" and far > _UNIFORM_TOLERANCE:
        raise InvalidInput(
            function, "doubly stochastic A and uniform π₀", f"a deviation of {far:.3g}", "use family='free'"
        )
