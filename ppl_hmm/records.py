"""Frozen records of labelled tensors: what models, tasks and prompts have in common.

A record is a frozen dataclass whose fields are tensors. ``dimensions`` names the trailing axes of each field; axes
before them are batch dimensions P…, the same for all fields. ``integers`` names the fields that hold indices; the
others are real.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput
from ppl_hmm.text import as_tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """Base of the package's parameter records."""

    dimensions: ClassVar[dict[str, tuple[str, ...]]]
    integers: ClassVar[frozenset[str]] = frozenset()

    def _convert(self) -> None:
        """Turn fields into tensors on one device: indices int64, others float32 if all of them are, else float64."""
        tensors = {name: self._checked_kind(name, getattr(self, name)) for name in self.dimensions}
        single = all(tensors[name].dtype == torch.float32 for name in tensors if name not in self.integers)
        real = torch.float32 if single else torch.float64
        devices = {tensor.device for tensor in tensors.values()}
        if len(devices) > 1:
            raise InvalidInput(
                type(self).__name__,
                "all parameters on one device",
                ", ".join(sorted(map(str, devices))),
                "move them with .to(device)",
            )
        for name, tensor in tensors.items():
            # A copy, so that nobody else can change a frozen record.
            tensor = tensor.to(torch.int64 if name in self.integers else real, copy=True)
            if tensor.numel() and not all(map(math.isfinite, torch.aminmax(tensor.detach()))):
                where = (~torch.isfinite(tensor)).nonzero()[0].tolist()
                raise InvalidInput(
                    f"{name}{where}",
                    "a finite number",
                    str(tensor[tuple(where)].item()),
                    "remove NaN and infinite entries",
                )
            object.__setattr__(self, name, tensor)
        self._check_ranks()

    @classmethod
    def _checked_kind(cls, name: str, values: ArrayLike | torch.Tensor) -> torch.Tensor:
        tensor = as_tensor(values, what=name)
        if tensor.is_complex() or tensor.dtype == torch.bool:
            raise InvalidInput(name, "real numbers", str(tensor.dtype), "convert to float")
        if name in cls.integers and tensor.is_floating_point():
            raise InvalidInput(name, "integers", str(tensor.dtype), "convert with .astype(int)")
        return tensor

    def _check_ranks(self) -> None:
        batch_shapes = {}
        for name, dimensions in self.dimensions.items():
            tensor = getattr(self, name)
            if tensor.ndim < len(dimensions):
                raise InvalidInput(
                    name,
                    f"at least {len(dimensions)} dimensions ({', '.join(dimensions)})",
                    f"shape {tuple(tensor.shape)}",
                    "check the rank",
                )
            batch_shapes[name] = tuple(tensor.shape[: tensor.ndim - len(dimensions)])
        if len(set(batch_shapes.values())) > 1:
            raise InvalidInput(
                f"dimensions of {type(self).__name__}",
                "; ".join(f"{name} (…, {', '.join(dims)})" for name, dims in self.dimensions.items()),
                "; ".join(f"{name} {tuple(getattr(self, name).shape)}" for name in self.dimensions),
                "give every parameter its rank, and all the same leading batch dimensions",
            )

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
        """Return the record in another floating type or on another device."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
            return tensor.to(dtype=wanted, device=device or tensor.device)

        return self._map(move)

    def detach(self) -> Self:
        """Return the record without its autograd graph."""
        return self._map(torch.Tensor.detach)

    def __getitem__(self, index: int | slice | torch.Tensor) -> Self:
        """Select along the first batch dimension."""
        if not self.batch_shape:
            raise InvalidInput(
                f"indexing a single {type(self).__name__}",
                "leading batch dimensions",
                "none",
                f"build a batch with {type(self).__name__}.stack([...])",
            )
        return self._map(lambda tensor: tensor[index])

    def _map(self, function) -> Self:
        return dataclasses.replace(self, **{name: function(getattr(self, name)) for name in self.dimensions})

    def identical(self, other: object) -> bool:
        """Say whether ``other`` is the same kind of record with bitwise equal fields, dtypes and shapes."""
        return type(other) is type(self) and all(
            mine.dtype == theirs.dtype and torch.equal(mine, theirs) for mine, theirs in self._pairs(other)
        )

    def allclose(self, other: object, rtol: float = 1e-10, atol: float = 1e-12) -> bool:
        """Say whether ``other`` is the same kind of record with fields equal within the tolerances."""
        return type(other) is type(self) and all(
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

    def _pairs(self, other: object):
        return [(getattr(self, name), getattr(other, name)) for name in self.dimensions]

    @classmethod
    def stack(cls, records: Sequence[Self]) -> Self:
        """Return one record with a leading batch dimension over ``records``, which must have equal sizes."""
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
        return cls(**{name: torch.stack([getattr(record, name) for record in records]) for name in cls.dimensions})

    def to_dataset(self) -> xr.Dataset:
        """Return the fields as a labelled ``xarray.Dataset``; batch dimensions are called ``model``."""
        n_batch = len(self.batch_shape)
        batch = (schema.MODEL,) if n_batch == 1 else tuple(f"{schema.MODEL}_{axis}" for axis in range(n_batch))
        variables = {
            name: (batch + dimensions, getattr(self, name).detach().cpu().numpy())
            for name, dimensions in self.dimensions.items()
        }
        return xr.Dataset(variables, attrs={"kind": type(self).__name__})

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Self:
        """Return the record of a dataset with the variables and dimensions that ``to_dataset`` writes.

        Raises
        ------
        InvalidInput
            A variable or one of its dimensions is missing; the message names it.
        """
        tensors = {}
        for name, dimensions in cls.dimensions.items():
            if name not in dataset:
                raise InvalidInput(
                    f"variable {name!r} of a {cls.__name__}",
                    f"variables {', '.join(cls.dimensions)}",
                    f"variables {', '.join(map(str, dataset.variables)) or 'none'}",
                    "add or rename the variable",
                )
            variable = dataset[name]
            missing = [dimension for dimension in dimensions if dimension not in variable.dims]
            if missing:
                raise InvalidInput(
                    f"dimension {missing[0]!r} of variable {name!r}",
                    f"dimensions {dimensions}",
                    f"dimensions {tuple(map(str, variable.dims))}",
                    "rename the dimension",
                )
            tensors[name] = cls._checked_kind(name, variable.transpose(..., *dimensions).values)
        return cls(**tensors)


def broadcast_shapes(*shapes: Sequence[int]) -> torch.Size:
    """Return the shape that all broadcast to; by NumPy, as torch's own function first imports sympy."""
    return torch.Size(np.broadcast_shapes(*(tuple(shape) for shape in shapes)))
