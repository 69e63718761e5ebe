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
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.linalg import null_space
from scipy.optimize import linprog
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.checks import check_distributions
from ppl_hmm.base.labels import read
from ppl_hmm.base.quiet import stdout_to_stderr
from ppl_hmm.errors import InvalidInput, PplHmmError
from ppl_hmm.exact.wide import Wide, wide_product
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Prompt
from ppl_hmm.recoverability.certificate import (
    RESIDUAL_TOLERANCE,
    SCORE_ROUNDING,
    require_model,
    require_pair,
    require_thresholds,
)
from ppl_hmm.recoverability.head import law_rounding, margin_error, states_entered, task_targets, wide_law
from ppl_hmm.tasks import PosteriorTask, decide, on_possible_values

Array = ArrayLike | Tensor


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
    """

    error: float
    excess: float
    bound: float
    threshold: float
    sharp_bound: float
    norm_bound: float
    half_range: float


class SmallestHalfRange(NamedTuple):
    """The least noise amplification of a head that solves W b = Dμ, and that head; ∞ and None where none does."""

    half_range: float
    weights: Tensor | None  # (V,) for two classes, (C,V) for more, class 0 at zero


class _Read(NamedTuple):
    """Exact conditionals as a head reads them, without the texts of weight zero."""

    conditionals: Tensor  # (B,V)
    head: Tensor  # (C,V); zeros and b for two classes
    shares: Tensor  # (B,), sum to one

    @property
    def differences(self) -> Tensor:
        """b_c' − b_c for each pair of classes (pairs,V)."""
        first, second = _pairs(len(self.head))
        return self.head[second] - self.head[first]

    def margins(self) -> tuple[Tensor, Tensor]:
        """Return the distinct |s| in ascending order, ties at 0, and the share of texts that has each."""
        top = (self.conditionals @ self.head.mT).topk(2, dim=-1).values
        margins = top[:, 0] - top[:, 1]
        rounding = SCORE_ROUNDING * self.head.abs().sum(-1).max()
        sizes, index = torch.unique(torch.where(margins > rounding, margins, 0), return_inverse=True)
        return sizes, torch.zeros_like(sizes).index_add(0, index, self.shares)


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

    Notes
    -----
    ε = ∞, where Ĝ gives no probability to a token that has some, bounds nothing: all bounds are 1. Cost O(B·C·V).
    """
    read, kept = _read(conditionals, head, weights)
    approximated = _distributions("approximate", approximate)
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

    Notes
    -----
    Cost O(B·C·V + E·B).
    """
    values = torch.atleast_1d(as_tensor(excess, torch.device("cpu"), what="excess").to(torch.float64))
    if values.ndim != 1 or not (values >= 0).all():
        raise InvalidInput("excess", "numbers (E,) of at least 0", f"{values.tolist()}", "pass losses in nats")
    return _bounds(_read(conditionals, head, weights)[0], values)


def _bounds(read: _Read, excess: Tensor) -> TransferBounds:
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
    """
    require_model("law_ratio", model, HMM)
    model = model.detach().to(torch.float64)
    moves = Wide.of(model.transition)
    first, second = (wide_product(law[None], moves)[0] for law in (Wide.of(model.initial), wide_law(model, prompt)))
    return float((first[first.positive] / second[first.positive]).floats().max())


def smallest_half_range(
    model: HMM,
    task: PosteriorTask,
    prompt: Prompt | None = None,
    *,
    support_threshold: float = 0.0,
    tolerance: float = RESIDUAL_TOLERANCE,
) -> SmallestHalfRange:
    """Return the least half-range of a head with W b = Dμ on the states that enter the mask, and the head.

    D = diag(π₀/q); all these heads have the score c(x)·μᵀP(H₀|x), c = π₀ᵀf/qᵀf, on every text, so that the one of
    least half-range is surest of it when G is not exact. They are b₀ + Nz: b₀ the one of least norm, which is the
    weights of :func:`~ppl_hmm.head_certificate` where it solves this equation, and N a basis of {b : W b = 0}. With
    C > 2 classes the heads are chosen together, for the least half-range of the widest difference b_c − b_c'.

    Parameters
    ----------
    model, task, prompt, support_threshold, tolerance
        As in :func:`~ppl_hmm.head_certificate`.

    Returns
    -------
    SmallestHalfRange
        Half-range ∞ and no weights where b₀ moves the margin of a text by more than ``tolerance``·‖μ‖_∞. The weaker
        equations that a certificate also tries may have a solution then.

    Raises
    ------
    InvalidInput
        As in :func:`~ppl_hmm.head_certificate`.

    Notes
    -----
    A linear programme (HiGHS) in (C−1)(V−rank W) + C(C−1)/2 + 1 variables; equality is exact by N, not by its
    tolerance. Relative accuracy of the half-range about 1e-9.
    """
    require_pair("smallest_half_range", model, task, HMM)
    require_thresholds(support_threshold, tolerance)
    model, task = model.detach().to(torch.float64, "cpu"), task.detach().to(torch.float64, "cpu")
    task = on_possible_values(model, task)
    law, entered = wide_law(model, prompt), states_entered(model, prompt, support_threshold)
    rows = model.emission[entered].numpy()
    ratio = (Wide.of(task_targets(model, task))[:, entered] / law[entered]).floats().nan_to_num()  # beyond floats: none
    solution = ratio.numpy() @ np.linalg.pinv(rows, rcond=_rank_tolerance(rows)).T
    scale = float(task.contrasts.abs().max()) or 1.0
    kept, rounding = law.where(entered, 0.0), law_rounding(model)
    if margin_error(model, task, kept, torch.from_numpy(solution), rounding) > tolerance * scale:
        return SmallestHalfRange(float("inf"), None)
    free = null_space(rows, rcond=_rank_tolerance(rows))
    if task.n_classes == 2:
        weights, half_range = _narrowest(solution, free, np.ones((1, 1)))
        return SmallestHalfRange(half_range, torch.from_numpy(weights[0]))
    classes = np.eye(task.n_classes)[:, 1:]  # class 0 stays at zero
    first, second = _pairs(task.n_classes)
    pairs = classes[second] - classes[first]
    weights, half_range = _narrowest(solution[1:], free, pairs)
    return SmallestHalfRange(half_range, torch.from_numpy(np.vstack([np.zeros(weights.shape[1]), weights])))


def _narrowest(solution: np.ndarray, free: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, float]:
    """Return heads solution + z·freeᵀ (m,V) whose ``pairs`` (n,m) of combinations have the least half-range, and it.

    min h over z, the middles c and h, subject to |pairs (solution + z freeᵀ) − c| ≤ h, in units of ‖solution‖_∞.
    """
    unit = np.abs(solution).max() or 1.0
    n_pairs, n_tokens = len(pairs), solution.shape[1]
    offsets = (pairs @ solution / unit).ravel()
    moves: np.ndarray = np.hstack([np.kron(pairs, free), -np.kron(np.eye(n_pairs), np.ones((n_tokens, 1)))])
    height = -np.ones((len(offsets), 1))
    with stdout_to_stderr():
        programme = linprog(
            c=np.r_[np.zeros(moves.shape[1]), 1.0],
            A_ub=np.vstack([np.hstack([moves, height]), np.hstack([-moves, height])]),
            b_ub=np.r_[-offsets, offsets],
            bounds=(None, None),
            method="highs",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )
    if programme.x is None:
        raise PplHmmError("half-range programme", "an optimum", programme.message, "rescale the task's weights")
    z = programme.x[: solution.shape[0] * free.shape[1]].reshape(len(solution), -1)
    weights = solution + unit * z @ free.T
    return weights, float(np.ptp(pairs @ weights, axis=1).max()) / 2


def _pairs(n_classes: int) -> tuple[list[int], list[int]]:
    """Return the lower and the higher class of every pair."""
    pairs = list(combinations(range(n_classes), 2))
    return [lower for lower, _ in pairs], [higher for _, higher in pairs]


def _rank_tolerance(rows: np.ndarray) -> float:
    """Return the share of the largest singular value below which one counts as zero: rounding alone."""
    return np.finfo(float).eps * max(rows.shape)


def _read(conditionals: Array, head: Array, weights: Array | None) -> tuple[_Read, Tensor]:
    """Return the checked arguments, and which texts (B,) have positive weight."""
    exact = _distributions("conditionals", conditionals)
    checked = as_tensor(head, torch.device("cpu"), what="head").detach().to(torch.float64)
    if checked.ndim not in (1, 2) or checked.shape[-1] != exact.shape[1] or not torch.isfinite(checked).all():
        raise InvalidInput(
            "head",
            f"finite weights ({exact.shape[1]},), or (C, {exact.shape[1]}) for C classes",
            f"shape {tuple(checked.shape)}" + ("" if torch.isfinite(checked).all() else " with NaN or infinity"),
            "give one weight for each token",
        )
    checked = torch.atleast_2d(checked)
    if len(checked) == 1:
        checked = torch.cat([torch.zeros_like(checked), checked])
    if weights is None:
        shares = exact.new_ones(len(exact))
    else:
        shares = as_tensor(weights, torch.device("cpu"), what="weights").detach().to(torch.float64)
    total = float(shares.sum())
    if shares.shape != exact.shape[:1] or not (shares >= 0).all() or not 0 < total < float("inf"):
        raise InvalidInput(
            "weights",
            f"finite numbers ({len(exact)},) of at least 0, not all 0",
            f"shape {tuple(shares.shape)} with sum {total:g}",
            "pass e.g. the probability of each text",
        )
    kept = shares > 0
    return _Read(exact[kept], checked, shares[kept] / total), kept


def _distributions(what: str, rows: Array) -> Tensor:
    """Return rows (B,V), divided by their sums: float64 may not have had them so."""
    array = read(rows, (schema.SEQUENCE, schema.TOKEN), what)
    checked = as_tensor(array.values, torch.device("cpu"), what=what).detach().to(torch.float64)
    if checked.ndim != 2 or not torch.isfinite(checked).all():
        raise InvalidInput(
            what,
            "distributions (B, V)",
            f"shape {tuple(checked.shape)}" + (" with NaN or infinity" if checked.ndim == 2 else ""),
            "give one row of conditionals for each text",
        )
    check_distributions(what, checked)
    return checked / checked.sum(-1, keepdim=True)
