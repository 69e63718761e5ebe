"""From what a record's fields are given to tensors on one device, in one order of the names of their entries."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.labels import SAME_ENTRIES, Axis, Labels, is_kept, moved, one_order, read
from ppl_hmm.errors import InvalidInput

if TYPE_CHECKING:
    from ppl_hmm.base.records import Record

Tensors = dict[str, torch.Tensor]


def with_ordinary_tensors(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a method that makes tensors which work with gradients, under ``torch.inference_mode``, too."""

    @functools.wraps(method)
    def wrapped(self: Any) -> None:
        records_graph = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(records_graph):
            method(self)

    return wrapped


def converted(record: Record) -> tuple[Tensors, Labels]:
    """Return the fields as tensors on one device, and the names of the entries of their dimensions.

    Indices are int64, others float32 if all of them are, else float64. Each is a copy, so that nobody else can change a
    frozen record, and contiguous, so that memory layout changes nothing.

    Raises
    ------
    InvalidInput
        Tensors on several devices, NaN or infinity, ranks that do not match, names of other entries.
    """
    tensors, axes = _read(record)
    single = all(tensors[name].dtype == torch.float32 for name in tensors if name not in record.integers)
    real = torch.float32 if single else torch.float64
    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) > 1:
        raise InvalidInput(
            type(record).__name__,
            "all parameters on one device",
            ", ".join(sorted(map(str, devices))),
            "move them with .to(device)",
        )
    for name, tensor in tensors.items():
        wanted = torch.int64 if name in record.integers else real
        tensors[name] = tensor.to(wanted, copy=True, memory_format=torch.contiguous_format)
        _require_finite(name, tensors[name])
    _require_ranks(record, tensors)
    return tensors, _in_one_order(record, tensors, axes)


def _read(record: Record) -> tuple[Tensors, list[Axis]]:
    """Return fields as tensors whose axes are where we have them, and the labels of all their axes."""
    tensors: Tensors = {}
    axes, leading = [], None
    for name, dimensions in record.dimensions.items():
        array = read(getattr(record, name), dimensions, name, leading)
        leading = array.leading if leading is None else leading
        tensors[name] = _of_right_kind(name, as_tensor(array.values, what=name), name in record.integers)
        axes += [Axis(name, each, array.labels.get(each)) for each in dimensions]
    return tensors, axes


def _of_right_kind(name: str, tensor: torch.Tensor, is_index: bool) -> torch.Tensor:
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise InvalidInput(name, "real numbers", str(tensor.dtype), "convert to float")
    if is_index and tensor.is_floating_point():
        raise InvalidInput(name, "integers", str(tensor.dtype), "convert with .astype(int)")
    return tensor


def _require_finite(name: str, tensor: torch.Tensor) -> None:
    if tensor.numel() and not all(map(math.isfinite, torch.aminmax(tensor.detach()))):
        where = (~torch.isfinite(tensor)).nonzero()[0].tolist()
        raise InvalidInput(
            f"{name}{where}", "a finite number", str(tensor[tuple(where)].item()), "remove NaN and infinite entries"
        )


def _require_ranks(record: Record, tensors: Tensors) -> None:
    batch_shapes = {}
    for name, dimensions in record.dimensions.items():
        tensor = tensors[name]
        if tensor.ndim < len(dimensions):
            raise InvalidInput(
                name,
                f"at least {len(dimensions)} dimensions ({', '.join(dimensions)})",
                f"shape {tuple(tensor.shape)}",
                record.rank_remedy,
            )
        batch_shapes[name] = tuple(tensor.shape[: tensor.ndim - len(dimensions)])
    if len(set(batch_shapes.values())) > 1:
        raise InvalidInput(
            f"dimensions of {type(record).__name__}",
            "; ".join(f"{name} (…, {', '.join(dims)})" for name, dims in record.dimensions.items()),
            "; ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items()),
            "give every parameter its rank, and all the same leading batch dimensions",
        )


def _in_one_order(record: Record, tensors: Tensors, axes: list[Axis]) -> Labels:
    """Bring tensors whose labels name the same entries into one order; return the labels that are names."""
    given = _given_names(record)
    unknown = set(given) - {axis.dimension for axis in axes}
    if unknown:
        known = ", ".join(dict.fromkeys(axis.dimension for axis in axes))
        found = ", ".join(sorted(map(str, unknown)))
        raise InvalidInput("names", f"dimensions among {known}", found, "drop the others")
    kept: Labels = {}
    entries_of = {axis.dimension: SAME_ENTRIES.get(axis.dimension, axis.dimension) for axis in axes}
    for entries in dict.fromkeys(entries_of.values()):
        same = [
            axis if axis.order is not None else axis._replace(order=given.get(axis.dimension, given.get(entries)))
            for axis in axes
            if entries_of[axis.dimension] == entries
        ]
        order = one_order(same, entries)
        for axis in same:
            tensors[axis.array] = _moved(tensors[axis.array], axis, order, record.dimensions[axis.array])
        if order is not None and is_kept(order, entries):
            kept[entries] = order
    return kept


def _given_names(record: Record) -> Labels:
    """Return the names that were passed, as tuples of what can be a name."""
    try:
        if not isinstance(record.names, Mapping):
            raise TypeError
        given = {dimension: tuple(order) for dimension, order in record.names.items()}
        hash(tuple(given.values()))
    except TypeError:  # no iterable, or of lists
        expected = "names by dimension, e.g. {'state': ('rain', 'dry')}"
        raise InvalidInput("names", expected, repr(record.names), "pass a dictionary of lists of strings") from None
    return given


def _moved(tensor: torch.Tensor, axis: Axis, order: tuple | None, dimensions: tuple[str, ...]) -> torch.Tensor:
    """Return a field with one of its axes in an order."""
    place = dimensions.index(axis.dimension) - len(dimensions)
    what = f"{axis.dimension} of {axis.array}"
    if axis.order is not None and len(axis.order) != tensor.shape[place]:
        raise InvalidInput(
            f"labels of {what}", f"{tensor.shape[place]} labels", str(len(axis.order)), "label every entry"
        )
    return moved(tensor, place, axis.order, order, what)
