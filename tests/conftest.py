"""Shared set-up: shapes that execute, and random examples that repeat."""

import gc
import os
from collections import Counter

import hypothesis
import pytest
import shapes
import torch

for module in ("by_hand", "chains", "comparisons", "fused_checks", "oracle", "published", "rational"):
    pytest.register_assert_rewrite(module)

BACKENDS = ("torch", "numba")

#: By marker: how many tests were left out.
left_out = Counter()


def pytest_configure(config):
    """Draw random examples, fewer where slow tests are left out, and check shapes on one thread.

    Benchmarks, for which pytest-benchmark is on, run what users run.
    """
    quick = "not slow" in config.option.markexpr
    hypothesis.settings.register_profile("ppl_hmm", deadline=None, derandomize=True, max_examples=34 if quick else 100)
    hypothesis.settings.load_profile("ppl_hmm")
    if config.pluginmanager.has_plugin("benchmark"):
        return
    shapes.install("ppl_hmm.exact")  # before anything imports the kernels
    # The tests' tensors are tiny: threads waiting for each other on shared cores take longer than the work.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # also in processes that tests start


def pytest_collection_finish():
    """Leave what was imported and collected out of the garbage collector's rounds: there is much, and it stays."""
    gc.collect()
    gc.freeze()


def pytest_deselected(items):
    """Count what is left out."""
    markers = ("slow", "gpu", "benchmark")
    left_out.update(marker for item in items for marker in markers if item.get_closest_marker(marker))


def pytest_sessionfinish(session):
    """Let a process of pytest-xdist tell the one that started it what it left out: tests are collected there alone."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Hear what such a process left out: all leave out the same."""
    left_out.update(Counter(getattr(node, "workeroutput", {}).get("left_out", {})) - left_out)


def pytest_terminal_summary(terminalreporter):
    """Say what was left out."""
    if left_out:
        counts = (f"{count} marked {marker}" for marker, count in left_out.items())
        terminalreporter.write_line(f"Left out: {', '.join(counts)}")


@pytest.fixture(scope="module")
def backend(request):
    """Let everything in a test be computed by one backend."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PPL_HMM_BACKEND", request.param)
        yield request.param


def pytest_generate_tests(metafunc):
    """Run the tests of a module with EVERY_BACKEND once on each, but those that compute nothing with them."""
    if getattr(metafunc.module, "EVERY_BACKEND", False) and "enumeration" not in metafunc.function.__name__:
        metafunc.fixturenames.append("backend")
        metafunc.parametrize("backend", BACKENDS, indirect=True, scope="module")
