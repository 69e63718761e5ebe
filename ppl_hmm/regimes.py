"""Random families of models and tasks.

``wei2021`` is the regime of the paper's experiments (Wei, Xie & Ma 2021, §5 and released code): nearly deterministic
transitions and emissions, with ten tokens in the paper. Two differences, on purpose: our text starts from a silent
H₀ (H₁ ∼ π₀A where the released code has H₁ ∼ π₀), and labels come from Bayes' rule on exactly the text that is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor

from ppl_hmm.errors import InvalidInput, at_least, one_of
from ppl_hmm.inference import Text, initial_posterior
from ppl_hmm.parameters import HMM
from ppl_hmm.randomness import Seed, generator
from ppl_hmm.tasks import PosteriorTask

# The paper's constants: softmax temperatures of the initial law, and of transitions and emissions.
_INITIAL_TEMPERATURE = 10.0
_TEMPERATURE = 0.01
# Its tasks: six standard-normal weights, and at least 5 % of the labels in the smaller class.
_TASK_WEIGHTS = 6
_SMALLEST_CLASS = 0.05
_TASK_ATTEMPTS = 1000


def random_hmm(regime: str, n_states: int, vocabulary_size: int, seed: Seed, **options: float) -> HMM:
    """Return a random model of a named regime.

    Parameters
    ----------
    regime
        ``'wei2021'``: nearly deterministic mixtures of permutations; ``'dirichlet'`` (option ``concentration``, 1 by
        default): rows from a symmetric Dirichlet; ``'degenerate'`` (options ``rank`` r < K, ``concentration``):
        Dirichlet, with emission rows that are mixtures of only r distributions, so that rank W = r.
    n_states, vocabulary_size
        K and V.
    seed
        Same seed, same model.

    Raises
    ------
    InvalidInput
        Unknown regime (with the list) or option, a size below one.
    """
    one_of("regime", regime, _REGIMES)
    n_states = at_least("n_states", n_states, 1)
    vocabulary_size = at_least("vocabulary_size", vocabulary_size, 1)
    build, defaults = _REGIMES[regime]
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        raise InvalidInput(
            f"options of regime {regime!r}",
            f"only {', '.join(defaults) or 'none'}",
            ", ".join(unknown),
            "drop the others",
        )
    return build(n_states, vocabulary_size, generator(seed, f"model {regime}"), **{**defaults, **options})


def random_task(model: HMM, seed: Seed, tokens: Text | None = None) -> PosteriorTask:
    """Return a random binary task on the model's initial state, as in Wei, Xie & Ma (2021), §5.

    Weights 2×K are zero but for six standard normal entries at indices drawn with replacement. With ``tokens`` the
    task is redrawn until the smaller class has at least 5 % of their labels.

    Raises
    ------
    InvalidInput
        No balanced task in 1000 draws (always so for K = 1: the posterior is constant).
    """
    model._require_single("random_task")
    stream = generator(seed, "task")
    if tokens is None:
        return _draw_task(model.n_states, stream)
    initial = initial_posterior(model, tokens)
    for _ in range(_TASK_ATTEMPTS):
        task = _draw_task(model.n_states, stream)
        positive = task.labels(initial).double().mean().item()
        if min(positive, 1 - positive) >= _SMALLEST_CLASS:
            return task
    raise InvalidInput(
        f"random_task with {model.n_states} states",
        f"a task whose smaller class has {_SMALLEST_CLASS:.0%} of the labels",
        f"none in {_TASK_ATTEMPTS} draws",
        "use more states, more text, or another seed",
    )


def _draw_task(n_states: int, stream: torch.Generator) -> PosteriorTask:
    weights = torch.zeros(2, n_states, dtype=torch.float64)
    classes = torch.randint(2, (_TASK_WEIGHTS,), generator=stream)
    states = torch.randint(n_states, (_TASK_WEIGHTS,), generator=stream)
    for index in zip(classes, states, torch.randn(_TASK_WEIGHTS, generator=stream, dtype=torch.float64), strict=True):
        weights[index[0], index[1]] = index[2]  # a later draw of the same entry replaces it
    return PosteriorTask(weights)


def _wei2021(n_states: int, vocabulary_size: int, stream: torch.Generator) -> HMM:
    def softmax(*shape: int, temperature: float) -> Tensor:
        uniform = torch.rand(*shape, generator=stream, dtype=torch.float64) - 0.5
        return (uniform / temperature).softmax(-1)

    initial = softmax(n_states, temperature=_INITIAL_TEMPERATURE)
    mixture = softmax(n_states, temperature=_TEMPERATURE)
    identity = torch.eye(n_states, dtype=torch.float64)
    permutations = [identity[torch.randperm(n_states, generator=stream)] for _ in range(n_states)]
    transition = sum(
        (weight * matrix for weight, matrix in zip(mixture, permutations, strict=True)), torch.zeros_like(identity)
    )
    return HMM(initial, transition, softmax(n_states, vocabulary_size, temperature=_TEMPERATURE))


def _dirichlet(n_states: int, vocabulary_size: int, stream: torch.Generator, concentration: float) -> HMM:
    return HMM(
        _dirichlet_rows((n_states,), concentration, stream),
        _dirichlet_rows((n_states, n_states), concentration, stream),
        _dirichlet_rows((n_states, vocabulary_size), concentration, stream),
    )


def _degenerate(
    n_states: int, vocabulary_size: int, stream: torch.Generator, concentration: float, rank: float | None
) -> HMM:
    largest = max(1, min(n_states - 1, vocabulary_size))  # one state has rank one, and can have no less
    rank = largest if rank is None else rank
    if not isinstance(rank, Real) or not 1 <= rank <= largest or rank != int(rank):
        raise InvalidInput("rank of a degenerate model", f"1..{largest}", str(rank), "choose a rank below K, at most V")
    rank = int(rank)
    model = _dirichlet(n_states, vocabulary_size, stream, concentration)
    # The first r states keep rows of their own, so that the rank is r; the others mix them.
    mixtures = torch.cat(
        [torch.eye(rank, dtype=torch.float64), _dirichlet_rows((n_states - rank, rank), concentration, stream)]
    )
    return HMM(model.initial, model.transition, mixtures @ model.emission[:rank])


def _dirichlet_rows(shape: tuple[int, ...], concentration: float, stream: torch.Generator) -> Tensor:
    if not isinstance(concentration, Real) or not 0 < concentration < float("inf"):
        raise InvalidInput("concentration", "a positive finite number", repr(concentration), "pass e.g. 1.0")
    # The public distributions take no generator.
    gamma = torch._standard_gamma(  # type: ignore[attr-defined]
        torch.full(shape, float(concentration), dtype=torch.float64), generator=stream
    )
    gamma = gamma.clamp(min=torch.finfo(torch.float64).tiny)
    return gamma / gamma.sum(-1, keepdim=True)


_REGIMES: dict[str, tuple[Callable[..., HMM], dict[str, float | None]]] = {
    "wei2021": (_wei2021, {}),
    "dirichlet": (_dirichlet, {"concentration": 1.0}),
    "degenerate": (_degenerate, {"concentration": 1.0, "rank": None}),
}
