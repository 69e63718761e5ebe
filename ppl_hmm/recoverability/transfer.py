"""Transfer: how wrong a head can be on a language model that is not exact.

A head b reads Ĝ in place of G. Let s = bᵀG, h = (max b − min b)/2 its half-range and ε = E KL(G‖Ĝ) in nats, the mean
over texts *of the task* at the position that the head reads. As Ĝ − G sums to zero, Pinsker's inequality gives

    |δ| ≤ h‖Ĝ − G‖₁ ≤ h√(2 KL(G‖Ĝ))    for    δ = bᵀ(Ĝ − G),

and an error, a text that falls on the other side on Ĝ, needs |δ| ≥ |s|. So, by Markov's inequality, for every t > 0

    bound         P(error) ≤ P(|s| < t) + 2εh²/t²
    sharp bound   P(error) ≤ P(|s| < t) + 2εh²/t² − E[(s/t)²; |s| < t],    from 1(error) ≤ max(1 − s²/t², 0) + δ²/t²
    norm bound    P(error) ≤ P(|s| < t) + ‖b‖_∞√(2ε)/t,                    which is never below the first

Each is least where t is one of the |s|, or is 1 at t = ∞. The sharp bound spends ε on the texts that are cheapest to
flip: what is known of Ĝ through Pinsker's inequality alone gives no better one. Inequalities are strict because any
δ < 0 loses a tie, s = 0. With C > 2 classes s is the top score minus the second, and h and ‖b‖_∞ are the largest over
the differences b_c − b_c' of two classes.

ε is not the excess loss of the language model on its own text, whose contexts have another law: :func:`law_ratio`.
Source: Saunshi, Malladi & Arora (2021), arXiv 2010.03648 (the norm bound); the other two and the minimum are ours.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.wide import Wide, wide_product
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Prompt
from ppl_hmm.recoverability.arguments import require_model
from ppl_hmm.recoverability.entering import wide_law
from ppl_hmm.recoverability.half_range import (
    SmallestHalfRange as SmallestHalfRange,
    smallest_half_range as smallest_half_range,
)
from ppl_hmm.recoverability.head_reading import Array, HeadReading, distributions, read_head
from ppl_hmm.tasks import decide


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class TransferBounds:
    """Bounds on P(error) for each of E values of ε.

    Attributes
    ----------
    excess
        ε (E,) in nats, over the task's law of texts.
    bound
        min_t P(|s| < t) + 2εh²/t², (E,), at most 1.
    threshold
        The t (E,) that attains it; ∞ where the bound is 1 and says nothing.
    sharp_bound
        min_t P(|s| < t) + 2εh²/t² − E[(s/t)²; |s| < t], (E,).
    norm_bound
        min_t P(|s| < t) + ‖b‖_∞√(2ε)/t, (E,).
    half_range
        h.

    See Also
    --------
    transfer_bounds : The bounds as functions of ε.

    Examples
    --------
    >>> from ppl_hmm import transfer_bounds
    >>> bounds = transfer_bounds([[0.7, 0.3], [0.4, 0.6]], head=[1.0, -1.0], excess=[0.0, 0.01])
    >>> bounds.half_range, bounds.sharp_bound.numpy().round(3).tolist()
    (1.0, [0.0, 0.5])
    """

    excess: Tensor
    bound: Tensor
    threshold: Tensor
    sharp_bound: Tensor
    norm_bound: Tensor
    half_range: float


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Transfer:
    """The error of a head on Ĝ beside its bounds, each with the meaning it has in :class:`TransferBounds`.

    ``excess`` is E KL(G‖Ĝ) in nats; ``error`` the share of texts that the head classifies otherwise on Ĝ than on G.

    See Also
    --------
    transfer : Of a head and two language models.

    Examples
    --------
    >>> from ppl_hmm import transfer
    >>> exact, approximate = [[0.7, 0.3], [0.4, 0.6]], [[0.6, 0.4], [0.45, 0.55]]
    >>> found = transfer(exact, approximate, head=[1.0, -1.0])
    >>> found.error, round(found.excess, 3), round(found.sharp_bound, 2)
    (0.0, 0.013, 0.54)
    """

    error: float
    excess: float
    bound: float
    threshold: float
    sharp_bound: float
    norm_bound: float
    half_range: float


def transfer(conditionals: Array, approximate: Array, head: Array, weights: Array | None = None) -> Transfer:
    """Return the error of a head on Ĝ, and the bounds that the excess loss of Ĝ gives.

    Parameters
    ----------
    conditionals, approximate
        G and Ĝ (B,V) at the position that the head reads.
    head
        b (V,) for 1(bᵀG ≥ 0), or (C,V) for argmax_c b_cᵀG, ties to the higher class. Add an intercept to all of b.
    weights
        (B,) ≥ 0, in proportion to the law of texts; uniform by default.

    Raises
    ------
    InvalidInput
        Shapes that do not match, a row that is no distribution, a head or weights that are not finite, negative
        weights, or none that is positive.

    See Also
    --------
    transfer_bounds : The bounds alone, for any ε.
    law_ratio : From the loss on a language model's own text to ε.

    Notes
    -----
    ε = ∞, where Ĝ gives no probability to a token that has some, bounds nothing: all bounds are 1. Cost O(B·C·V).

    Examples
    --------
    >>> from ppl_hmm import transfer
    >>> exact, approximate = [[0.7, 0.3], [0.4, 0.6]], [[0.6, 0.4], [0.45, 0.55]]
    >>> found = transfer(exact, approximate, head=[1.0, -1.0])
    >>> found.error <= found.sharp_bound <= found.bound <= found.norm_bound
    True
    """
    read, kept = read_head(conditionals, head, weights)
    approximated = distributions("approximate", approximate)
    if approximated.shape != (len(kept), read.conditionals.shape[1]):
        raise InvalidInput(
            "approximate",
            f"shape {(len(kept), read.conditionals.shape[1])}, that of conditionals",
            f"shape {tuple(approximated.shape)}",
            "give Ĝ for the same texts",
        )
    approximated = approximated[kept]
    excess = float(read.shares @ divergence(read.conditionals, approximated))
    wrong = decide(read.conditionals @ read.head.mT) != decide(approximated @ read.head.mT)
    bounds = _bounds(read, torch.tensor([excess], dtype=torch.float64, device="cpu"))
    values = {field.name: float(getattr(bounds, field.name)) for field in dataclasses.fields(bounds)}
    return Transfer(error=float(read.shares[wrong].sum()), **values)


def transfer_bounds(conditionals: Array, head: Array, excess: Array, weights: Array | None = None) -> TransferBounds:
    """Return the bounds as functions of ε: what error a language model of that excess loss can have at most.

    Parameters
    ----------
    conditionals, head, weights
        As in :func:`transfer`.
    excess
        Values of ε ≥ 0 in nats: (E,) or a number; ∞ is allowed.

    Raises
    ------
    InvalidInput
        As in :func:`transfer`; an ε that is negative or NaN.

    See Also
    --------
    transfer : With the error itself, of a given Ĝ.
    smallest_half_range : The head whose bounds are least.

    Notes
    -----
    Cost O(B·C·V + E·B).

    Examples
    --------
    >>> from ppl_hmm import transfer_bounds
    >>> bounds = transfer_bounds([[0.7, 0.3], [0.4, 0.6]], head=[1.0, -1.0], excess=[0.0, 0.01])
    >>> bounds.bound.numpy().round(3).tolist()
    [0.0, 0.5]
    """
    values = torch.atleast_1d(as_tensor(excess, torch.device("cpu"), what="excess").to(torch.float64))
    if values.ndim != 1 or not (values >= 0).all():
        raise InvalidInput("excess", "numbers (E,) of at least 0", f"{values.tolist()}", "pass losses in nats")
    return _bounds(read_head(conditionals, head, weights)[0], values)


def _bounds(read: HeadReading, excess: Tensor) -> TransferBounds:
    sizes, shares = read.margins()
    half_range = float((read.differences.amax(-1) - read.differences.amin(-1)).max()) / 2
    noise = torch.where(excess < torch.inf, (2 * excess).sqrt(), torch.inf)[:, None]
    below = torch.nn.functional.pad(shares.cumsum(0), (1, 0))[:-1]  # P(|s| < t) at t = sizes
    largest = float(sizes[-1]) or 1.0  # squares of tiny margins must not vanish
    spent = torch.nn.functional.pad((shares * (sizes / largest) ** 2).cumsum(0), (1, 0))[:-1]

    t = sizes[sizes > 0]
    below, spent = below[sizes > 0], spent[sizes > 0] / (t / largest) ** 2
    ratio = noise / t  # 0·∞ = NaN only for a half-range of zero, replaced here
    squared = torch.where(noise < torch.inf, (half_range * ratio) ** 2, torch.inf)
    bound, threshold = _least(below + squared, t)
    return TransferBounds(
        excess=excess,
        bound=bound,
        threshold=threshold,
        sharp_bound=_least(below + squared - spent, t)[0],
        norm_bound=_least(below + float(read.differences.abs().max()) * ratio, t)[0],
        half_range=half_range,
    )


def _least(values: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least of values (E,N) at t (N,), or 1 at ∞, and where it is."""
    values = torch.nn.functional.pad(values, (0, 1), value=1.0)
    least, index = values.min(-1)
    return least, torch.nn.functional.pad(t, (0, 1), value=torch.inf)[index]


def divergence(conditionals: Tensor, approximate: Tensor) -> Tensor:
    """Return KL(G‖Ĝ) (B,) in nats of distributions (B,V): ∞ where Ĝ gives no probability to a token that has some.

    Where rounding brings the sum below ½‖Ĝ − G‖₁², which Pinsker's inequality makes it at least, it is that.
    """
    terms = torch.xlogy(conditionals, conditionals) - torch.xlogy(conditionals, approximate)
    return torch.maximum(terms.sum(-1), (approximate - conditionals).abs().sum(-1) ** 2 / 2)


def law_ratio(model: HMM, prompt: Prompt | None = None) -> float:
    """Return the most that texts of the task are likelier than as contexts of the mask: ε ≤ ratio × own excess loss.

    The task's texts have the law π₀ᵀf(x); the contexts on which a language model is scored at the mask have qᵀf(x),
    where q = π₀A enters the mask without a prompt. As f = Ag with g ≥ 0, their ratio is at most
    max_h (π₀A)_h/(qA)_h, which is at most max_h π₀(h)/q(h); ∞ where the task has texts that are no contexts.

    Raises
    ------
    InvalidInput
        A batch of models, a memory model, a prompt that does not fit.

    See Also
    --------
    transfer_bounds : What ε bounds.

    Examples
    --------
    >>> from ppl_hmm import example, law_ratio
    >>> round(law_ratio(example("aliased")[0]), 3)
    1.429
    """
    require_model("law_ratio", model, HMM)
    model = model.detach().to(torch.float64)
    moves = Wide.of(model.transition)
    first, second = (wide_product(law[None], moves)[0] for law in (Wide.of(model.initial), wide_law(model, prompt)))
    return float((first[first.positive] / second[first.positive]).floats().max())
