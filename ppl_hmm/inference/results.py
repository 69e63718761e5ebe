"""What queries return: laws of the hidden states, the best path, and draws."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import xarray as xr
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.labels import Names, coordinates
from ppl_hmm.base.records import batch_dimensions


@dataclasses.dataclass(frozen=True, eq=False)
class Posterior:
    """Exact posterior of the hidden states given text.

    Attributes
    ----------
    log_evidence
        (P…,B): log P(x) = log Σ_{h₀..h_T} π₀(h₀) ∏_t A[h_{t-1},h_t] w_t(h_t), in nats.
    initial
        (P…,B,K): P(H₀=h | x) ∝ π₀(h) f(x)_h.
    smoothed
        (P…,B,T,K): P(H_t=h | x) over the text positions; past an end, the predictive law.
    possible
        (P…,B): whether P(x) > 0; where it is not, the rows above are zero.
    names
        The model's names of states and memory values, which a task with names is aligned to.
    """

    log_evidence: Tensor
    initial: Tensor
    smoothed: Tensor
    possible: Tensor
    names: Names = dataclasses.field(default_factory=dict, kw_only=True, repr=False)

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {
        "log_evidence": (schema.SEQUENCE,),
        "initial": (schema.SEQUENCE, schema.STATE),
        "smoothed": (schema.SEQUENCE, schema.POSITION, schema.STATE),
        "possible": (schema.SEQUENCE,),
    }

    def to_dataset(self) -> xr.Dataset:
        """Return the fields as a labelled dataset: states and memory values by their names, where they have some.

        ``posterior(...).to_dataset()["smoothed"].sel(state="rain")`` is (sequence, position). Batch dimensions come
        first and are called ``model``.
        """
        batch = batch_dimensions(self.log_evidence.ndim - 1)
        variables = {
            name: (batch + dimensions, getattr(self, name).detach().cpu().numpy())
            for name, dimensions in self.dimensions.items()
        }
        dataset = xr.Dataset(variables)
        dataset["log_evidence"].attrs["units"] = "nats"
        return dataset.assign_coords(coordinates(self.names, dataset.sizes))


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryPosterior(Posterior):
    """Exact posterior of the hidden states and the memory given text; states are averaged over memories.

    Attributes
    ----------
    memory
        (P…,B,N,m): P(M_j=a | x).
    """

    memory: Tensor

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {
        **Posterior.dimensions,
        "memory": (schema.SEQUENCE, schema.CELL, schema.MEMORY_VALUE),
    }


@dataclasses.dataclass(frozen=True, eq=False)
class BestPath:
    """Most probable path. ``states`` (P…,B,T), ``initial_state`` (P…,B), ``log_probability`` (P…,B) = log P(h,x).

    States are −1 from where ``lengths``, or a text's row in a list of rows, end it, and in impossible text.

    For memory models the most probable pair of a memory (``memory`` (P…,B,N)) and a path, and log P(M,h,x).
    """

    states: Tensor
    initial_state: Tensor
    log_probability: Tensor
    memory: Tensor | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class PosteriorDraws:
    """Draws from P(H₀..H_T | x): ``states`` (P…,B,n_draws,T) and ``initial_state`` (P…,B,n_draws).

    For memory models from P(M, H₀..H_T | x), with ``memory`` (P…,B,n_draws,N).
    """

    states: Tensor
    initial_state: Tensor
    memory: Tensor | None = None
