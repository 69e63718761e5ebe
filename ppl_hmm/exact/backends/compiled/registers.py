"""Registers of this machine as a type of values in compiled loops."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import config
from numba.core.codegen import get_host_cpu_features
from numba.extending import models, overload, register_model


def width(features: str | None) -> int:
    """Return the bytes of a register of a processor with these features, those of this machine if None."""
    known = get_host_cpu_features() if features is None else features
    return 64 if "+avx512f" in known.split(",") else 32


#: Bytes of a register of the processor that numba compiles for; the environment may name one by NUMBA_CPU_FEATURES.
WIDTH = width(config.CPU_FEATURES)  # pyright: ignore[reportAttributeAccessIssue]


class Vector(types.Type):
    """Numba's type of a register of numbers."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.lanes = WIDTH // (dtype.bitwidth // 8)
        super().__init__(f"Vector({dtype} x {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, ir.VectorType(manager.lookup(vector.dtype).get_data_type(), vector.lanes))


def lanes(array):
    """Return how many entries of the array one vector holds."""
    return WIDTH // array.itemsize


@overload(lanes)
def _lanes(array):
    number = Vector(array.dtype).lanes
    return lambda array: number
