"""Fixtures that time side by side and leave records in pytest-benchmark's report."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks import measure
from benchmarks.records import OWN, Comparison, Scaling, Shape


@pytest.fixture
def compare(benchmark):
    """Return what times functions side by side, ours first, and leaves a Comparison in the report."""

    def run(section, quantity, dtype, shape: Shape, functions, **aims):
        seconds = measure.side_by_side(benchmark, functions)
        record = Comparison(section, quantity, str(dtype).removeprefix("torch."), shape, seconds, **aims)
        benchmark.extra_info["comparison"] = dataclasses.asdict(record)

    return run


@pytest.fixture
def scale(benchmark):
    """Return what times functions of (name, size) side by side and leaves a Scaling in the report."""

    def run(dimension, dtype, shape: Shape, functions, fitted_from, aim):
        largest = (OWN, getattr(shape, dimension))
        seconds = measure.side_by_side(benchmark, {largest: functions[largest], **functions})
        curves = {name: {size: seconds[name, size] for one, size in functions if one == name} for name, _ in functions}
        record = Scaling(dimension, str(dtype).removeprefix("torch."), shape, curves, fitted_from, aim)
        benchmark.extra_info["scaling"] = dataclasses.asdict(record)

    return run


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info):
    """Name the machine and the versions in the report."""
    machine_info["ppl_hmm"] = measure.machine()
