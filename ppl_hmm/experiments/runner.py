"""Run the cells of an experiment, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import xarray as xr

from ppl_hmm.errors import PplHmmError, at_least
from ppl_hmm.experiments.grid import Cell, Settings
from ppl_hmm.experiments.store import Store, write_cell

Compute = Callable[[Settings, Cell], xr.Dataset]
Progress = Callable[[int, int], None]  # cells done, cells in all


class WorkerLost(PplHmmError):
    """A worker process died; finished cells are kept."""


def run(compute: Compute, store: Store, *, workers: int = 2, progress: Progress | None = None) -> xr.DataTree:
    """Compute the cells that ``store`` lacks and return the gathered tree.

    Every finished cell is stored by its worker at once: after a kill the same call goes on where it stopped.

    Raises
    ------
    WorkerLost
        A worker died (killed, or out of memory).
    """
    at_least("workers", workers, 1)
    missing = store.missing()
    total = len(list(store.settings.cells()))
    n_finished = total - len(missing)

    def report(n_done: int) -> None:
        if progress is not None:
            progress(n_finished + n_done, total)

    report(0)
    if missing:
        with _pool(min(workers, len(missing))) as pool:
            jobs = [
                pool.submit(_compute_and_store, compute, store.settings, cell, store.cell_path(cell))
                for cell in missing
            ]
            try:
                for n_done, job in enumerate(as_completed(jobs), start=1):
                    job.result()
                    report(n_done)
            except BrokenProcessPool:
                raise WorkerLost(
                    "a worker process",
                    "to finish its cell",
                    "it was killed, or ran out of memory",
                    "run the same command again: finished cells are kept",
                ) from None
    return store.finish()


def _compute_and_store(compute: Compute, settings: Settings, cell: Cell, path: Path) -> None:
    write_cell(compute(settings, cell), path)


@contextmanager
def _pool(workers: int) -> Iterator[Executor]:
    """Yield a process pool; stop it at once when the body fails or is interrupted."""
    # Spawned, not forked: PyTorch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker, initargs=(os.getpid(),))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    pool.shutdown()


def _prepare_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone: nobody else would end this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
