"""Models of several sizes of a corpus by draws of their posteriors."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Executor
from pathlib import Path
from typing import cast

import numpy as np
import torch
import xarray as xr
from scipy.special import logsumexp
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.spacing import evenly_spaced
from ppl_hmm.corpus.vocabulary import Vocabulary
from ppl_hmm.estimation.bayes.fit import Method, fit_bayes
from ppl_hmm.experiments.engine.runner import Progress
from ppl_hmm.experiments.fits.jobs import finished
from ppl_hmm.experiments.fits.store import Size
from ppl_hmm.inference.queries import log_likelihood
from ppl_hmm.models import HMM

#: Concentrations of Dirichlet priors: a state emits few of many tokens.
PRIOR = {"initial": 1.0, "transition": 1.0, "emission": 0.1}
#: Draws of all chains whose mean predicts held-out text, at most.
_PREDICTING = 200


@dataclasses.dataclass(frozen=True)
class Settings:
    """How posteriors are drawn from."""

    method: str
    chains: int
    draws: int
    seed: int
    store: Path | None


def draw_all(
    training: np.ndarray,
    vocabulary_size: int,
    sizes: list[int],
    settings: Settings,
    executor: Executor | None,
    progress: Progress | None,
) -> dict[int, Size]:
    """Return the fit of each size by draws, computed here or by an executor."""
    each = 2 * settings.draws
    report = progress or (lambda _done, _total: None)
    arguments = (training, vocabulary_size, settings)
    report(0, each * len(sizes))
    found: dict[int, Size] = {}
    if executor is not None:
        for n_states, size in finished(executor, _draw, sizes, *arguments):
            found[n_states] = size
            report(len(found) * each, len(sizes) * each)
        return {n_states: found[n_states] for n_states in sizes}
    for number, n_states in enumerate(sizes):
        found[n_states] = _draw(n_states, *arguments, _Shifted(report, number * each, len(sizes) * each))
    return found


@dataclasses.dataclass(frozen=True)
class _Shifted:
    """Reports of one size among those of all."""

    report: Progress
    before: int
    total: int

    def __call__(self, done: int, _total: int) -> None:
        self.report(self.before + done, self.total)


def _draw(
    n_states: int, training: np.ndarray, vocabulary_size: int, settings: Settings, progress: Progress | None = None
) -> Size:
    """Return the draws of one size, chains in place of restarts."""
    tree = fit_bayes(
        training,
        n_states,
        method=cast(Method, settings.method),
        vocabulary_size=vocabulary_size,
        prior=PRIOR,
        chains=settings.chains,
        draws=settings.draws,
        tune=settings.draws,
        out=None if settings.store is None else settings.store / f"draws-{n_states}",
        seed=settings.seed,
        progress=progress,
    )
    posterior, mixing, model = (tree[name].to_dataset() for name in (schema.POSTERIOR, schema.MIXING, schema.MODEL))
    evidence = posterior[schema.LOG_EVIDENCE].mean(schema.DRAW).values
    agree = np.full(len(evidence), mixing.attrs["agreement"] == schema.Agreement.MIXED)
    n_in_best_mode = int((mixing[schema.MODE_OF_CHAIN] == 0).sum())
    return Size(HMM.from_dataset(model), evidence, agree, n_in_best_mode, tree)


def log_predictive(size: Size, tokens: Tensor) -> np.ndarray:
    """Return log P(x_b) (B,) of the model, or of the mean over draws of its posterior.

    Chains that stay in different modes have the weights of :mod:`~ppl_hmm.estimation.bayes.mixing`.
    """
    if size.draws is None:
        return log_likelihood(size.model, tokens).numpy()
    models, weights = _some_models(size.draws)
    return np.asarray(logsumexp(log_likelihood(models, tokens).numpy(), axis=0, b=weights[:, None]))


def _some_models(tree: xr.DataTree) -> tuple[HMM, np.ndarray]:
    """Return some draws as a batch (D,) of models, evenly spaced in each chain, and their weights."""
    draws, by_chain = tree[schema.POSTERIOR].to_dataset(), tree[schema.MIXING].to_dataset()[schema.WEIGHT].values
    n_chains, n_draws = draws.sizes[schema.CHAIN], draws.sizes[schema.DRAW]
    chosen = evenly_spaced(n_draws, _PREDICTING // n_chains)
    some = draws.isel({schema.DRAW: chosen})
    laws = (torch.from_numpy(some[name].values).flatten(0, 1) for name in HMM.dimensions)
    return HMM(*laws), np.repeat(by_chain / len(chosen), len(chosen))


def groups(tree: xr.DataTree, path: str, vocabulary: Vocabulary) -> dict[str, xr.Dataset]:
    """Return the groups of a fit below a path, tokens labelled."""
    found = {f"{path}{node.path}".rstrip("/"): node.to_dataset(inherit=False) for node in tree.subtree}
    for name in (schema.POSTERIOR, schema.PRIOR):
        place = f"{path}/{name}"
        found[place] = found[place].assign_coords({schema.TOKEN: list(vocabulary.tokens)})
    return found
