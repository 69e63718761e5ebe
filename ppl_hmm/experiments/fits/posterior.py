"""Models of several sizes of a corpus by draws of their posteriors."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import Executor
from pathlib import Path
from typing import cast

import numpy as np
import xarray as xr
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.corpus.vocabulary import Vocabulary
from ppl_hmm.estimation.bayes.fit import Method, fit_bayes
from ppl_hmm.experiments.engine.runner import Progress
from ppl_hmm.experiments.fits.store import Size
from ppl_hmm.inference.queries import log_likelihood
from ppl_hmm.models import HMM

#: Concentrations of Dirichlet priors: a state emits few of many tokens.
PRIOR = {"initial": 1.0, "transition": 1.0, "emission": 0.1}
#: Draws of all chains whose mean predicts held-out text, at most.
_PREDICTING = 200
#: A chain has reached the best one where their mean log-evidences differ by at most so many standard deviations.
_NEAR = 3.0


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
        jobs = {n_states: executor.submit(_draw, n_states, *arguments) for n_states in sizes}
        for n_states, job in jobs.items():
            found[n_states] = job.result()
            report(len(found) * each, len(sizes) * each)
        return found
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
    evidence, reached = _of_chains(tree)
    model = HMM.from_dataset(tree[schema.MODEL].to_dataset())
    return Size(model, evidence, reached, int(reached.sum()), tree)


def _of_chains(tree: xr.DataTree) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean log-evidence of each chain (C,), and whether it is near that of the best one."""
    evidence = tree[schema.POSTERIOR][schema.LOG_EVIDENCE]
    means = evidence.mean(schema.DRAW).values
    best = int(means.argmax())
    return means, means >= means[best] - _NEAR * float(evidence[best].std())


def log_predictive(size: Size, tokens: Tensor) -> np.ndarray:
    """Return log P(x_b) (B,) of the model, or of the mean over draws of its posterior."""
    if size.draws is None:
        return log_likelihood(size.model, tokens).numpy()
    each = log_likelihood(_some_models(size.draws), tokens)
    return (each.logsumexp(0) - math.log(len(each))).numpy()


def _some_models(tree: xr.DataTree) -> HMM:
    """Return some draws as a batch (D,) of models: of all chains, evenly spaced."""
    draws = tree[schema.POSTERIOR].to_dataset()
    laws = [draws[name].values.reshape(-1, *draws[name].shape[2:]) for name in HMM.dimensions]
    chosen = np.unique(np.linspace(0, len(laws[0]) - 1, _PREDICTING).round().astype(int))
    return HMM(*(law[chosen] for law in laws))


def groups(tree: xr.DataTree, path: str, vocabulary: Vocabulary) -> dict[str, xr.Dataset]:
    """Return the groups of a fit below a path, tokens labelled."""
    found = {f"{path}{node.path}".rstrip("/"): node.to_dataset(inherit=False) for node in tree.subtree}
    for name in (schema.POSTERIOR, schema.PRIOR):
        place = f"{path}/{name}"
        found[place] = found[place].assign_coords({schema.TOKEN: list(vocabulary.tokens)})
    return found
