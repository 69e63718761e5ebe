"""Fit a hidden Markov model to text by draws from the posterior of its laws."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base import foreign
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.randomness import Seed, derived_seed, generator
from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.estimation.bayes import starts
from ppl_hmm.estimation.bayes.prior import DirichletPrior, Laws
from ppl_hmm.estimation.bayes.runs import Progress, Schedule, Store, run
from ppl_hmm.estimation.bayes.sampler import sampler_of
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.bayes.tree import as_tree
from ppl_hmm.estimation.priors import Concentration
from ppl_hmm.estimation.starts import remedy_of_size
from ppl_hmm.estimation.texts import WeightedTexts
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.models.kinds import Model, Text
from ppl_hmm.programs.priors import DirichletRows

_log = logging.getLogger("ppl_hmm")
_OF_A_GUIDE = (
    "These are draws of an approximation whose laws are independent: they spread less than the posterior. "
    "Use 'hmc' or 'gibbs' for intervals."
)

Method = Literal["hmc", "nuts", "gibbs", "svi"]


def fit_bayes(
    tokens: Text,
    n_states: int,
    *,
    method: Method = "hmc",
    lengths: Text | None = None,
    vocabulary_size: int | None = None,
    prior: Concentration | DirichletRows | DirichletPrior | None = None,
    chains: int = 4,
    draws: int = 1000,
    tune: int = 1000,
    out: str | Path | None = None,
    seed: Seed,
    start: Model | None = None,
    progress: Progress | None = None,
    memory: tuple[int, ArrayLike | Tensor] | None = None,
) -> xr.DataTree:
    r"""Draw hidden Markov models from their posterior given text.

    Parameters
    ----------
    tokens, lengths
        Text (B,T), with ``MASK`` where nothing is observed, or lists of different lengths; nothing after the last
        observed token of a text is read.
    n_states
        K.
    method
        ``'gibbs'``: paths given laws and laws given paths, for memory models too. ``'hmc'``: Hamiltonian Monte Carlo,
        all chains side by side. ``'nuts'``: Pyro's no-U-turn sampler. ``'svi'``: draws from a variational
        approximation, one a chain: fast, and biased, as it spreads less than the posterior (``attrs["draws_of"]`` is
        ``'guide'``).
    vocabulary_size
        V; by default one more than the largest token.
    prior
        Concentration α > 0 of Dirichlet priors: of all laws, or by name, as a number or an array of a law's shape; 1
        by default, and for what is not named. Or an :class:`~ppl_hmm.HMMPrior`, or :class:`~ppl_hmm.MemoryHMMPrior`.
    chains, draws, tune
        C; draws of each chain that are kept, and those before them that are not.
    out
        Directory where draws are kept as they come. The same call goes on where it was interrupted, and returns bit
        for bit what it would have returned.
    start
        A model, or a batch (C,) of models, to start from. By default chains start in turn around maxima of the
        evidence and from the prior, more widely spread than the posterior.
    progress
        Called with (draws of each chain done, draws in all).
    memory
        (m, cells): a memory whose cells hold one of m values, and the cell (K,) that each state reads.
    seed
        Same seed, same draws; an integer where there is an ``out``.

    Returns
    -------
    xarray.DataTree
        ArviZ's groups. ``/posterior`` by (chain, draw): ``initial`` (state), ``transition`` (state, state_next),
        ``emission`` (state, token), and, which do not depend on the order of states, ``sigma_min`` of the emission
        matrix, ``transition_trace_squared`` tr A², ``log_evidence`` in nats. ``/prior``: as many draws of the prior, in
        one chain. ``/sample_stats``: ``lp``, the log density. ``/log_likelihood``: ``text`` (sequence).
        ``/posterior_predictive``: ``token`` (sequence, position), a text of some draws. ``/observed_data``: the text.
        ``/mixing``: whether chains agree: ``rhat``, ``ess_bulk``, ``ess_tail`` (quantity), of what does not depend on
        the order of states; chains that stay in different modes by ``mode_of_chain`` (chain), with ``evidence_gap``
        (mode) in nats and stacking ``weight`` (chain); attributes ``agreement`` and, in words, ``summary``, which is
        logged as a warning unless all agree. ``/model``: the draw of highest posterior density.

    Raises
    ------
    InvalidInput
        Bad text, sizes, prior, memory or start; text of one kind of token only.
    ForeignFile
        ``out`` holds something else, or a run of another configuration.

    See Also
    --------
    fit_em : The most likely model alone.
    check_fit : Is text like what the models write?

    Notes
    -----
    The posterior is p(π₀, A, W | x) ∝ p(π₀, A, W) ∏_b P(x_b | π₀, A, W). It is the same for every order of the states:
    compare chains by what does not depend on it. Cost O(C·B·T·K²) a draw by Gibbs sampling, and a leapfrog step by
    ``'hmc'``, of which a draw takes some tens; m^N times that with a memory. Hamiltonian samplers move in isometric
    log-ratio coordinates, where a share below e^−600 does not exist: priors far below α = 0.1 are for Gibbs sampling.

    Source: Scott (2002); Gelman et al. (2013), §11; Hoffman, Radul & Sountsov (2021) for ``'hmc'``; Yao, Vehtari &
    Gelman (2022) for the weights of modes.

    Examples
    --------
    >>> from ppl_hmm import HMM, fit_bayes, sample
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    >>> texts = sample(model, 50, length=20, seed=0).tokens
    >>> tree = fit_bayes(texts, 2, method="gibbs", chains=2, draws=50, tune=50, seed=0)
    >>> tree["posterior/transition_trace_squared"].mean().round(1).item()
    1.5
    """
    sampler = sampler_of(method)
    n_states = at_least("n_states", n_states, 1)
    chains, schedule = at_least("chains", chains, 1), Schedule(at_least("tune", tune, 0), at_least("draws", draws, 1))
    texts = WeightedTexts.of(tokens, lengths=lengths, vocabulary_size=vocabulary_size)
    checked = as_tokens(tokens, texts.vocabulary_size, lengths=lengths).cpu()
    cells, shapes = _shapes(n_states, texts.vocabulary_size, memory)
    target = Target(texts, DirichletPrior.of(prior, shapes), cells)
    given = None if start is None else _given(start, target, shapes, chains)
    settings = {"method": method, "n_states": n_states, "chains": chains, "draws": draws, "tune": tune, "seed": seed}
    store = None
    if out is not None:
        if isinstance(seed, torch.Generator):
            raise InvalidInput("seed", "an integer where there is an out", "a generator", "pass e.g. seed=0")
        store = Store(out, {**settings, **_fingerprints(target, checked, given)})
    stream = generator(seed, "posterior draws")

    def begin() -> dict[str, Tensor]:
        laws = starts.spread_laws(target, chains, stream) if given is None else given
        return sampler.start(target, laws, stream)

    after = generator(derived_seed(seed, "groups"), "groups") if isinstance(seed, int) else stream
    drawn = run(sampler, target, begin, schedule, store, progress)
    draws_of = schema.DrawsOf.of_method(method)
    attributes = settings | ({"seed": str(seed)} if isinstance(seed, torch.Generator) else {})
    tree = as_tree(target, checked, drawn, after, {**attributes, schema.DRAWS_OF: draws_of.value})
    found = tree[schema.MIXING].attrs
    if found["agreement"] != schema.Agreement.MIXED:
        _log.warning("fit_bayes: %s", found["summary"])
    if draws_of is schema.DrawsOf.GUIDE:
        _log.warning("fit_bayes: %s", _OF_A_GUIDE)
    return tree


def _shapes(
    n_states: int, vocabulary_size: int, memory: tuple[int, ArrayLike | Tensor] | None
) -> tuple[Tensor | None, Mapping[str, tuple[int, ...]]]:
    """Return the cell of each state, None without a memory, and the shapes of the laws by name."""
    shapes = {"initial": (n_states,), "transition": (n_states, n_states)}
    if memory is None:
        return None, {**shapes, "emission": (n_states, vocabulary_size)}
    if not isinstance(memory, tuple) or len(memory) != 2:
        raise InvalidInput("memory", "a pair (m, cells)", foreign.described(memory), "pass e.g. (2, [0, 0, 1])")
    n_values, cells = at_least("memory values", memory[0], 1), as_tensor(memory[1], what="memory cells")
    if cells.is_floating_point() or tuple(cells.shape) != (n_states,) or bool((cells < 0).any()):
        got = f"{cells.dtype} of shape {tuple(cells.shape)}"
        remedy = "give the cell that each state reads"
        raise InvalidInput("memory cells", f"{n_states} integers, 0 or more", got, remedy)
    shapes = {"memory_prior": (int(cells.max()) + 1, n_values), **shapes}
    return cells.long(), {**shapes, "emission": (n_values, n_states, vocabulary_size)}


def _given(start: Model, target: Target, shapes: Mapping[str, tuple[int, ...]], chains: int) -> Laws:
    """Return the laws of a model, or of a batch of models, as those of chains."""
    kind = HMM if target.cell_of_state is None else MemoryHMM
    foreign.require(start, kind, "start", f"a {kind.__name__}", wanted="start")
    laws = {name: getattr(start, name).detach().double().cpu() for name in shapes}
    found, batch = {name: tuple(law.shape) for name, law in laws.items()}, tuple(start.batch_shape)
    if batch not in ((), (chains,)) or found != {name: (*batch, *shape) for name, shape in shapes.items()}:
        expected = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        got = ", ".join(f"{name} {shape}" for name, shape in found.items())
        remedy = remedy_of_size(start, shapes["initial"][0])
        raise InvalidInput("start", f"{expected}; alone or {chains} of them", got, remedy)
    return {name: law.expand(chains, *shapes[name]).clone() for name, law in laws.items()}


def _fingerprints(target: Target, tokens: Tensor, given: Laws | None) -> dict[str, Any]:
    """Return short hashes of arrays that a run depends on."""
    arrays: dict[str, list[Tensor]] = {
        "text": [tokens],
        "prior": list(target.prior.concentrations.values()),
        "start": list((given or {}).values()),
        "memory": [] if target.cell_of_state is None else [target.cell_of_state],
    }
    return {"vocabulary_size": target.texts.vocabulary_size, **{name: _hash(each) for name, each in arrays.items()}}


def _hash(arrays: list[Tensor]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(array.numpy())
        digest.update(f"{values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]
