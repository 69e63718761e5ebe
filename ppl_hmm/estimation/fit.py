"""What expectation-maximisation returns: the best restart's model, and where each restart came to."""

from __future__ import annotations

import dataclasses
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ppl_hmm.estimation.climb import Climb
from ppl_hmm.models import HMM, MemoryHMM

#: Kind of the models.
ModelT = TypeVar("ModelT", HMM, MemoryHMM)

#: Restarts within so many nats of the best have reached it.
NEAR_BEST = 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class Restarts(Generic[ModelT]):
    """Where each of R restarts came to.

    Attributes
    ----------
    kinds
        R names: how each was started.
    log_likelihood, log_posterior
        (R,): last evidence in nats, and with the log prior up to a constant.
    iterations, converged
        (R,): iterations taken, and whether the last one gained less than the tolerance.
    largest_decrease
        (R,): the most that ``log_posterior`` fell in an iteration; rounding alone, but for minibatches.
    models
        The fitted models, with a batch dimension (R,).

    See Also
    --------
    ppl_hmm.fit_em : Makes them, with an example.

    Examples
    --------
    >>> from ppl_hmm import example, fit_em, sample
    >>> model, _ = example("aliased")
    >>> fit = fit_em(sample(model, 50, length=20, seed=0).tokens, 2, restarts=4, seed=0)
    >>> fit.restarts.kinds
    ('random', 'contexts', 'spectral', 'anchors')
    """

    kinds: tuple[str, ...]
    log_likelihood: Tensor
    log_posterior: Tensor
    iterations: Tensor
    converged: Tensor
    largest_decrease: Tensor
    models: ModelT

    @property
    def reached_best(self) -> Tensor:
        """Whether each came within :data:`NEAR_BEST` nats of the best (R,)."""
        return self.log_posterior >= self.log_posterior.max() - NEAR_BEST

    @property
    def n_reached_best(self) -> int:
        """How many restarts came within :data:`NEAR_BEST` nats of the best: one says that there may be a better one."""
        return int(self.reached_best.sum())

    @property
    def by_kind(self) -> dict[str, tuple[int, int]]:
        """For each kind of start, how many reached the best, and of how many."""
        reached = self.reached_best.tolist()
        return {
            kind: (sum(r for r, k in zip(reached, self.kinds, strict=True) if k == kind), self.kinds.count(kind))
            for kind in dict.fromkeys(self.kinds)
        }


@dataclasses.dataclass(frozen=True, eq=False)
class EMFit(Generic[ModelT]):
    """A model fitted by expectation-maximisation.

    Attributes
    ----------
    model
        The best restart's model.
    log_likelihood, log_posterior
        (iterations,): its evidence in nats at each iteration, that of ``model`` last; with the log prior up to a
        constant. Without minibatches ``log_posterior`` never falls, but for rounding.
    converged
        Whether its last iteration gained less than the tolerance.
    restarts
        Where each restart came to: :class:`Restarts`.

    See Also
    --------
    ppl_hmm.fit_em : Makes one, with an example.

    Examples
    --------
    >>> from ppl_hmm import example, fit_em, sample
    >>> model, _ = example("aliased")
    >>> fit = fit_em(sample(model, 50, length=20, seed=0).tokens, 2, restarts=2, seed=0)
    >>> bool(fit.log_likelihood.diff().min() > -1e-9)
    True
    """

    model: ModelT
    log_likelihood: Tensor
    log_posterior: Tensor
    converged: bool
    restarts: Restarts[ModelT]

    @classmethod
    def of(cls, found: Climb[Any], kinds: tuple[str, ...], cell_of_state: Tensor | None = None) -> EMFit[Any]:
        """Return the fit of the best restart, and the records of all; the cells are those of models with a memory."""
        falls = -found.log_posterior.diff(dim=0)
        laws = found.parameters
        named = {**laws._asdict(), "emission": laws.emission.mT}
        models: Any
        if cell_of_state is None:
            models = HMM(**named)
        else:
            models = MemoryHMM(**named, cell_of_state=cell_of_state.expand_as(laws.initial))
        records = Restarts(
            kinds,
            found.log_likelihood[-1],
            found.log_posterior[-1],
            found.iterations,
            found.converged,
            falls.amax(0).clamp(min=0) if len(falls) else torch.zeros_like(found.log_posterior[-1]),
            models,
        )
        best = int(records.log_posterior.argmax())
        taken = int(found.iterations[best])
        return cls(
            models[best],
            found.log_likelihood[:taken, best],
            found.log_posterior[:taken, best],
            bool(found.converged[best]),
            records,
        )
