"""Shared set-up: shapes that execute, and random examples that repeat."""

import gc
import os

import hypothesis
import pytest
import shapes
import torch

hypothesis.settings.register_profile("ppl_hmm", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ppl_hmm")

for module in ("by_hand", "chains", "comparisons", "fused_checks", "oracle", "published", "rational"):
    pytest.register_assert_rewrite(module)

BACKENDS = ("torch", "numba")


def pytest_configure(config):
    """Check shapes on one thread, unless pytest-benchmark is on: benchmarks run what users run."""
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
