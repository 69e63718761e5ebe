"""Where expectation-maximisation starts: several models of the same text, from random rows or from its statistics.

- ``random``: rows of A and π₀ uniform on the simplex; rows of W the token frequencies times exponential noise.
- ``contexts``: k-means of the positions of the text by what stands there and on both sides
  (:mod:`ppl_hmm.estimation.contexts`); clusters are counted as if they were states.
- ``spectral``: moments of triples of tokens (:mod:`ppl_hmm.estimation.spectral`).
- ``anchors``: tokens that only one state emits (:mod:`ppl_hmm.estimation.anchors`).
- ``mixed``: all of them in turn; with more states than kinds of tokens, ``random`` and ``contexts``.

None of them is best for all texts. Text of 20 models (K = 5, V = 20, rows from Dirichlet(0.1), 2000×50 tokens), four
starts of each kind: as likely as the truth, less its sampling error, were

========  ==========  ============  ============  ===========
of        ``random``  ``contexts``  ``spectral``  ``anchors``
========  ==========  ============  ============  ===========
80 fits   60          56            68            64
20 texts  19          18            20            16
========  ==========  ============  ============  ===========

fits, and the best fit of a kind for so many texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.estimation.anchors import anchor_start
from ppl_hmm.estimation.contexts import context_start
from ppl_hmm.estimation.moments import noise, noisy_frequencies
from ppl_hmm.estimation.priors import require_laws, shape_in_model
from ppl_hmm.estimation.spectral import spectral_start
from ppl_hmm.estimation.texts import WeightedTexts
from ppl_hmm.exact.baum_welch import Counts, LawsT
from ppl_hmm.models.kinds import Model

RANDOM, CONTEXTS, SPECTRAL, ANCHORS, MIXED = "random", "contexts", "spectral", "anchors", "mixed"

#: A start is made of the texts, the number of states and a random stream.
Start = Callable[[WeightedTexts, int, torch.Generator], Counts]


def random_start(texts: WeightedTexts, n_states: int, stream: torch.Generator) -> Counts:
    """Return uniform rows for the chain, and for each state the token frequencies times exponential noise."""
    initial, transition = noise(stream, 1, n_states), noise(stream, 1, n_states, n_states)
    emission = noisy_frequencies(texts, n_states, stream)[None]
    return Counts(initial / initial.sum(-1, keepdim=True), transition / transition.sum(-1, keepdim=True), emission)


STARTS: dict[str, Start] = {
    RANDOM: random_start,
    CONTEXTS: context_start,
    SPECTRAL: spectral_start,
    ANCHORS: anchor_start,
}


def starting_laws(
    texts: WeightedTexts, n_states: int, kind: str, restarts: int, stream: torch.Generator
) -> tuple[Counts, tuple[str, ...]]:
    """Return the starts of a kind, of R restarts, in float64, and the kind of each."""
    one_of("start", kind, (*STARTS, MIXED))
    of_moments = n_states <= int((texts.token_counts() > 0).sum())
    several = tuple(STARTS) if of_moments else (RANDOM, CONTEXTS)
    kinds = tuple(several[number % len(several)] if kind == MIXED else kind for number in range(restarts))
    made = [STARTS[each](texts, n_states, stream) for each in kinds]
    return Counts(*map(torch.cat, zip(*made, strict=True))), kinds


def remedy_of_size(start: Model, n_states: int) -> str:
    """Return what helps where a start is of another size: :meth:`~ppl_hmm.HMM.from_hmmlearn` may have added a state.

    That state is the last one: all texts start in it, and none comes back.
    """
    of_start = (start.initial[..., -1] == 1).all() and not start.transition[..., -1].any()
    added = of_start and start.n_states == n_states + 1
    return "pass start.n_states (a start state was added)" if added else "give a model of these sizes"


def restricted(start: LawsT, allowed: Mapping[str, ArrayLike | Tensor] | None) -> LawsT:
    """Return the start with zeros wherever an allowed entry is zero, and rows that sum to one again.

    Raises
    ------
    InvalidInput
        An unknown name, a wrong shape, a law without an allowed entry.
    """
    if allowed is None:
        return start
    require_laws("names in allowed", allowed, start._fields)
    laws = start._asdict().items()
    return start._make(_masked(name, law, allowed[name]) if name in allowed else law for name, law in laws)


def _masked(name: str, law: Tensor, allowed: ArrayLike | Tensor) -> Tensor:
    by_token = name == "emission"  # (R,…,V,K): its rows are laws over V
    shape = shape_in_model(name, law)
    given = as_tensor(allowed, what=f"allowed {name}")
    if not (given >= 0).all():
        got = str(given[~(given >= 0)][0].item())
        raise InvalidInput(f"allowed {name}", "zeros, and ones where an entry is free", got, "correct the entry")
    mask = given != 0
    if tuple(mask.shape) != shape:
        raise InvalidInput(f"allowed {name}", f"shape {shape}", f"shape {tuple(mask.shape)}", "give one entry for each")
    empty = ~mask.any(-1)
    if empty.any():
        where = empty.nonzero()[0].tolist()
        raise InvalidInput(
            f"allowed {name}{where or ''}", "a law with an entry that is allowed", "none", "allow at least one"
        )
    dim = -2 if by_token else -1
    kept = law * (mask.mT if by_token else mask).to(law)
    return kept / kept.sum(dim, keepdim=True)
