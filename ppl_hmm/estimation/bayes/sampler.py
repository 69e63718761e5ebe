"""What a sampler of posteriors promises, and which ones there are."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ppl_hmm.errors import one_of
from ppl_hmm.estimation.bayes.prior import Laws
from ppl_hmm.estimation.bayes.target import Target

#: All that a sampler needs to go on bit for bit, the states of its generators included, as plain arrays.
State = dict[str, Tensor]

#: Modules and classes of the samplers, by method; imported when they are asked for.
_PLACES: Mapping[str, tuple[str, str]] = {
    "gibbs": ("gibbs", "GibbsSampler"),
    "hmc": ("hamiltonian", "HamiltonianSampler"),
    "nuts": ("pyro_nuts", "NoUTurnSampler"),
    "svi": ("variational", "VariationalSampler"),
}


class Block(NamedTuple):
    """D draws of each of C chains."""

    laws: Laws  # (C,D,…) by field
    statistics: dict[str, Tensor]  # (C,D) by name: ``lp``, the log density of the target, and what the sampler says


class Sampler(Protocol):
    """A Markov chain, or several side by side, whose limit is the posterior; all it remembers is its state."""

    def start(self, target: Target, laws: Laws, stream: torch.Generator) -> State:
        """Return the state of chains that start at laws (C,…); all randomness is the stream's."""
        ...

    def advance(self, target: Target, state: State, n: int, tuning: bool) -> tuple[State, Block]:
        """Return the state after n draws of each chain, and the draws; while tuning, the sampler may adapt itself.

        The state that was passed is unchanged.
        """
        ...


def sampler_of(method: str) -> Sampler:
    """Return the sampler of a method.

    Raises
    ------
    InvalidInput
        An unknown method.
    """
    one_of("method", method, _PLACES)
    module, name = _PLACES[method]
    return getattr(import_module(f"ppl_hmm.estimation.bayes.{module}"), name)()


def saved_stream(stream: torch.Generator) -> Tensor:
    """Return the state of a generator as an array."""
    return stream.get_state()


def restored_stream(saved: Tensor) -> torch.Generator:
    """Return a generator that goes on from a saved state."""
    stream = torch.Generator("cpu")
    stream.set_state(saved.to(torch.uint8))
    return stream
