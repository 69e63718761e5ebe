"""Parts of a pass shared among threads, which wait for the next call: starting them takes longer than small passes.

The caller is one of them, so that parts are computed where no other thread can be had: after the main thread has ended
and in ``atexit`` handlers Python starts none, nor does a system whose limit is reached.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def share(part: Callable[[int, int], Result], ranges: Sequence[tuple[int, int]], n_threads: int) -> list[Result]:
    """Return ``part(first, last)`` of all ranges, computed in up to ``n_threads`` threads.

    After an error or Ctrl-C no further part begins.
    """
    waiting = list(enumerate(ranges))
    results: dict[int, Result] = {}

    def compute_parts() -> None:  # each thread takes the next one that nobody has taken
        while True:
            try:
                number, (first, last) = waiting.pop()  # at once, as an iterator's next need not be
            except IndexError:
                return
            try:
                results[number] = part(first, last)
            except BaseException:
                waiting.clear()
                raise

    helpers = [Future[None]() for _ in range(n_threads - 1)]
    with contextlib.suppress(RuntimeError):  # Python starts no thread: the caller computes its parts
        for helper in helpers:
            _pool(n_threads).submit(_help, helper, compute_parts)
    compute_parts()
    for helper in helpers:
        if not helper.cancel():  # a thread that has not woken up yet is not waited for
            helper.result()
    return [results[number] for number in range(len(ranges))]


def _help(helper: Future[None], compute_parts: Callable[[], None]) -> None:
    """Compute parts, unless they are all computed. Not the pool's own future: it is lost if no thread starts."""
    if not helper.set_running_or_notify_cancel():
        return
    try:
        helper.set_result(compute_parts())
    except BaseException as error:  # it is the caller's
        helper.set_exception(error)


@functools.cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has the pool's memory, not its threads
