"""Times taken side by side: own and others in turn, in one process, so that drift of the machine hits all alike."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import torch

from benchmarks.records import Seconds

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture  # only `make bench` needs it

#: Seconds to spend on one comparison, as far as the fewest rounds allow.
BUDGET = float(os.environ.get("PPL_HMM_BENCH_SECONDS", "20"))
FEWEST_ROUNDS, MOST_ROUNDS = 3, 21
#: Idle threads of what ran before spin for a while on the cores of the next.
REST = 0.05
#: What takes longer than this has little to gain from warm caches.
LONG = 0.5
#: What takes longer than this is not called once more to tell its compilation from the rest.
VERY_LONG = 10

PACKAGES = ("ppl-hmm", "numpy", "torch", "numba", "triton", "jax", "dynamax", "hmmlearn", "pomegranate", "pyro-ppl")


def side_by_side(benchmark: BenchmarkFixture, functions: dict[str, Callable[[], object]]) -> Seconds:
    """Return seconds of each function, one of each a round; pytest-benchmark times the first and reports it."""
    first, *others = functions
    usual = {name: once_compiled(function) for name, function in functions.items()}
    a_round = sum(REST + taken * (1 if taken > LONG else 2) for taken in usual.values())
    seconds = {name: [] for name in functions}

    def others_in_turn():
        for name in others:
            settle(functions[name], usual[name])
            seconds[name].append(timed(functions[name]))
        settle(functions[first], usual[first])

    rounds = min(max(FEWEST_ROUNDS, int(BUDGET / a_round)), MOST_ROUNDS)
    benchmark.pedantic(functions[first], setup=others_in_turn, rounds=rounds)
    seconds[first] = list(benchmark.stats.stats.data)
    return seconds


def once_compiled(function: Callable[[], object]) -> float:
    """Return about the seconds that a call takes once it is compiled."""
    first = timed(function)
    return first if first > VERY_LONG else timed(function)


def settle(function: Callable[[], object], usual: float) -> None:
    """Let other threads come to rest, and caches fill with what the function reads."""
    time.sleep(REST)
    if usual <= LONG:
        function()


def timed(function: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def machine() -> dict[str, str]:
    """Return what was measured on, and with."""
    facts = {"processor": _processor(), "cores": str(os.cpu_count()), "threads": str(torch.get_num_threads())}
    if torch.cuda.is_available():
        facts["GPU"] = torch.cuda.get_device_name()
    versions = {name: version(name) for name in PACKAGES if installed(name)}
    return facts | {"Python": platform.python_version()} | versions


def installed(package: str) -> bool:
    """Say whether a package is there: on a GPU only some of the peers are needed."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    """Return the model, and the widest vectors it computes with."""
    try:
        with open("/proc/cpuinfo") as file:
            facts = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines())
    except OSError:
        return platform.processor() or platform.machine()
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    family = f"family {facts.get('cpu family')}, model {facts.get('model')}"
    widest = next((f", {name}" for name in ("avx512f", "avx2") if name in facts.get("flags", "").split()), "")
    return f"{facts.get('model name', platform.machine())} ({family}{widest})"
