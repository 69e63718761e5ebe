"""Room for large results, used again.

The system clears the pages that it hands out, so that first touching a large result takes a good part of a pass, each
time anew. So the room of the last large result that was let go is kept for the next one of its size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

#: Smaller results do not wait for pages, and of larger ones nothing is held back.
SMALLEST_KEPT, LARGEST_KEPT = 1 << 22, 1 << 28

_kept: list[np.ndarray] = []  # one at most


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array that holds anything, as NumPy's, whose room may be kept when nothing refers to it any more."""
    size = math.prod(shape) * dtype.itemsize
    if not SMALLEST_KEPT <= size <= LARGEST_KEPT:
        return np.empty(shape, dtype)
    return np.asarray(_Room(_take(size))).view(dtype).reshape(shape)


def _take(size: int) -> np.ndarray:
    """Return so many bytes: those kept, if as many, or new ones by NumPy, which asks for large pages."""
    try:
        last = _kept.pop()  # at once: other threads want room, too
    except IndexError:
        last = None
    return last if last is not None and last.nbytes == size else np.empty(size, np.uint8)


class _Room:
    """Bytes that an array is a view of, and that outlive it."""

    def __init__(self, room: np.ndarray) -> None:
        self._bytes = room

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._bytes.__array_interface__

    def __del__(self, kept: list[np.ndarray] = _kept) -> None:  # bound here: at exit names of modules go first
        kept[:] = [self._bytes]
