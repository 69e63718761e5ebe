"""The log posterior of laws in unbounded coordinates, and its gradient from expected counts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.estimation.bayes.sampler import Block
from ppl_hmm.estimation.bayes.simplex import SimplexCoordinates
from ppl_hmm.estimation.bayes.target import Target

#: Log shares below this are outside: their products with those of other steps leave the range of floats.
LEAST_LOG_SHARE = -600.0


class Density(NamedTuple):
    """A log density at C points, and its gradient."""

    log_density: Tensor  # (C,); −inf outside
    gradient: Tensor  # (C,D); zero outside


@dataclasses.dataclass(frozen=True)
class LogPosterior:
    """Evidence, normalised Dirichlet priors and Jacobian: the log joint density of text and coordinates."""

    target: Target

    @functools.cached_property
    def coordinates(self) -> SimplexCoordinates:
        """The coordinates of the laws that the prior is on."""
        shapes = {name: tuple(each.shape) for name, each in self.target.prior.concentrations.items()}
        return SimplexCoordinates(shapes)

    def __call__(self, points: Tensor) -> Density:
        """Return the density at points (C,D). Cost O(C·B·T·K²), one pass each way through the texts.

        Points whose laws have shares below e^−600 are outside: the density is zero there.
        """
        log_laws = self.coordinates.log_laws(points)
        if all(float(each.amin()) > LEAST_LOG_SHARE for each in log_laws.values()):
            return self._inside(log_laws)
        lowest = torch.stack([each.flatten(1).amin(-1) for each in log_laws.values()]).amin(0)  # NaN where not finite
        inside = lowest > LEAST_LOG_SHARE
        density, gradient = self._inside(self.coordinates.log_laws(torch.where(inside[:, None], points, 0)))
        return Density(torch.where(inside, density, -torch.inf), torch.where(inside[:, None], gradient, 0))

    def _inside(self, log_laws: Mapping[str, Tensor]) -> Density:
        """Return the density where no share is too small."""
        laws = {name: each.exp() for name, each in log_laws.items()}
        counts, log_evidence = self.target.counts(laws)
        by_log_odds = {name: self._by_log_odds(name, laws[name], counts[name]) for name in laws}
        return Density(log_evidence + self._log_prior(log_laws), self.coordinates.pulled_back(by_log_odds))

    def _log_prior(self, log_laws: Mapping[str, Tensor]) -> Tensor:
        """Return the log density (C,) of the prior in coordinates: Σ α log x, and a constant."""
        concentrations = self.target.prior.concentrations
        terms = (log_laws[name].flatten(1) @ alpha.flatten() for name, alpha in concentrations.items())
        return sum(terms, self._constant)

    @functools.cached_property
    def _constant(self) -> Tensor:
        """What does not depend on the point: of the prior, and of the Jacobian."""
        prior = self.target.prior
        uniform = {name: torch.full_like(a, 1 / a.shape[-1])[None] for name, a in prior.concentrations.items()}
        logs = {name: law.log() for name, law in uniform.items()}
        varying = sum(float((a * logs[name]).sum()) for name, a in prior.concentrations.items())
        return prior.log_density(uniform) + self.coordinates.log_jacobian(logs) - varying

    def _by_log_odds(self, name: str, law: Tensor, counts: Tensor) -> Tensor:
        """Return counts + α − x Σ (counts + α): α, not α − 1, with the Jacobian's."""
        pseudocounts = counts + self.target.prior.concentrations[name]
        return torch.addcmul(pseudocounts, law, pseudocounts.sum(-1, keepdim=True), value=-1)

    def laws(self, points: Tensor) -> dict[str, Tensor]:
        """Return the laws at points (C,D)."""
        return {name: each.exp() for name, each in self.coordinates.log_laws(points).items()}

    def block(self, points: Tensor, said: Sequence[Mapping[str, Tensor]]) -> Block:
        """Return points (C,D,coordinates) and what was said of each draw, (C,) by name, as draws of laws.

        ``lp`` is the density here; in the block, that of the laws.
        """
        log_laws = self.coordinates.log_laws(points.flatten(0, 1))
        statistics = {name: torch.stack([each[name] for each in said], 1) for name in said[0]}
        statistics[schema.LP] = statistics[schema.LP] - self.coordinates.log_jacobian(log_laws).view(points.shape[:2])
        return Block({name: each.exp().unflatten(0, points.shape[:2]) for name, each in log_laws.items()}, statistics)
