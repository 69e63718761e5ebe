"""The GPU's kernels without a GPU: interpreted, and compiled for one that is not there."""

import os
import subprocess
import sys
from pathlib import Path

import fused_checks
import pytest
import torch

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact import backends


def check(function, **environment):
    """Run one of the checks in a process of its own."""
    command = [sys.executable, fused_checks.__file__, function.__name__]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("function", fused_checks.INTERPRETED, ids=lambda function: function.__name__)
def test_interpreted_kernels(function):
    check(function, TRITON_INTERPRET="1")


def test_kernels_compile_for_a_gpu(tmp_path):
    compiled = check(fused_checks.compile_for_a_gpu, TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0")
    kernels = {line.split(":")[0] for line in compiled.splitlines()}
    assert kernels == {"forward", "smooth", "messages", "expected_counts", "link_laws", "link_messages"}
    assert list(Path(tmp_path).rglob("*.cubin"))


# The choice.


def test_arrays_on_the_cpu_are_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(InvalidInput, match=r"backend: expected parameters on an NVIDIA GPU, got cpu; call \.to"):
        backends.choose(torch.eye(3)[None], "triton")


@pytest.mark.parametrize(("dtype", "n_states"), [(torch.float32, 129), (torch.float64, 65)])
def test_more_states_than_fit_on_chip_are_refused(monkeypatch, dtype, n_states):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(InvalidInput, match=rf"at most {n_states - 1} states in {dtype}, got {n_states}"):
        backends.choose(torch.eye(n_states, dtype=dtype)[None], "triton")


def test_other_precisions_are_refused():
    with pytest.raises(InvalidInput, match=r"float32 or float64 parameters, got torch\.float16"):
        backends.choose(torch.eye(3, dtype=torch.float16)[None], "triton")


def test_without_triton_its_name_is_refused_and_the_rule_does_without(monkeypatch):
    monkeypatch.setattr(backends, "has_triton", lambda: False)
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    with pytest.raises(InvalidInput, match=r"pip install 'ppl-hmm\[gpu\]'"):
        backends.choose(torch.eye(3)[None], "triton")
    monkeypatch.setattr(backends, "_suits_triton", lambda _: True)
    assert backends.choose(torch.empty(1, 2000, 2000)) is backends.choose(torch.eye(3)[None], "torch")
