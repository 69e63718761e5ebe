"""Machine code on disk, which saves a later process the seconds of compiling: a convenience, never a condition."""

from __future__ import annotations

import contextlib
import functools
import logging
from typing import Any

from numba.core.caching import FunctionCache

_log = logging.getLogger("ppl_hmm")


class _Cache(FunctionCache):
    """Numba's cache of a function, where what cannot be read or written is compiled anew."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the machine code for a signature, None where there is none; damaged files are given up."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # whatever unpickling a damaged file raises
            _warn(error)
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write the machine code for a signature, where that is possible."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _warn(error)


def keep(dispatcher: Any) -> None:
    """Let numba keep a function's machine code on disk, where it finds a directory to write to."""
    try:
        dispatcher._cache = _Cache(dispatcher.py_func)
    except (OSError, RuntimeError) as error:
        _warn(error)


def _warn(error: Exception) -> None:
    _log.debug("machine code: %s: %s", type(error).__name__, error)
    _warn_once()


@functools.cache
def _warn_once() -> None:
    _log.warning(
        "compiled loops could not be kept on disk or read from it: this process compiles them, for some seconds; "
        "set NUMBA_CACHE_DIR to a directory that can be written"
    )
