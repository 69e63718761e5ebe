"""Run cells on a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from ppl_hmm.errors import InvalidInput
from ppl_hmm.experiments.engine.runner import WorkerLost

_SECONDS_TO_CONNECT = 10


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """Yield an executor on the cluster whose scheduler is at ``address``, e.g. ``tcp://host:8786``.

    Cells set their own number of threads, so workers should have one thread each; they need this package, and must see
    the output directory at the same path.

    Raises
    ------
    InvalidInput
        Dask is not installed, or no scheduler answers.
    WorkerLost
        Workers died repeatedly.
    """
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise InvalidInput(
            "a Dask scheduler", "the extra 'dask' installed", "no module 'distributed'", "pip install 'ppl-hmm[dask]'"
        ) from None
    try:
        client = Client(address, timeout=_SECONDS_TO_CONNECT)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInput(f"scheduler {address!r}", "a running Dask scheduler", reason, "check the address") from None
    with client:
        try:
            yield client.get_executor(pure=False)
        except KilledWorker as error:
            raise WorkerLost(
                "workers of the cluster", "to finish their cells", str(error).splitlines()[0], "run the command again"
            ) from None
