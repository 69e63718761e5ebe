"""Times taken side by side: own and peers in turn, in one process, so that drift of the machine hits all alike."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import torch


def side_by_side(functions: dict[str, Callable[[], object]], rounds: int = 7) -> dict[str, list[float]]:
    """Return seconds of each function, one of each a round, after a warm-up.

    Before each a rest, as idle threads of the one before spin for a while on the cores of the next; and one more call,
    as caches have grown cold.
    """
    for function in functions.values():
        function()
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            time.sleep(0.05)
            function()
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: dict[str, list[float]], name: str, to: str = "own") -> float:
    """Return the median over rounds of one's time by another's."""
    return statistics.median(one / other for one, other in zip(seconds[name], seconds[to], strict=True))


def environment() -> dict[str, str]:
    """Return the machine and the versions that were measured."""
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except OSError:
        pass
    packages = ("numpy", "torch", "numba", "jax", "dynamax", "hmmlearn", "pomegranate", "pyro-ppl")
    return {"cpu": cpu, "threads": str(torch.get_num_threads()), **{name: version(name) for name in packages}}
