"""The parameters of a program: known, drawn from a prior, or drawn for each group of texts.

Sites of a prior, by the names of the model's fields:

    initial, transition, emission, memory_prior     each row ∼ Dirichlet(its concentrations)

and, with groups of texts, under ``pyro.plate("group", G, dim=-1)``, the laws of each group, scattered about those:

    group_initial, group_transition, …              each row ∼ Dirichlet(group_concentration · the shared row)
"""

from __future__ import annotations

from typing import NamedTuple

import pyro
import torch
from numpy.typing import ArrayLike
from pyro.distributions import Dirichlet
from torch import Tensor

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.errors import InvalidInput
from ppl_hmm.models.kinds import Model
from ppl_hmm.programs.priors import DirichletRows

Groups = ArrayLike | Tensor


class Laws(NamedTuple):
    """Parameters of the texts: one set, or one for each group and the group of each text."""

    initial: Tensor  # (K,), or (G,K)
    transition: Tensor  # (K,K), or (G,K,K)
    emission: Tensor  # (K,V), with a memory (m,K,V), or (G,…)
    memory_prior: Tensor | None  # (N,m), or (G,N,m)
    of_text: tuple[Tensor, ...]  # (), or one tensor (B,): the index into the groups

    @property
    def each_text(self) -> Laws:
        """The parameters with those of each text along a leading dimension, or the only set as it is."""
        if not self.of_text:
            return self
        remembered = None if self.memory_prior is None else self.memory_prior[self.of_text]
        initial, transition, emission = (part[self.of_text] for part in (self.initial, self.transition, self.emission))
        return Laws(initial, transition, emission, remembered, self.of_text)


def sample_laws(
    model: Model | DirichletRows,
    n_texts: int,
    groups: Groups | None,
    group_concentration: float | Tensor | None,
) -> Laws:
    """Sample the sites of unknown parameters, if any, and return all.

    Raises
    ------
    InvalidInput
        Groups of a model, without a concentration, or not one for each of the B texts; a concentration of zero or less.
    """
    scatter = _checked_scatter(model, n_texts, groups, group_concentration)
    if not isinstance(model, DirichletRows):
        return Laws(model.initial, model.transition, model.emission, getattr(model, "memory_prior", None), ())
    laws = {name: _rows(name, concentration) for name, concentration in model.concentrations.items()}
    if scatter is not None:
        laws = _laws_of_groups(laws, scatter)
    of_text = () if scatter is None else (scatter.of_text,)
    return Laws(laws["initial"], laws["transition"], laws["emission"], laws.get("memory_prior"), of_text)


class Scatter(NamedTuple):
    """Groups of texts, and how near their laws are to the shared ones."""

    of_text: Tensor  # (B,): the group of each text
    concentration: Tensor  # ()


def _laws_of_groups(laws: dict[str, Tensor], scatter: Scatter) -> dict[str, Tensor]:
    n_groups = int(scatter.of_text.max()) + 1
    with pyro.plate("group", n_groups, dim=-1):
        # A law that rounds to zero still needs a positive concentration.
        return {
            name: _rows(f"group_{name}", (scatter.concentration * law).clamp(min=torch.finfo(law.dtype).tiny), n_groups)
            for name, law in laws.items()
        }


def _rows(name: str, concentration: Tensor, *plate: int) -> Tensor:
    """Sample the rows of a law. Rows of a single entry are known: Pyro has no coordinates for them."""
    shape = concentration.shape
    known = torch.ones_like(concentration).expand(*plate, *shape) if shape[-1] == 1 else None
    return pyro.sample(name, Dirichlet(concentration).to_event(len(shape) - 1), obs=known)


def _checked_scatter(
    model: Model | DirichletRows, n_texts: int, groups: Groups | None, concentration: float | Tensor | None
) -> Scatter | None:
    if groups is None:
        if concentration is not None:
            raise InvalidInput("group_concentration", "groups", "none", "pass groups=, the group of each text")
        return None
    if not isinstance(model, DirichletRows):
        raise InvalidInput("groups", "a prior in place of the model", "a model", "pass an HMMPrior: a model is known")
    of_text = as_tensor(groups, model.device, what="groups", kind="integers")
    if of_text.is_floating_point() or of_text.dtype == torch.bool or of_text.shape != (n_texts,) or not n_texts:
        got = f"{of_text.dtype} of shape {tuple(of_text.shape)}"
        raise InvalidInput("groups", f"integers of shape {(n_texts,)}", got, "give the group of each text")
    if of_text.min() < 0:
        where = int(of_text.argmin())
        raise InvalidInput(f"groups[{where}]", "an integer from 0 on", str(int(of_text[where])), "number the groups")
    if concentration is None:
        raise InvalidInput(
            "group_concentration", "a number above zero", "None", "say how near groups are: 1 is far, 100 is near"
        )
    value = as_tensor(concentration, model.device, what="group_concentration")
    if value.ndim or not value > 0 or not torch.isfinite(value):
        raise InvalidInput("group_concentration", "a number above zero", str(value.tolist()), "pass e.g. 10.0")
    return Scatter(of_text.long(), value)
