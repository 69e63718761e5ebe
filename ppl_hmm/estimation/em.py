"""Fit a hidden Markov model to text by expectation-maximisation (Baum–Welch), from many starts side by side."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.base import foreign
from ppl_hmm.base.randomness import Seed, generator
from ppl_hmm.errors import InvalidInput, at_least, one_of, within
from ppl_hmm.estimation.climb import Objective, climb, climb_online, dimension_of
from ppl_hmm.estimation.fit import EMFit
from ppl_hmm.estimation.priors import Concentration, Pseudocounts
from ppl_hmm.estimation.starts import MIXED, remedy_of_size, restricted, starting_laws
from ppl_hmm.estimation.texts import WeightedTexts
from ppl_hmm.exact.baum_welch import Counts, MemoryCounts
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.models.kinds import Text, n_memories
from ppl_hmm.models.memory import FLATTENED_LIMIT

#: The kind of a start that is given as a model.
GIVEN = "given"

_log = logging.getLogger("ppl_hmm")


def fit_em(
    tokens: Text,
    n_states: int,
    *,
    lengths: Text | None = None,
    vocabulary_size: int | None = None,
    restarts: int = 16,
    start: str | HMM | MemoryHMM = MIXED,
    allowed: Mapping[str, ArrayLike | Tensor] | None = None,
    fixed: Collection[str] = (),
    prior: Concentration | None = None,
    max_iterations: int = 500,
    tolerance: float = 1e-3,
    sample_weight: ArrayLike | Tensor | None = None,
    batch_size: int | None = None,
    backend: str | None = None,
    seed: Seed,
) -> EMFit[Any]:
    r"""Fit a hidden Markov model to text by expectation-maximisation, from many starts.

    Parameters
    ----------
    tokens, lengths
        Text (B,T), with ``MASK`` where nothing is observed, or lists of different lengths; nothing after the last
        observed token of a text is read.
    n_states
        K.
    vocabulary_size
        V; by default one more than the largest token.
    restarts
        R, number of starts; all are carried to their end, side by side.
    start
        How to start: ``'mixed'`` (all kinds in turn), or one of the kinds of
        :mod:`ppl_hmm.estimation.starts`; or a model, or a batch of R models, to start from. A model's float type and
        device are those of the fit, and its zeros stay zero. A :class:`~ppl_hmm.MemoryHMM` starts the fit of a model
        with its memory, whose states read the same cells.
    allowed
        Arrays by the names ``initial``, ``transition``, ``emission`` (and ``memory_prior``), shaped as the model's:
        entries that are zero there are zero in the model.
    fixed
        Names of laws to keep as they start.
    prior
        Concentration α ≥ 1 of Dirichlet priors: of all laws, or by name, as a number or an array of a law's shape. The
        fit is then the mode of the posterior. None: the most likely model.
    max_iterations, tolerance
        A restart stops when an iteration gains less than ``tolerance`` nats, or after so many; −∞ takes them all.
    sample_weight
        (B,): as how many texts each counts.
    batch_size
        Texts of a minibatch, for corpora of which few passes can be paid: the model moves after each, by a decaying
        average of counts. The evidence may then fall, and an iteration is one pass through all texts.
    backend
        Of exact inference: :mod:`ppl_hmm.exact.backends`.
    seed
        Same seed, same fit.

    Raises
    ------
    InvalidInput
        Bad text, sizes, weights, names or concentrations; text of one kind of token only.
    ImpossibleText
        A text that the start's zeros forbid.

    See Also
    --------
    ppl_hmm.HMM.from_hmmlearn : A model fitted elsewhere.
    ppl_hmm.fit_bayes : Draws of the posterior in place of its highest point.
    ppl_hmm.log_likelihood : Evidence of held-out text.

    Notes
    -----
    With the laws before an iteration, count each use given the text, and divide by the law's total:

    .. math::
        π₀(h) &∝ \sum_b w_b P(H_0{=}h \mid x_b), \\
        A(h,h') &∝ \sum_b w_b \sum_t P(H_{t-1}{=}h, H_t{=}h' \mid x_b), \\
        W(h,v) &∝ \sum_b w_b \sum_{t: x_t = v} P(H_t{=}h \mid x_b),

    each plus α − 1. The move from the silent H₀ is counted in A. Cost O(R·B·T·K²) an iteration; equal texts are read
    once. A model with a memory is counted as its :meth:`~ppl_hmm.MemoryHMM.flatten`, the counts of all pairs of a
    memory and a state that share a parameter being summed; the cost is m^N times that of its chain.

    Shares below 1e-30 (float32: 1e-7) of a law become exact zeros, which stay: smaller ones would come near underflow.
    The evidence has many maxima, and the best after few iterations is seldom the best in the end, so that no restart is
    given up: see ``restarts.n_reached_best``.

    Warnings are logged for fewer observed tokens than free parameters, more states than kinds of tokens, texts of one
    token each, a token 0 that never occurs where V is not given, and no restart that converged.

    Source: Baum, Petrie, Soules & Weiss (1970); Dempster, Laird & Rubin (1977).

    Examples
    --------
    >>> from ppl_hmm import HMM, fit_em, sample
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    >>> fit = fit_em(sample(model, 200, length=50, seed=0).tokens, 2, restarts=4, seed=0)
    >>> fit.converged, fit.restarts.n_reached_best
    (True, 4)
    >>> fit.model.transition.diagonal().round(decimals=1).tolist()
    [0.9, 0.9]
    """
    n_states, restarts = at_least("n_states", n_states, 1), at_least("restarts", restarts, 1)
    max_iterations = at_least("max_iterations", max_iterations, 1)
    stream = generator(seed, "expectation-maximisation")
    tolerance = within("tolerance", tolerance, -float("inf"), float("inf"))
    if isinstance(fixed, str) or not isinstance(fixed, Collection):
        raise InvalidInput("fixed", "a list of names of laws", repr(fixed), "pass e.g. fixed=['transition']")
    for name in fixed:
        one_of("name in fixed", name, MemoryCounts._fields if isinstance(start, MemoryHMM) else Counts._fields)
    if isinstance(start, HMM | MemoryHMM):
        vocabulary_size = _matching(start, n_states, vocabulary_size)
    elif not isinstance(start, str):
        expected = "the name of a kind, an HMM or a MemoryHMM"
        remedy = foreign.remedy(start, "start", "pass start='mixed'")
        raise InvalidInput("start", expected, foreign.described(start), remedy)
    cells = _cells(start)
    texts = WeightedTexts.of(
        tokens,
        lengths=lengths,
        vocabulary_size=vocabulary_size,
        sample_weight=sample_weight,
        batch_size=None if batch_size is None else at_least("batch_size", batch_size, 1),
        stream=stream,
    )
    laws: Any  # of one kind
    laws, kinds = starting_laws(texts, n_states, start, restarts, stream) if isinstance(start, str) else _given(start)
    laws = restricted(laws, allowed)
    _warn_of_little_text(texts, laws, fixed)
    objective = Objective(texts, Pseudocounts.of(prior, laws), frozenset(fixed), backend, cells)
    if batch_size is not None:
        return EMFit.of(climb_online(objective, laws, max_iterations, tolerance, stream), kinds, cells)
    found = climb(objective, laws, max_iterations, tolerance)
    if not found.converged.any() and tolerance > -float("inf"):
        _log.warning(
            "fit_em: no restart converged to gains below %g nats in %d iterations: raise max_iterations or tolerance",
            *(tolerance, max_iterations),
        )
    return EMFit.of(found, kinds, cells)


def _matching(start: HMM | MemoryHMM, n_states: int, vocabulary_size: int | None) -> int:
    """Return the vocabulary size of a start; raise unless its sizes are those asked for."""
    sizes = (start.n_states, start.vocabulary_size)
    if sizes != (n_states, vocabulary_size or start.vocabulary_size) or len(start.batch_shape) > 1:
        got = f"K = {sizes[0]}, V = {sizes[1]}, batch dimensions {start.batch_shape}"
        expected = f"K = {n_states}, V = {vocabulary_size or start.vocabulary_size}, at most one batch dimension"
        raise InvalidInput("start", expected, got, remedy_of_size(start, n_states))
    return start.vocabulary_size


def _given(start: HMM | MemoryHMM) -> tuple[Counts | MemoryCounts, tuple[str, ...]]:
    """Return the laws of a model, or a batch of models, to start from."""
    start, kind = start.detach(), MemoryCounts if isinstance(start, MemoryHMM) else Counts
    laws = kind(*(getattr(start, name) for name in kind._fields))
    laws = laws._replace(emission=laws.emission.mT)
    if not start.batch_shape:
        laws = laws._make(law[None] for law in laws)
    return laws._make(law.contiguous() for law in laws), (GIVEN,) * len(laws.initial)


def _cells(start: str | HMM | MemoryHMM) -> Tensor | None:
    """Return the memory cell that each state reads (K,), if a start has a memory; raise where its models differ."""
    if not isinstance(start, MemoryHMM):
        return None
    n_pairs = n_memories(start) * start.n_states
    if n_pairs > FLATTENED_LIMIT:
        expected, got = f"at most {FLATTENED_LIMIT} pairs of a memory and a state", f"{n_pairs:.3g}"
        raise InvalidInput("memory of start", expected, got, "use fewer cells: all memories are summed over")
    cells = start.cell_of_state.reshape(-1, start.n_states)
    if (cells != cells[0]).any():
        raise InvalidInput("cell_of_state of start", "the same cells in all models", "others", "fit them one by one")
    return cells[0]


def _warn_of_little_text(texts: WeightedTexts, laws: Counts | MemoryCounts, fixed: Collection[str]) -> None:
    """Log a warning where the text cannot say what the model is."""
    n_free = sum(
        int((law[0] > 0).sum()) - law[0].numel() // law.shape[dimension_of(name)]
        for name, law in laws._asdict().items()
        if name not in fixed
    )
    if texts.n_observed < n_free:
        _log.warning(
            "fit_em: %g observed tokens for %d free parameters: the fit follows chance; use fewer states, a prior, or "
            "more text",
            *(texts.n_observed, n_free),
        )
    n_kinds, n_states = int((texts.token_counts() > 0).sum()), laws.initial.shape[-1]
    if n_states > n_kinds:
        _log.warning(
            "fit_em: %d states for %d kinds of tokens: states differ by what follows alone, and many fits are equally "
            "good",
            *(n_states, n_kinds),
        )
