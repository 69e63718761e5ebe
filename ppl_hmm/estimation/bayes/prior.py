"""Dirichlet priors of all laws of a model, and draws from them given counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.randomness import CPU
from ppl_hmm.errors import InvalidInput
from ppl_hmm.estimation.priors import Concentration
from ppl_hmm.programs.priors import DirichletRows

#: Laws by name of the model's field, chains first: rows along the last axis sum to one.
Laws = dict[str, Tensor]

#: Smallest concentration: logarithms of draws of smaller ones may be no floats.
SMALLEST = 1e-100


@dataclasses.dataclass(frozen=True, eq=False)
class DirichletPrior:
    """Independent Dirichlet priors of all rows of all laws.

    Attributes
    ----------
    concentrations
        α > 0 by field: ``initial`` (K,), ``transition`` (K,K), ``emission`` (K,V); with a memory ``memory_prior``
        (N,m) too, and ``emission`` (m,K,V).
    """

    concentrations: dict[str, Tensor]

    @classmethod
    def of(
        cls, prior: Concentration | DirichletPrior | DirichletRows | None, shapes: Mapping[str, tuple[int, ...]]
    ) -> DirichletPrior:
        """Return the prior of laws of these shapes: a number or an array by name, 1 for what is not named.

        Raises
        ------
        InvalidInput
            A concentration that is not positive and finite; an unknown name; a wrong shape.
        """
        given = prior.concentrations if isinstance(prior, (DirichletPrior, DirichletRows)) else prior
        by_name = given if isinstance(given, Mapping) else dict.fromkeys(shapes, 1.0 if given is None else given)
        unknown = sorted(set(map(str, by_name)) - set(shapes))
        if unknown:
            raise InvalidInput("names in prior", f"only {', '.join(shapes)}", ", ".join(unknown), "drop the others")
        return cls({name: _concentration(name, by_name.get(name, 1.0), shape) for name, shape in shapes.items()})

    def log_density(self, laws: Laws) -> Tensor:
        """Return log p(laws) (C,) in nats, normalised; −inf or inf where an entry is zero."""
        return torch.stack([_log_dirichlet(alpha, laws[name]) for name, alpha in self.concentrations.items()]).sum(0)

    def draw(self, n: int, generator: torch.Generator) -> Laws:
        """Return laws of n models drawn from the prior."""
        given = {name: alpha.new_zeros(n, *alpha.shape) for name, alpha in self.concentrations.items()}
        return self.draw_given(given, generator)

    def draw_given(self, counts: Laws, generator: torch.Generator) -> Laws:
        """Return laws drawn given how often each of their entries was used (C,…): rows are Dirichlet(α + counts)."""
        return {name: draw_dirichlet(alpha + counts[name], generator) for name, alpha in self.concentrations.items()}


def draw_dirichlet(concentrations: Tensor, generator: torch.Generator) -> Tensor:
    """Draw each row (…,n) from a Dirichlet law; no entry is below the smallest normal float.

    In logarithms: G(α) = G(α+1)·U^(1/α) for G(α) of small α may be smaller than any float.
    """
    shape = concentrations.shape
    gamma = torch._standard_gamma(concentrations + 1, generator=generator)  # type: ignore[attr-defined]
    uniform = 1 - torch.rand(shape, generator=generator, dtype=concentrations.dtype, device=CPU)
    law = (gamma.log() + uniform.log() / concentrations).softmax(-1)
    return law.clamp(min=torch.finfo(law.dtype).tiny)


def _log_dirichlet(alpha: Tensor, law: Tensor) -> Tensor:
    """Return the log density of each model's rows (C,), summed over rows."""
    constant = alpha.sum(-1).lgamma() - alpha.lgamma().sum(-1)
    rows = torch.xlogy(alpha - 1, law).sum(-1) + constant
    return rows.reshape(len(law), -1).sum(-1)


def _concentration(name: str, concentration: object, shape: tuple[int, ...]) -> Tensor:
    """Return α of one law's prior, in its shape."""
    alpha = as_tensor(concentration, what=f"prior of {name}").double().to(CPU)  # type: ignore[arg-type]
    wrong = ~(torch.isfinite(alpha) & (alpha >= SMALLEST))
    if wrong.any():
        got = str(alpha[wrong].flatten()[0].item())
        expected = f"finite numbers above 0, at least {SMALLEST}"
        raise InvalidInput(f"concentration of {name}", expected, got, "use 1 for a uniform prior")
    if tuple(alpha.shape) not in ((), shape[-1:], shape):
        got = f"shape {tuple(alpha.shape)}"
        raise InvalidInput(f"prior of {name}", f"a number, or shape {shape}", got, "give one for each entry")
    return alpha.expand(shape).clone()
