"""Frozen records of labelled tensors: what models, tasks and prompts have in common.

A record is a frozen dataclass whose fields are tensors. ``dimensions`` names the trailing axes of each field; axes
before them are batch dimensions P…, the same for all fields. ``integers`` names the fields that hold indices; the
others are real. ``names`` names the entries of dimensions: docs/decisions/0015-labels-are-honoured-or-refused.md.
``settings`` names the fields that are no tensors, with their defaults: plain values, the same for a whole batch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.base import foreign
from ppl_hmm.base.conversion import converted, with_ordinary_tensors
from ppl_hmm.base.labels import SAME_ENTRIES, Names, coordinates, moved
from ppl_hmm.errors import InvalidInput


class Named(Protocol):
    """Anything whose dimensions have names of their entries."""

    @property
    def names(self) -> Names:
        """Names of entries by dimension."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """Base of the package's parameter records.

    Attributes
    ----------
    names
        Names of the entries of dimensions, e.g. ``{"state": ("rain", "dry")}``. Fields that are labelled arrays
        (pandas, xarray) bring theirs, and are put into one order; ``state_next`` has those of ``state``.
    """

    names: Names = dataclasses.field(default_factory=dict, kw_only=True, repr=False)

    dimensions: ClassVar[dict[str, tuple[str, ...]]]
    integers: ClassVar[frozenset[str]] = frozenset()
    rank_remedy: ClassVar[str] = "check the rank"
    settings: ClassVar[dict[str, int | str | None]] = {}

    @with_ordinary_tensors
    def _convert(self) -> None:
        """Turn fields into tensors on one device, in one order of the names of their entries."""
        tensors, names = converted(self)
        for name, tensor in tensors.items():
            object.__setattr__(self, name, tensor)
        object.__setattr__(self, "names", names)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading batch dimensions P…; empty for a single record."""
        name, dimensions = next(iter(self.dimensions.items()))
        tensor = getattr(self, name)
        return tuple(tensor.shape[: tensor.ndim - len(dimensions)])

    @property
    def dtype(self) -> torch.dtype:
        """Floating type shared by all real fields."""
        return next(getattr(self, name).dtype for name in self.dimensions if name not in self.integers)

    @property
    def device(self) -> torch.device:
        """Device shared by all fields."""
        return getattr(self, next(iter(self.dimensions))).device

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """Return the record in another floating type or on another device; itself where neither is another."""
        tensors = [getattr(self, name) for name in self.dimensions]
        same_type = all(dtype in (None, tensor.dtype) for tensor in tensors if tensor.is_floating_point())
        if same_type and (device is None or torch.device(device) == self.device):
            return self

        def move(tensor: torch.Tensor) -> torch.Tensor:
            wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
            return tensor.to(dtype=wanted, device=device or tensor.device)

        return self._map(move)

    def detach(self) -> Self:
        """Return the record without its autograd graph."""
        made = object.__new__(type(self))  # there is nothing to check: the values are the same
        vars(made).update({field.name: getattr(self, field.name) for field in dataclasses.fields(self)})
        with torch.inference_mode(False):
            vars(made).update({name: getattr(self, name).detach().clone() for name in self.dimensions})
        return made

    def __deepcopy__(self, memo: dict) -> Self:
        """Return a copy in the same autograd graph: torch copies no tensors that have one."""
        return dataclasses.replace(self)

    def __getitem__(self, index: int | slice | torch.Tensor) -> Self:
        """Select along the batch dimensions, as an array of the batch's shape is indexed."""
        if not self.batch_shape:
            raise InvalidInput(
                f"indexing a single {type(self).__name__}",
                "leading batch dimensions",
                "none",
                f"build a batch with {type(self).__name__}.stack([...])",
            )
        numbers = torch.arange(math.prod(self.batch_shape), device=self.device).view(self.batch_shape)
        try:
            chosen = numbers[index]
        except (IndexError, TypeError, ValueError) as error:
            if isinstance(error, IndexError) and isinstance(index, Integral):  # this ends a loop over the batch
                raise
            what = f"index of a {type(self).__name__}"
            expected = f"integers, or slices with positive steps, for batch dimensions {self.batch_shape}"
            raise InvalidInput(what, expected, repr(index), "pass a list: batch[[2, 1, 0]]") from None
        return self._map(lambda tensor: tensor.flatten(end_dim=len(self.batch_shape) - 1)[chosen])

    def _map(self, function) -> Self:
        return dataclasses.replace(self, **{name: function(getattr(self, name)) for name in self.dimensions})

    def assign_names(self, **names: Sequence[str | int] | None) -> Self:
        """Return the record with other names of the entries of dimensions; None takes names away.

        Named entries of results and figures are called so: ``model.assign_names(state=("rain", "dry"))``.

        Raises
        ------
        InvalidInput
            A dimension that the record has not; names that are not one for each entry, or not all different.
        """
        kept = {**self.names, **names}
        return dataclasses.replace(self, names={each: tuple(own) for each, own in kept.items() if own is not None})

    def aligned_to(self, model: Named) -> Self:
        """Return the record with its named entries, such as states or tokens, in the order of those of a model.

        Also in that of a task, a prompt or a :class:`~ppl_hmm.Vocabulary`.

        Raises
        ------
        InvalidInput
            The names are not the same.
        """
        return self._in_order(model.names, "the model")

    def _in_order(self, names: Names, of: str) -> Self:
        """Return the record in the order of other names, in all dimensions that have names in both."""
        shared = {dimension: tuple(names[dimension]) for dimension in self.names if dimension in names}
        if all(tuple(self.names[dimension]) == order for dimension, order in shared.items()):
            return self
        fields = {name: getattr(self, name) for name in self.dimensions}
        for name, dimensions in self.dimensions.items():
            for axis, dimension in enumerate(dimensions, start=-len(dimensions)):
                entries = SAME_ENTRIES.get(dimension, dimension)
                if entries in shared:
                    what = f"dimension {entries!r} of {type(self).__name__}, as {of} has them"
                    fields[name] = moved(fields[name], axis, tuple(self.names[entries]), shared[entries], what)
        return dataclasses.replace(self, **fields, names={**self.names, **shared})

    def identical(self, other: object) -> bool:
        """Say whether ``other`` is the same kind of record with bitwise equal fields, dtypes and shapes."""
        return self._same_settings(other) and all(
            mine.dtype == theirs.dtype and torch.equal(mine, theirs) for mine, theirs in self._pairs(other)
        )

    def allclose(self, other: object, rtol: float = 1e-10, atol: float = 1e-12) -> bool:
        """Say whether ``other`` is the same kind of record with fields equal within the tolerances."""
        return self._same_settings(other) and all(
            mine.shape == theirs.shape and torch.allclose(mine.double(), theirs.double(), rtol=rtol, atol=atol)
            for mine, theirs in self._pairs(other)
        )

    def require_single(self, what: str) -> None:
        """Raise :class:`InvalidInput` for a batch, where ``what`` is defined on one record."""
        if self.batch_shape:
            raise InvalidInput(
                what,
                f"a single {type(self).__name__}",
                f"batch dimensions {self.batch_shape}",
                "pass them one by one: [records[i] for i in range(n)]",
            )

    def _same_settings(self, other: object) -> bool:
        return type(other) is type(self) and all(getattr(self, name) == getattr(other, name) for name in self.settings)

    def _pairs(self, other: object):
        return [(getattr(self, name), getattr(other, name)) for name in self.dimensions]

    @classmethod
    def stack(cls, records: Iterable[Self]) -> Self:
        """Return one record with a leading batch dimension over ``records``, which must have equal sizes."""
        try:
            records = list(records)
        except TypeError:
            expected = f"a list of {cls.__name__}"
            raise InvalidInput(f"{cls.__name__}.stack", expected, foreign.described(records), "pass a list") from None
        for record in records:
            foreign.require(record, cls, f"entry of {cls.__name__}.stack", f"{cls.__name__} only")
        if not records:
            raise InvalidInput(f"{cls.__name__}.stack", "at least one record", "none", "pass a non-empty list")
        shapes = {name: {tuple(getattr(record, name).shape) for record in records} for name in cls.dimensions}
        for name, found in shapes.items():
            if len(found) > 1:
                raise InvalidInput(
                    f"{cls.__name__}.stack",
                    f"{name} of one shape",
                    f"shapes {sorted(found)}",
                    "stack only records of equal sizes",
                )
        shared = {name: getattr(records[0], name) for name in ("names", *cls.settings)}
        for name, first in shared.items():
            found = [getattr(record, name) for record in records]
            if any(value != first for value in found):
                raise InvalidInput(
                    f"{cls.__name__}.stack", f"one {name}", ", ".join(map(repr, found)), "stack those that share it"
                )
        fields = {name: torch.stack([getattr(record, name) for record in records]) for name in cls.dimensions}
        return cls(**fields, **shared)

    def to_dataset(self) -> xr.Dataset:
        """Return the fields as a labelled ``xarray.Dataset``; batch dimensions are called ``model``."""
        batch = batch_dimensions(len(self.batch_shape))
        variables = {
            name: (batch + dimensions, getattr(self, name).detach().cpu().numpy())
            for name, dimensions in self.dimensions.items()
        }
        # Defaults are left out: a file without a setting means its default.
        variables |= {
            name: ((), getattr(self, name))
            for name, default in self.settings.items()
            if getattr(self, name) != default
        }
        dataset = xr.Dataset(variables, attrs={"kind": type(self).__name__})
        return dataset.assign_coords(coordinates(self.names, dataset.sizes))

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Self:
        """Return the record of a dataset with the variables and dimensions that ``to_dataset`` writes.

        Raises
        ------
        InvalidInput
            A variable or one of its dimensions is missing; the message names it. No dataset at all.
        """
        if not isinstance(dataset, (xr.Dataset, xr.DataTree)):
            remedy = "pass an xarray.Dataset; a file is read by load(path)"
            raise InvalidInput(f"dataset of a {cls.__name__}", "a Dataset", foreign.described(dataset), remedy)
        for name in cls.dimensions:
            if name not in dataset:
                raise InvalidInput(
                    f"variable {name!r} of a {cls.__name__}",
                    f"variables {', '.join(cls.dimensions)}",
                    f"variables {', '.join(map(str, dataset.variables)) or 'none'}",
                    "add or rename the variable",
                )
        fields: dict[str, Any] = {name: dataset[name] for name in cls.dimensions}
        for name in cls.settings:
            if name in dataset.data_vars:
                if dataset[name].ndim:
                    found = f"dimensions {tuple(map(str, dataset[name].dims))}"
                    raise InvalidInput(f"variable {name!r} of a {cls.__name__}", "a scalar", found, "give one value")
                fields[name] = dataset[name].item()
        return cls(**fields)


def batch_dimensions(n_batch: int) -> tuple[str, ...]:
    """Return the names of leading batch dimensions P…."""
    return (schema.MODEL,) if n_batch == 1 else tuple(f"{schema.MODEL}_{axis}" for axis in range(n_batch))


def broadcast_shapes(*shapes: Sequence[int]) -> torch.Size:
    """Return the shape that all broadcast to; by NumPy, as torch's own function first imports sympy."""
    return torch.Size(np.broadcast_shapes(*(tuple(shape) for shape in shapes)))
