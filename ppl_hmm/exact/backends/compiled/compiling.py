"""How the loops of this package are compiled: by themselves, within others, or as instructions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.extending import intrinsic

from ppl_hmm.exact.backends.compiled import disk


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call with each kind of argument, and keep the machine code on disk where that is possible.

    Numba notices an edit of the function's own file, not of another file whose functions it calls: ``make clean`` after
    editing those.
    """
    # What tests wrap around functions to check shapes is not for the compiler.
    dispatcher = njit(nogil=True)(inspect.unwrap(function))
    disk.keep(dispatcher)
    return dispatcher


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as part of the compiled functions that call it: a call would cost more than its work."""
    return njit(nogil=True, forceinline=True)(inspect.unwrap(function))


def instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that writes LLVM instructions callable, without its first argument, from compiled functions."""
    return intrinsic(function)
