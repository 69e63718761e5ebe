"""Draws of a posterior as a tree with ArviZ's groups, and what of them does not depend on the order of states."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.base.spacing import evenly_spaced
from ppl_hmm.base.tokens import MASK
from ppl_hmm.estimation.bayes.mixing import mixing
from ppl_hmm.estimation.bayes.prior import Laws
from ppl_hmm.estimation.bayes.sampler import Block
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.exact.recursion import chunks
from ppl_hmm.inference.queries import log_likelihood
from ppl_hmm.inference.sampling import sample
from ppl_hmm.models import HMM, MemoryHMM

#: Quantities of a draw that no order of states changes.
INVARIANT = (schema.SIGMA_MIN, schema.TRANSITION_TRACE_SQUARED, schema.LOG_EVIDENCE)
#: Draws of each chain that write replicates of the text, and tokens of all replicates, at most.
_REPLICATES, _REPLICATED_TOKENS = 20, 1 << 21
#: Positions whose laws are worked on at once.
_POSITIONS_AT_ONCE = 1 << 22


def as_tree(target: Target, tokens: Tensor, drawn: Block, stream: torch.Generator, attributes: dict) -> xr.DataTree:
    """Return draws (C,D) as a tree: see :func:`~ppl_hmm.fit_bayes`."""
    cells = target.cell_of_state
    n_chains, n_draws = drawn.statistics[schema.LP].shape
    log_evidence = _log_likelihood(drawn.laws, cells, tokens)
    prior = {name: law[None] for name, law in target.prior.draw(n_draws, stream).items()}
    best = divmod(int(drawn.statistics[schema.LP].argmax()), n_draws)
    model = models_of({name: law[best] for name, law in drawn.laws.items()}, cells)
    place = {"chain": best[0], "draw": best[1]}
    posterior = _draws(drawn.laws, cells, log_evidence.sum(-1))
    statistics = {name: ((schema.CHAIN, schema.DRAW), values.numpy()) for name, values in drawn.statistics.items()}
    of_texts = (schema.CHAIN, schema.DRAW, schema.SEQUENCE)
    tree = xr.DataTree.from_dict(
        {
            f"/{schema.POSTERIOR}": posterior,
            f"/{schema.SAMPLE_STATS}": _numbered(statistics, n_chains, n_draws),
            f"/{schema.LOG_LIKELIHOOD}": _numbered({schema.TEXT: (of_texts, log_evidence.numpy())}, n_chains, n_draws),
            f"/{schema.PRIOR}": _draws(prior, cells, _log_likelihood(prior, cells, tokens).sum(-1)),
            f"/{schema.POSTERIOR_PREDICTIVE}": _replicates(drawn.laws, cells, tokens, stream),
            f"/{schema.OBSERVED_DATA}": xr.Dataset(
                {schema.TOKEN: ((schema.SEQUENCE, schema.POSITION), tokens.numpy())}
            ),
            f"/{schema.MIXING}": mixing(
                {name: posterior[name].values for name in INVARIANT},
                log_evidence.numpy(),
                drawn.statistics.get(schema.DIVERGING),
            ),
            f"/{schema.MODEL}": model.to_dataset().assign_attrs(drawn_by="highest posterior density", **place),
        }
    )
    tree.attrs = {"package": "ppl_hmm", "version": __version__, **attributes}
    return tree


def models_of(laws: Laws, cell_of_state: Tensor | None) -> HMM | MemoryHMM:
    """Return laws (P…,…) as a batch of models."""
    if cell_of_state is None:
        return HMM(laws["initial"], laws["transition"], laws["emission"])
    cells = cell_of_state.expand(laws["initial"].shape)
    return MemoryHMM(laws["memory_prior"], laws["initial"], laws["transition"], cells, laws["emission"])


def invariants(laws: Laws) -> dict[str, Tensor]:
    """Return what does not depend on the order of states, each (P…): the same bits for every order.

    σ_min of the emission matrix, of all pairs of a value and a state where there is a memory, and tr A² = Σ A∘Aᵀ.
    """
    emission, transition = laws["emission"], laws["transition"]
    if emission.ndim > transition.ndim:
        emission = emission.flatten(-3, -2)
    return {
        schema.SIGMA_MIN: torch.linalg.svdvals(emission)[..., -1],
        schema.TRANSITION_TRACE_SQUARED: (transition * transition.mT).sum((-2, -1)),
    }


def _draws(laws: Laws, cells: Tensor | None, log_evidence: Tensor) -> xr.Dataset:
    """Return laws (C,D,…) and what does not depend on the order of states as a dataset."""
    kind = HMM if cells is None else MemoryHMM
    by_draw = (schema.CHAIN, schema.DRAW)
    variables = {name: ((*by_draw, *kind.dimensions[name]), law.numpy()) for name, law in laws.items()}
    numbers = {**invariants(laws), schema.LOG_EVIDENCE: log_evidence}
    variables |= {name: (by_draw, values.numpy()) for name, values in numbers.items()}
    n_chains, n_draws = log_evidence.shape
    return _numbered(variables, n_chains, n_draws)


def _numbered(variables: dict[str, Any], n_chains: int, n_draws: int) -> xr.Dataset:
    return xr.Dataset(variables, {schema.CHAIN: np.arange(n_chains), schema.DRAW: np.arange(n_draws)})


def _log_likelihood(laws: Laws, cells: Tensor | None, tokens: Tensor) -> Tensor:
    """Return log P(x_b) (C,D,B) in nats."""
    shape = laws["initial"].shape[:2]
    flat = {name: law.flatten(0, 1) for name, law in laws.items()}
    total, at_once = shape.numel(), _POSITIONS_AT_ONCE // tokens.numel()
    parts = [
        log_likelihood(models_of({name: law[some] for name, law in flat.items()}, cells), tokens)
        for some in chunks(total, at_once)
    ]
    return torch.cat(parts).view(*shape, -1)


def _replicates(laws: Laws, cells: Tensor | None, tokens: Tensor, stream: torch.Generator) -> xr.Dataset:
    """Return texts with the masks of the observed ones, from some draws of each chain, evenly spaced."""
    n_chains, n_draws = laws["initial"].shape[:2]
    most = _REPLICATED_TOKENS // (n_chains * tokens.numel())
    chosen = evenly_spaced(n_draws, min(_REPLICATES, most))
    models = models_of({name: law[:, chosen] for name, law in laws.items()}, cells)
    drawn = sample(models, tokens.shape[0], tokens.shape[1], stream).tokens
    texts = torch.where(tokens == MASK, MASK, drawn)
    dimensions = (schema.CHAIN, schema.DRAW, schema.SEQUENCE, schema.POSITION)
    coordinates = {schema.CHAIN: np.arange(n_chains), schema.DRAW: chosen}
    return xr.Dataset({schema.TOKEN: (dimensions, texts.numpy().astype(np.int32))}, coordinates)


