"""Random families of hidden Markov models.

``wei2021`` is the regime of the paper's experiments (Wei, Xie & Ma 2021, §5 and released code): nearly deterministic
transitions and emissions, with ten tokens in the paper. Two differences, on purpose: our text starts from a silent
H₀ (H₁ ∼ π₀A where the released code has H₁ ∼ π₀), and labels come from Bayes' rule on exactly the text that is shown.
"""

from __future__ import annotations

from numbers import Real

import torch

from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.models import HMM
from ppl_hmm.regimes.draws import Families, build, dirichlet_rows, mixture_of_permutations, softmax_rows
from ppl_hmm.regimes.ginc import ginc

#: The paper's softmax temperatures: of the initial law, and of transitions and emissions.
INITIAL_TEMPERATURE = 10.0
TEMPERATURE = 0.01


def random_hmm(regime: str, n_states: int, vocabulary_size: int, seed: Seed, **options: float) -> HMM:
    """Return a random model of a named regime.

    Parameters
    ----------
    regime
        ``'wei2021'``: nearly deterministic mixtures of permutations; ``'dirichlet'`` (option ``concentration``, 1 by
        default): rows from a symmetric Dirichlet; ``'degenerate'`` (options ``rank`` r < K, ``concentration``):
        Dirichlet, with emission rows that are mixtures of only r distributions, so that rank W = r; ``'ginc'`` (options
        ``n_concepts``, ``n_slots``, ``smoothing``): a :class:`~ppl_hmm.models.ConceptHMM`, K = n_concepts ·
        n_values · n_slots, described in :mod:`ppl_hmm.regimes.ginc`.
    n_states, vocabulary_size
        K and V.
    seed
        Same seed, same model.

    Raises
    ------
    InvalidInput
        Unknown regime (with the list) or option, a size below one, sizes or options that do not fit the regime.

    See Also
    --------
    random_task : A task for the model.
    random_memory_hmm : A model with a memory.

    Examples
    --------
    >>> from ppl_hmm import random_hmm
    >>> model = random_hmm("dirichlet", n_states=3, vocabulary_size=5, seed=0)
    >>> model.initial.numpy().round(2).tolist()
    [0.83, 0.11, 0.05]
    """
    sizes = at_least("n_states", n_states, 1), at_least("vocabulary_size", vocabulary_size, 1)
    return build(_FAMILIES, regime, options, *sizes, generator(seed, f"model {regime}"))


def _wei2021(n_states: int, vocabulary_size: int, stream: torch.Generator) -> HMM:
    return HMM(
        initial=softmax_rows(n_states, temperature=INITIAL_TEMPERATURE, stream=stream),
        transition=mixture_of_permutations(n_states, n_states, TEMPERATURE, stream),
        emission=softmax_rows(n_states, vocabulary_size, temperature=TEMPERATURE, stream=stream),
    )


def _dirichlet(n_states: int, vocabulary_size: int, stream: torch.Generator, concentration: float) -> HMM:
    return HMM(
        dirichlet_rows((n_states,), concentration, stream),
        dirichlet_rows((n_states, n_states), concentration, stream),
        dirichlet_rows((n_states, vocabulary_size), concentration, stream),
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
    own = torch.eye(rank, dtype=torch.float64, device=CPU)
    mixtures = torch.cat([own, dirichlet_rows((n_states - rank, rank), concentration, stream)])
    return HMM(model.initial, model.transition, mixtures @ model.emission[:rank])


_FAMILIES: Families = {
    "wei2021": (_wei2021, {}),
    "dirichlet": (_dirichlet, {"concentration": 1.0}),
    "degenerate": (_degenerate, {"concentration": 1.0, "rank": None}),
    "ginc": (ginc, {"n_concepts": 4, "n_slots": 4, "smoothing": 0.0}),
}
