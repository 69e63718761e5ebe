"""Random families of hidden Markov models.

``wei2021`` is the regime of the paper's experiments (Wei, Xie & Ma 2021, §5 and released code): nearly deterministic
transitions and emissions, with ten tokens in the paper. Two differences, on purpose: our text starts from a silent
H₀ (H₁ ∼ π₀A where the released code has H₁ ∼ π₀), and labels come from Bayes' rule on exactly the text that is shown.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch

from ppl_hmm.base.randomness import CPU, Seed
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.models import HMM
from ppl_hmm.regimes.draws import dirichlet_rows, mixture_of_permutations, softmax_rows
from ppl_hmm.regimes.ginc import ginc
from ppl_hmm.regimes.registry import HMM_REGIMES, register

#: The paper's softmax temperatures: of the initial law, and of transitions and emissions.
INITIAL_TEMPERATURE = 10.0
TEMPERATURE = 0.01


def random_hmm(regime: str, n_states: int, vocabulary_size: int, seed: Seed, **options: Any) -> HMM:
    """Return a random model of a named regime.

    Parameters
    ----------
    regime
        ``'wei2021'``: mixtures of permutations, nearly deterministic (options ``temperature``, of transitions and
        emissions, and ``initial_temperature``: by default the paper's 0.01 and 10). ``'dirichlet'``: rows from a
        symmetric Dirichlet (option ``concentration``, 1 by default). ``'degenerate'``: Dirichlet, with emission rows
        that are mixtures of only r distributions, so that rank W = r (options ``rank`` r < K, ``concentration``).
        ``'ginc'``: a :class:`~ppl_hmm.models.ConceptHMM`, K = n_concepts · n_values · n_slots, described in
        :mod:`ppl_hmm.regimes.ginc` (options ``n_concepts``, ``n_slots``, ``smoothing``). And every family that
        :func:`ppl_hmm.regimes.register` entered.
    n_states, vocabulary_size
        K and V.
    seed
        Same seed, same model.

    Raises
    ------
    InvalidInput
        Unknown regime (with the list) or option, a size below one, sizes or options that do not fit the regime; a
        registered function that returns something else than an HMM of these sizes.

    See Also
    --------
    ppl_hmm.random_memory_hmm : models with a memory
    ppl_hmm.random_task : a task on the model
    ppl_hmm.regimes.register : add a family of one's own

    Examples
    --------
    >>> from ppl_hmm import random_hmm
    >>> model = random_hmm("wei2021", 3, 4, seed=0)
    >>> model.n_states, model.vocabulary_size
    (3, 4)
    >>> model.identical(random_hmm("wei2021", 3, 4, seed=0, temperature=0.01))
    True
    """
    sizes = at_least("n_states", n_states, 1), at_least("vocabulary_size", vocabulary_size, 1)
    return HMM_REGIMES.build(regime, sizes, seed, options)


@register("wei2021")
def _wei2021(
    n_states: int,
    vocabulary_size: int,
    stream: torch.Generator,
    *,
    temperature: float = TEMPERATURE,
    initial_temperature: float = INITIAL_TEMPERATURE,
) -> HMM:
    return HMM(
        initial=softmax_rows(n_states, temperature=initial_temperature, stream=stream),
        transition=mixture_of_permutations(n_states, n_states, temperature, stream),
        emission=softmax_rows(n_states, vocabulary_size, temperature=temperature, stream=stream),
    )


@register("dirichlet")
def _dirichlet(n_states: int, vocabulary_size: int, stream: torch.Generator, *, concentration: float = 1.0) -> HMM:
    return HMM(
        dirichlet_rows((n_states,), concentration, stream),
        dirichlet_rows((n_states, n_states), concentration, stream),
        dirichlet_rows((n_states, vocabulary_size), concentration, stream),
    )


@register("degenerate")
def _degenerate(
    n_states: int,
    vocabulary_size: int,
    stream: torch.Generator,
    *,
    concentration: float = 1.0,
    rank: float | None = None,
) -> HMM:
    largest = max(1, min(n_states - 1, vocabulary_size))  # one state has rank one, and can have no less
    rank = largest if rank is None else rank
    if not isinstance(rank, Real) or not 1 <= rank <= largest or rank != int(rank):
        raise InvalidInput("rank of a degenerate model", f"1..{largest}", str(rank), "choose a rank below K, at most V")
    rank = int(rank)
    model = _dirichlet(n_states, vocabulary_size, stream, concentration=concentration)
    # The first r states keep rows of their own, so that the rank is r; the others mix them.
    own = torch.eye(rank, dtype=torch.float64, device=CPU)
    mixtures = torch.cat([own, dirichlet_rows((n_states - rank, rank), concentration, stream)])
    return HMM(model.initial, model.transition, mixtures @ model.emission[:rank])


HMM_REGIMES.register("ginc")(ginc)
