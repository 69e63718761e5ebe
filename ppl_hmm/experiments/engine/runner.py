"""Run the cells of an experiment: in this process, in a pool of processes, or on any executor."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from pathlib import Path

import xarray as xr

from ppl_hmm.errors import InvalidInput, PplHmmError, at_least
from ppl_hmm.experiments.engine.cells import Compute, compute_cell
from ppl_hmm.experiments.engine.grid import Cell, Settings
from ppl_hmm.experiments.engine.store import Store, is_computed, write_cell

Progress = Callable[[int, int], None]  # cells done, cells in all


class WorkerLost(PplHmmError):
    """A worker process died; finished cells are kept."""


def run_experiment(
    settings: Settings,
    compute: Compute,
    out: str | Path,
    *,
    workers: int = 2,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> xr.DataTree:
    """Compute an experiment in the directory ``out``, or continue it there.

    Every finished cell is stored by its worker at once: after a kill the same call goes on where it stopped. Workers
    elsewhere need the package and the directory of the store.

    Parameters
    ----------
    settings
        An instance of a subclass of :class:`~ppl_hmm.experiments.Settings`: it says what the grid is.
    compute
        A function of the settings and one cell. It returns columns by name, each with one entry a seed of the cell, or
        ``(dimensions, values)`` with a dimension ``'seed'``. Randomness comes from each seed alone. Its name, as
        ``'module:function'``, is imported where cells are computed and nowhere else.
    out
        Directory of the results. A finished one is returned as it is; one of another configuration is refused.
    workers
        Processes; 1 computes in this one. The numbers do not depend on it. More need settings and function that can be
        imported: define both in a module, not in a notebook.
    executor
        Any ``concurrent.futures.Executor``, in place of processes; it is left running.
    progress
        Called with (cells done, cells in all).

    Returns
    -------
    xarray.DataTree
        ``/results`` with the columns over the axes and ``seed``, ``/settings``, ``/timings``, and what the settings
        refer to.

    Raises
    ------
    InvalidInput
        Settings, axes or columns that are none, and what other processes cannot import.
    ForeignFile, OtherConfiguration
        An ``out`` that cannot be used, or holds something else; nothing is changed.
    WorkerLost
        A worker died (killed, or out of memory).

    See Also
    --------
    ppl_hmm.open_results : read a finished or running experiment
    ppl_hmm.head_vs_prompt : an experiment that is defined here

    Examples
    --------
    >>> import dataclasses, tempfile
    >>> from ppl_hmm.experiments import Axis, Settings, run_experiment
    >>> @dataclasses.dataclass(frozen=True)
    ... class Powers(Settings):
    ...     experiment = "powers"
    ...     bases: tuple[int, ...] = (2, 3)
    ...     n_seeds: int = 4
    ...
    ...     def axes(self):
    ...         return (Axis("base", self.bases),)
    >>> def compute(settings, cell):
    ...     return {"power": [cell["base"] ** seed for seed in cell.seeds]}
    >>> tree = run_experiment(Powers(), compute, tempfile.mkdtemp(), workers=1)
    >>> tree["results/power"].sel(base=3).values.tolist()
    [1, 3, 9, 27]
    """
    at_least("workers", workers, 1)  # before anything is written
    store = Store(out, settings)
    missing = store.missing()
    total = len(settings.cells())
    n_finished = total - len(missing)

    def report(n_done: int) -> None:
        if progress is not None:
            progress(n_finished + n_done, total)

    report(0)
    for n_done, _ in enumerate(_completions(compute, store, missing, workers, executor), start=1):
        report(n_done)
    return store.finish()


def _completions(
    compute: Compute, store: Store, cells: list[Cell], workers: int, executor: Executor | None
) -> Iterator[None]:
    """Compute and store the cells, yielding whenever one is finished."""
    tasks = [(compute, store.settings, cell, store.cell_path(cell)) for cell in cells]
    if executor is None and min(workers, len(tasks)) <= 1:
        for task in tasks:
            yield _compute_and_store(*task)
        return
    if executor is None:
        _require_picklable(tasks[0])
    with nullcontext(executor) if executor is not None else _pool(min(workers, len(tasks))) as pool:
        jobs = []
        try:
            jobs += [pool.submit(_compute_and_store, *task) for task in tasks]
            for job in as_completed(jobs):
                yield job.result()
        except BrokenExecutor:
            raise WorkerLost(
                "a worker process",
                "to finish its cell",
                "it was killed, or ran out of memory",
                "run the same command again: finished cells are kept",
            ) from None
        finally:
            for job in jobs:
                job.cancel()


def _compute_and_store(compute: Compute, settings: Settings, cell: Cell, path: Path) -> None:
    if not is_computed(path):  # by another run in the same directory
        write_cell(compute_cell(compute, settings, cell), path)


def _require_picklable(task: object) -> None:
    """Raise :class:`InvalidInput` unless a task can be sent to other processes."""
    try:
        pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InvalidInput(
            "settings and function of an experiment",
            "what worker processes can import",
            str(error),
            "define both at the top level of a module, or pass workers=1",
        ) from None


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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an orderly exit: libraries give their semaphores back

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
