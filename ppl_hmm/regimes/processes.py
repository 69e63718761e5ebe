"""Known processes by name: hidden Markov models whose beliefs and entropy rates are in the literature.

Entropy rates are in nats; H(p) = −p log p − (1−p) log(1−p). Every process starts in its stationary law.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_hmm.base import foreign
from ppl_hmm.base.randomness import CPU
from ppl_hmm.errors import InvalidInput, at_least, one_of, within
from ppl_hmm.models import HMM, MealyHMM
from ppl_hmm.regimes.registry import require_options

Process = HMM | MealyHMM

PROCESSES: dict[str, Callable[..., Process]] = {}
_NO_HMM = ("bloch_walk", "tom_quantum")  # generalised hidden Markov models, which others call by these names


def process(name: str, **parameters: Any) -> Process:
    """Return a known process by name, started in its stationary law.

    Parameters
    ----------
    name
        ``'mess3'`` (``x``, ``alpha``), ``'z1r'`` (``p``), ``'golden_mean'`` (``p``), ``'cyclic'`` (``n_states``,
        ``skip``, ``noise``): an :class:`~ppl_hmm.HMM`. ``'rrxor'`` (``p``, ``q``), ``'even'`` (``p``), ``'sns'``
        (``p``, ``q``): a :class:`~ppl_hmm.MealyHMM`, whose ``hmm`` has the same text. ``'product'`` (``factors``):
        independent processes side by side, a MealyHMM if one of them is. Each is described in
        :mod:`ppl_hmm.regimes.processes`, with its entropy rate.
    **parameters
        Those of the process; they have defaults, but for ``factors``.

    Raises
    ------
    InvalidInput
        An unknown process (with the list) or parameter, a parameter out of its range; a process that is no hidden
        Markov model, as its matrices have negative entries.

    See Also
    --------
    random_hmm : A random model.
    HMM.from_mealy : A process of one's own, from its matrices.

    Examples
    --------
    >>> from ppl_hmm import process
    >>> process("mess3").n_states, process("rrxor").n_states, process("rrxor").hmm.n_states
    (3, 5, 8)
    >>> process("product", factors=["mess3", "golden_mean"]).n_states
    6
    """
    asked = name.replace("-", "_") if isinstance(name, str) else name
    if asked in _NO_HMM:
        known = ", ".join(sorted(PROCESSES))
        reason = "one whose matrices have negative entries, which is no hidden Markov model"
        raise InvalidInput(f"process {name!r}", "a process with probabilities", reason, f"choose among {known}")
    one_of("process", asked, PROCESSES)
    require_options(f"parameters of process {asked!r}", PROCESSES[asked], parameters)
    return PROCESSES[asked](**parameters)


def _named(function: Callable[..., Process]) -> Callable[..., Process]:
    PROCESSES[function.__name__] = function
    return function


@_named
def mess3(*, x: float = 0.05, alpha: float = 0.85) -> HMM:
    """Return three states and three tokens with fractal beliefs.

    A state stays with probability 1 − 2x, and moves to each other state with probability x. It emits its own token with
    probability α, each other one with probability (1−α)/2. The beliefs after texts of different letters all differ:
    3^L after L tokens. The entropy rate has no closed form; for x = 0.05, α = 0.85 it is in [0.7934574, 0.7934579].
    Source: Marzen & Crutchfield (2017); Shai et al. (2024).
    """
    x, alpha = _share("x", x, 0.5), _share("alpha", alpha)
    moves = torch.where(_eye(3) > 0, 1 - 2 * x, _array(x))
    return HMM(_uniform(3), moves, torch.where(_eye(3) > 0, alpha, _array((1 - alpha) / 2)))


@_named
def z1r(*, p: float = 0.5) -> HMM:
    """Return zero, one, random: tokens 0, 1 and a coin that shows 1 with probability p, over and over.

    Seven beliefs in all for p = ½. Entropy rate H(p)/3: 0.231049. Source: Shai et al. (2024).
    """
    p = _share("p", p)
    return HMM(_uniform(3), _eye(3).roll(1, 1), _array([[1, 0], [0, 1], [1 - p, p]]))


@_named
def golden_mean(*, p: float = 0.5) -> HMM:
    """Return a process without two zeros in a row: after a one, zero with probability p.

    The last token tells the state. Entropy rate H(p)/(1+p): 0.462098 for p = ½. Source: Crutchfield & Young (1989).
    """
    p = _share("p", p)
    return HMM(_array([1 / (1 + p), p / (1 + p)]), _array([[1 - p, p], [1, 0]]), _array([[0, 1], [1, 0]]))


@_named
def cyclic(*, n_states: int = 7, skip: float = 0.1, noise: float = 0.0) -> HMM:
    """Return days of the week: each state follows the one before it, and its token names it.

    With probability ``skip`` one state is left out. A token names another state, each as often, with probability
    ``noise``. Entropy rate H(skip) without noise: 0.325083.
    """
    n_states = at_least("n_states of process 'cyclic'", n_states, 3)
    skip, noise = _share("skip", skip), _share("noise", noise)
    moves = (1 - skip) * _eye(n_states).roll(1, 1) + skip * _eye(n_states).roll(2, 1)
    names = torch.where(_eye(n_states) > 0, 1 - noise, _array(noise / (n_states - 1)))
    return HMM(_uniform(n_states), moves, names)


@_named
def rrxor(*, p: float = 0.5, q: float = 0.5) -> MealyHMM:
    """Return random, random, XOR: two coins, ones with probabilities p and q, then whether they differ.

    Thirty-six beliefs in all for p = q = ½. Entropy rate (H(p) + H(q))/3: 0.462098. States: start, after 0, after 1,
    before 0, before 1. Source: Riechers & Crutchfield (2018); Shai et al. (2024).
    """
    p, q = _share("p", p), _share("q", q)
    matrices = torch.zeros(2, 5, 5, dtype=torch.float64, device=CPU)
    for first, of_first in enumerate((1 - p, p)):
        matrices[first, 0, 1 + first] = of_first
        for second, of_second in enumerate((1 - q, q)):
            matrices[second, 1 + first, 3 + (first ^ second)] = of_second
    matrices[0, 3, 0] = matrices[1, 4, 0] = 1
    return HMM.from_mealy(matrices)


@_named
def even(*, p: float = 0.5) -> MealyHMM:
    """Return ones in blocks of even length: after a zero or a whole block, zero with probability p.

    No number of tokens, if all are ones, tells the state. Entropy rate H(p)/(2−p): 0.462098 for p = ½. Source:
    Weiss (1973); Crutchfield & Young (1989).
    """
    p = _share("p", p)
    return HMM.from_mealy(_array([[[p, 0], [0, 0]], [[0, 1 - p], [1, 0]]]))


@_named
def sns(*, p: float = 0.5, q: float = 0.5) -> MealyHMM:
    """Return the simple nonunifilar source: ones in two states, and the second one's end is a zero.

    State 0 moves on with probability p, emitting a one either way; state 1 stays with probability 1 − q, emitting a
    one, and goes back to state 0 emitting a zero. A belief for each number n of ones since the last zero, infinitely
    many. Text renews itself with each zero. With S_n = P(n ones or more follow a zero) the entropy rate is
    (Σ_n −f_n log f_n)/Σ_n S_n, where f_n = S_n − S_{n+1}: 0.469862 for p = q = ½, where
    f_n = n/2^{n+1}. Source: Crutchfield (1994); Marzen & Crutchfield (2015).
    """
    p, q = _share("p", p), _share("q", q)
    if p == q == 0:
        raise InvalidInput("p and q of process 'sns'", "one above 0", "both 0", "give the states a way to each other")
    return HMM.from_mealy(_array([[[0, 0], [q, 0]], [[1 - p, p], [0, 1 - q]]]))


@_named
def product(*, factors: Sequence[str | Process]) -> Process:
    """Return independent processes side by side: a token is the pair, or tuple, of theirs.

    Token Σ x_i ∏_{j>i} V_j stands for (x_1, …, x_n), and states count likewise, so that a belief is the outer product
    of the beliefs of the factors: ``belief.reshape(K_1, …, K_n)``. Entropy rates add up.

    Parameters
    ----------
    factors
        Names or models; an HMM starts in the law that it has.
    """
    if isinstance(factors, str) or not isinstance(factors, Sequence) or not len(factors):
        remedy = "pass e.g. factors=['mess3', 'golden_mean']"
        raise InvalidInput("factors of process 'product'", "a list of names or models", repr(factors), remedy)
    return functools.reduce(_side_by_side, map(_factor, factors))


def _factor(factor: str | Process) -> Process:
    model = process(factor) if isinstance(factor, str) else factor
    foreign.require(model, (HMM, MealyHMM), "factor of process 'product'", "a name, an HMM or a MealyHMM")
    model.require_single("factor of process 'product'")
    return model


def _side_by_side(first: Process, second: Process) -> Process:
    """Return two independent processes as one."""
    initial = torch.kron(first.initial, second.initial)
    if isinstance(first, HMM) and isinstance(second, HMM):
        moves = torch.kron(first.transition, second.transition)
        return HMM(initial, moves, torch.kron(first.emission, second.emission))
    matrices = [each if isinstance(each, MealyHMM) else each.to_mealy() for each in (first, second)]
    return MealyHMM(initial, torch.kron(matrices[0].matrices, matrices[1].matrices))


def _share(name: str, value: object, largest: float = 1.0) -> float:
    """Return a probability of at most ``largest``."""
    return within(f"parameter {name} of a process", value, 0, largest)


def _array(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=CPU)


def _eye(n_states: int) -> Tensor:
    return torch.eye(n_states, dtype=torch.float64, device=CPU)


def _uniform(n_states: int) -> Tensor:
    return torch.full((n_states,), 1 / n_states, dtype=torch.float64, device=CPU)
