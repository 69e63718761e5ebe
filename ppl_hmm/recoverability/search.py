"""Prompts with a head for given texts, by sequential linear programmes.

In log v and b the scores s_i of :mod:`~ppl_hmm.recoverability.bilinear` are smooth. A step maximises, within a trust
region, the smallest score that their linearisation promises:

    max γ  subject to  s_i + ρ J_i d ≥ γ τ_i,  d ∈ [−1,1]^{K+V},  τ_i = (|margin_i|/‖μ‖_∞)^½,

and is kept where the smallest s_i/τ_i rises. The texts of the largest margins come first: each threshold on margins
starts from the point that the one before ended with. What is found separates these texts; it proves nothing of others,
and what is not found may exist. The search is ours.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
from scipy.optimize import linprog

from ppl_hmm.base.quiet import stdout_to_stderr
from ppl_hmm.models import SoftPrompt
from ppl_hmm.models.kinds import Prompt
from ppl_hmm.recoverability.bilinear import BilinearForm
from ppl_hmm.recoverability.starts import Point, fitted_head, random_weights, trained

#: Random starts, by default.
RESTARTS = 12
_SPREADS = (0.5, 2.0, 4.0, 8.0)  # standard deviations of log v in random starts, in turn
_FAINTEST = 1e-6  # what a zero of a given prompt becomes, beside 1: the search can still raise it
# Thresholds on margins, relative to ‖μ‖_∞: the first, and the ratio of one to the next.
_FIRST_THRESHOLD, _RATIO = 0.3, 10**-0.5
_STEPS = 60  # linear programmes at one threshold
_WORKING_SET = 250  # texts of a linear programme: those of the smallest scores
_FIRST_RADIUS, _SMALLEST_RADIUS, _LARGEST_RADIUS = 0.25, 1e-9, 4.0
_WIDER, _NARROWER = 2.0, 0.25


class Start(NamedTuple):
    """A prompt to search from, with its head; without one, the head is fitted."""

    prompt: Prompt
    head: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class FoundPrompt:
    """The best prompt with a head that a search found, and the texts that they get wrong.

    Attributes
    ----------
    prompt
        Rows (L,K).
    head
        b (V,): 1(bᵀG ≥ 0) is the class.
    wrong
        Indices (n,) in the batch of the decidable texts without a surely right score.
    resolution
        Largest |margin| of such a text; 0 where there is none. All texts with larger margins are classified right.
    n_texts
        Decidable texts that were asked for.

    See Also
    --------
    prompt_certificate : Searches one, for texts.
    fit_prompt : Learns one, from a start such as this.

    Examples
    --------
    >>> from ppl_hmm import PosteriorTask, prompt_certificate, random_hmm
    >>> model, task = random_hmm("dirichlet", 4, 2, seed=0), PosteriorTask([[0, 0, 0, 0], [1, -1, 1, -1]])
    >>> found = prompt_certificate(model, task, [[0, 0, 1], [1, 0, 0], [0, 1, 1]]).found
    >>> found.prompt.rows.shape, found.separates, found.resolution
    (torch.Size([1, 4]), True, 0.0)
    """

    prompt: SoftPrompt
    head: np.ndarray
    wrong: np.ndarray
    resolution: float
    n_texts: int

    @classmethod
    def of(cls, form: BilinearForm, weights: np.ndarray, head: np.ndarray, prompt_length: int) -> Self:
        """Return what weights v (K,) and a head say of the texts, the prompt being the floats that are handed out."""
        prompt = form.prompt(weights, prompt_length)
        wrong = ~form.right(form.weights(prompt), head)
        return cls(prompt, head, form.texts[wrong], float(form.margins[wrong].max(initial=0.0)), len(form))

    @property
    def separates(self) -> bool:
        """Whether every decidable text is classified right."""
        return not len(self.wrong)


def find_prompt(
    form: BilinearForm,
    *,
    starts: Sequence[Start] = (),
    resolution: float = 0.0,
    restarts: int = RESTARTS,
    seconds: float = np.inf,
    seed: int = 0,
) -> FoundPrompt:
    """Search a prompt and a head for the texts of a bilinear form.

    Parameters
    ----------
    starts
        Prompts to begin with, before random ones: constructed or learned.
    resolution
        Margins that matter: the search ends once all texts of larger ones are right.
    restarts
        Random starts at most, one at least.
    seconds
        After which no step begins; the result then depends on the machine.
    seed
        Of the random starts.

    Returns
    -------
    FoundPrompt
        Of all points met the one of the smallest resolution, checked with its prompt as floats.

    Notes
    -----
    A linear programme of K+V variables and at most 250 texts takes some milliseconds, and each of the thresholds from
    0.3·‖μ‖_∞ down to ``resolution`` at most 60 of them.
    """
    deadline = time.monotonic() + seconds
    met = (
        FoundPrompt.of(form, reached.weights, reached.head, length)
        for length, point in _starting_points(form, starts, restarts, np.random.default_rng(seed))
        for reached in _climb(form, point, resolution, deadline)
    )
    best = next(met)
    while best.resolution > resolution and time.monotonic() < deadline and (found := next(met, None)) is not None:
        best = min(best, found, key=lambda each: each.resolution)
    return best


def _starting_points(
    form: BilinearForm, starts: Sequence[Start], restarts: int, rng: np.random.Generator
) -> Iterator[tuple[int, Point]]:
    """Yield points with the length of their prompts: given ones, as they are and without zeros, then random ones."""
    for prompt, head in starts:
        weights = form.weights(prompt)
        for support in form.supports:
            if not (weights > 0)[~support.states].any():
                raised = np.where(support.states, weights.clip(_FAINTEST), 0)
                for each in (weights, raised) if weights.any() else (raised,):
                    yield support.prompt_length, Point.of(each, fitted_head(form, each) if head is None else head)
    for restart in range(max(restarts, 1)):
        support = form.supports[restart % len(form.supports)]
        weights = random_weights(support.states, _SPREADS[restart % len(_SPREADS)], rng)
        yield support.prompt_length, trained(form, weights)


def _climb(form: BilinearForm, point: Point, resolution: float, deadline: float) -> Iterator[Point]:
    """Yield a point, then what ascents make of it for the texts above one threshold after the other."""
    yield point
    for threshold in _thresholds(form, resolution):
        texts = form.select(form.margins > threshold)
        if not len(texts):
            continue
        point, separated = _ascend(texts, point, deadline)
        yield point
        if not separated:
            return


def _thresholds(form: BilinearForm, resolution: float) -> Iterator[float]:
    """Yield thresholds on margins, from large ones down to ``resolution``, or to zero where no margin is left below."""
    threshold, last = _FIRST_THRESHOLD * form.scale, max(resolution, form.margins.min())
    while threshold > last:
        yield threshold
        threshold *= _RATIO
    yield resolution


def _ascend(form: BilinearForm, point: Point, deadline: float) -> tuple[Point, bool]:
    """Return a point of a higher smallest score, and whether all scores are surely positive there."""
    units = np.sqrt(form.margins / form.scale)
    point, radius = point.scaled(), _FIRST_RADIUS
    smallest = _smallest(form, point, units)
    for _ in range(_STEPS):
        if smallest > 0 or radius < _SMALLEST_RADIUS or time.monotonic() > deadline:
            break
        proposed = _proposed(form, point, units, radius)
        risen = -np.inf if proposed is None else _smallest(form, proposed, units)
        if proposed is not None and risen > smallest:
            point, smallest, radius = proposed, risen, min(_WIDER * radius, _LARGEST_RADIUS)
        else:
            radius *= _NARROWER
    return point, smallest > 0


def _smallest(form: BilinearForm, point: Point, units: np.ndarray) -> float:
    """Return the smallest s_i/τ_i, less what rounding may have added."""
    weights = point.weights
    return float(((form.scores(weights, point.head) - form.score_errors(weights, point.head)) / units).min())


def _proposed(form: BilinearForm, point: Point, units: np.ndarray, radius: float) -> Point | None:
    """Return the point that the linear programme of this trust region proposes, None where the solver fails.

    Rows are divided by ρ·max|J_i|, so that the solver's tolerance becomes finer with the region. Texts whose scores
    stay above the smallest within the region are left out.
    """
    weights = point.weights
    worth = form.scores(weights, point.head) / units
    worst = np.argsort(worth)[:_WORKING_SET]
    smallest, form, units = worth[worst[0]], form.select(worst), units[worst]
    jacobian = np.hstack([form.gradients(weights, point.head), form.signed_features(weights)])
    above = worth[worst] * units - smallest * units
    sizes = np.abs(jacobian).max(1)
    kept = (sizes > 0) & (above <= 4 * radius * np.abs(jacobian).sum(1))
    if not kept.any():
        return None
    rows = np.c_[-jacobian[kept], units[kept]] / sizes[kept, None]
    with stdout_to_stderr():
        programme = linprog(
            c=np.r_[np.zeros(jacobian.shape[1]), -1.0],
            A_ub=rows,
            b_ub=above[kept] / (radius * sizes[kept]),
            bounds=[(-1, 1)] * jacobian.shape[1] + [(0, None)],
            method="highs",
            options={"presolve": False},  # takes longer than the solution
        )
    if programme.x is None:
        return None
    step = radius * programme.x[:-1]
    return Point(point.logarithms + step[: len(weights)], point.head + step[len(weights) :]).scaled()
