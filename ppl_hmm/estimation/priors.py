"""Dirichlet priors of a model's laws, as pseudocounts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.algebra import safe_log
from ppl_hmm.exact.baum_welch import Counts, LawsT

#: Names of the laws of a model without a memory, in the order of their arrays.
LAWS = Counts._fields

#: A concentration for all laws, or one (or an array of them) for each that is named.
Concentration = float | Mapping[str, ArrayLike | Tensor]


def require_laws(what: str, given: Iterable[str], names: Sequence[str]) -> None:
    """Raise :class:`InvalidInput` unless all that is given are names of laws."""
    unknown = sorted(set(map(str, given)) - set(names))
    if unknown:
        raise InvalidInput(what, f"only {', '.join(names)}", ", ".join(unknown), "drop the others")


def shape_in_model(name: str, law: Tensor) -> tuple[int, ...]:
    """Return the shape that a law (P,…) has in a model: arrays of emissions have tokens before states."""
    return tuple((law.mT if name == "emission" else law).shape[1:])


@dataclasses.dataclass(frozen=True, eq=False)
class Pseudocounts(Generic[LawsT]):
    """α − 1 of Dirichlet(α) priors, shaped to add to expected counts of one model."""

    laws: LawsT

    @classmethod
    def of(cls, prior: Concentration | None, like: LawsT) -> Pseudocounts[LawsT] | None:
        """Return the pseudocounts of a prior on laws like these; None without one.

        Raises
        ------
        InvalidInput
            A concentration below one, whose posterior has no highest point; an unknown name; a wrong shape.
        """
        if prior is None:
            return None
        given = prior if isinstance(prior, Mapping) else dict.fromkeys(like._fields, prior)
        require_laws("names in prior", given, like._fields)
        made = []
        for name, law in like._asdict().items():
            excess = _excess(name, given.get(name, 1.0), shape_in_model(name, law)).to(law)
            made.append(excess.mT if name == "emission" else excess)
        return cls(like._make(made))

    def added(self, counts: LawsT, parameters: LawsT) -> LawsT:
        """Return counts with those of the prior, where parameters are not zero: zeros are outside of what it is on."""
        triples = zip(counts, self.laws, parameters, strict=True)
        return counts._make(count + torch.where(value > 0, extra, 0) for count, extra, value in triples)

    def log_density(self, parameters: LawsT) -> Tensor:
        """Return Σ (α−1)·log parameter (P,) over positive parameters: the log prior up to a constant."""
        terms = (
            torch.where((value > 0) & (extra > 0), extra * safe_log(value), 0).double().flatten(1).sum(1)
            for extra, value in zip(self.laws, parameters, strict=True)
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
