"""Keep what compiled solvers print out of standard output, which may carry JSON."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator

# One redirection at a time, and none while the process forks: who saved a redirected descriptor would restore that.
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what is written to file descriptor 1 to descriptor 2 instead.

    HiGHS, which SciPy's ``linprog`` and ``milp`` call, prints some lines whatever its options say. Calls in several
    threads wait for one another; what other threads print meanwhile goes to descriptor 2 as well. Nothing is redirected
    where either descriptor is closed.
    """
    with _lock, contextlib.ExitStack() as stack:
        _flush()
        with contextlib.suppress(OSError):
            kept = os.dup(1)
            stack.callback(os.close, kept)
            os.dup2(2, 1)
            stack.callback(os.dup2, kept, 1)
            stack.callback(_flush)
        yield


def _flush() -> None:
    """Write out what Python and C hold back for descriptor 1: C does so only at exit where that is a pipe."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # none, not read by anybody, closed
        sys.stdout.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)
