"""Dirichlet priors of a model's laws, as pseudocounts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.algebra import safe_log
from ppl_hmm.exact.baum_welch import Counts

#: Names of the laws of a model, in the order of their arrays.
LAWS = ("initial", "transition", "emission")

#: A concentration for all laws, or one (or an array of them) for each that is named.
Concentration = float | Mapping[str, ArrayLike | Tensor]


class Pseudocounts(NamedTuple):
    """α − 1 of Dirichlet(α) priors, shaped to add to :class:`~ppl_hmm.exact.baum_welch.Counts`."""

    initial: Tensor  # (K,)
    transition: Tensor  # (K,K)
    emission: Tensor  # (V,K)

    @classmethod
    def of(
        cls, prior: Concentration | None, n_states: int, vocabulary_size: int, dtype: torch.dtype, device: torch.device
    ) -> Pseudocounts | None:
        """Return the pseudocounts of a prior; None without one.

        Raises
        ------
        InvalidInput
            A concentration below one, whose posterior has no highest point; an unknown name; a wrong shape.
        """
        if prior is None:
            return None
        given = prior if isinstance(prior, Mapping) else dict.fromkeys(LAWS, prior)
        unknown = sorted(set(map(str, given)) - set(LAWS))
        if unknown:
            raise InvalidInput("names in prior", f"only {', '.join(LAWS)}", ", ".join(unknown), "drop the others")
        shapes = ((n_states,), (n_states, n_states), (n_states, vocabulary_size))
        made = [_excess(name, given.get(name, 1.0), shape) for name, shape in zip(LAWS, shapes, strict=True)]
        made[-1] = made[-1].T
        return cls(*(each.to(dtype=dtype, device=device) for each in made))

    def added(self, counts: Counts, parameters: Counts) -> Counts:
        """Return counts with those of the prior, where parameters are not zero: zeros are outside of what it is on."""
        triples = zip(counts, self, parameters, strict=True)
        return Counts(*(count + torch.where(value > 0, extra, 0) for count, extra, value in triples))

    def log_density(self, parameters: Counts) -> Tensor:
        """Return Σ (α−1)·log parameter (P,) over positive parameters: the log prior up to a constant."""
        terms = (
            torch.where((value > 0) & (extra > 0), extra * safe_log(value), 0).double().flatten(1).sum(1)
            for extra, value in zip(self, parameters, strict=True)
        )
        return torch.stack(list(terms)).sum(0)


def _excess(name: str, concentration: ArrayLike | Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return α − 1 of one law's prior, in its shape."""
    alpha = as_tensor(concentration, what=f"prior of {name}").double()
    if not torch.isfinite(alpha).all() or (alpha < 1).any():
        smallest = alpha[~(alpha >= 1)].flatten()[:1].tolist() or [float(alpha.max())]
        raise InvalidInput(
            f"concentration of {name}", "finite numbers of at least 1", str(smallest[0]), "use 1 for no prior"
        )
    if tuple(alpha.shape) not in ((), shape[-1:], shape):
        raise InvalidInput(
            f"prior of {name}", f"a number, or shape {shape}", f"shape {tuple(alpha.shape)}", "give one for each entry"
        )
    return (alpha - 1).expand(shape)
