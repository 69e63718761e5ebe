"""The GPU's kernels without a GPU: interpreted, and compiled for one that is not there."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import fused_checks
import pytest
import torch

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact import backends
from ppl_hmm.exact.backends.fused import Fused
from ppl_hmm.exact.backends.fused.launch import segments_of
from ppl_hmm.exact.backends.recursive import Recursive

COMMAND = [sys.executable, fused_checks.__file__]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def interpret(tmp_path_factory):
    """Run checks under Triton's interpreter, each in a fork of one process that has imported what they need."""
    errors, pipes = tmp_path_factory.mktemp("fused") / "errors", dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    environment = ENVIRONMENT | {"TRITON_INTERPRET": "1"}
    with (
        errors.open("w") as stderr,
        subprocess.Popen(COMMAND, **pipes, stderr=stderr, text=True, env=environment) as process,
    ):

        def check(function):
            process.stdin.write(f"{function.__name__}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "0\n", errors.read_text()

        yield check


@pytest.mark.parametrize("function", fused_checks.INTERPRETED, ids=lambda function: function.__name__)
def test_interpreted_kernels(function, interpret):
    interpret(function)


@pytest.mark.parametrize(
    "function",
    [
        fused_checks.compile_smallest_for_a_gpu,
        pytest.param(fused_checks.compile_larger_for_a_gpu, marks=pytest.mark.slow),
    ],
    ids=lambda function: function.__name__,
)
def test_kernels_compile_for_a_gpu(function, tmp_path):
    done = subprocess.run(
        COMMAND,
        input=function.__name__,
        capture_output=True,
        text=True,
        env=ENVIRONMENT | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"},
    )
    *compiled, status = done.stdout.splitlines()
    assert status == "0", done.stderr
    kernels = {line.split(":")[0] for line in compiled}
    assert kernels == {"forward", "filtered", "smooth", "messages", "expected_counts", "link_laws", "link_messages"}
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


class OnGPU(torch.Tensor):
    """A tensor that says it is on a GPU."""

    device = torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of compute capability 9 that triton works on."""
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(backends, "_agrees_with_torch", lambda *_: True)
    return monkeypatch


@pytest.mark.parametrize(
    ("n_states", "dtype", "chosen"),
    [
        (128, torch.float32, Fused),
        (64, torch.float64, Fused),
        (129, torch.float32, Recursive),
        (65, torch.float64, Recursive),
        (3, torch.float16, Recursive),
    ],
)
def test_the_rule_takes_what_fits_on_chip(gpu, n_states, dtype, chosen):
    transition = torch.empty(1, n_states, n_states, dtype=dtype).as_subclass(OnGPU)
    assert isinstance(backends.choose(transition), chosen)


@pytest.mark.parametrize(
    ("owner", "name", "answer"),
    [
        (torch.cuda, "get_device_capability", (7, 5)),
        (backends, "_agrees_with_torch", False),
        (backends, "has_triton", False),
    ],
)
def test_the_rule_does_without_triton(gpu, owner, name, answer):
    transition = torch.eye(3)[None].as_subclass(OnGPU)
    assert isinstance(backends.choose(transition), Fused)
    gpu.setattr(owner, name, lambda *_: answer)
    assert isinstance(backends.choose(transition), Recursive)


def test_without_triton_its_name_is_refused(monkeypatch):
    monkeypatch.setattr(backends, "has_triton", lambda: False)
    with pytest.raises(InvalidInput, match=r"pip install 'ppl-hmm\[gpu\]'"):
        backends.choose(torch.eye(3)[None], "triton")


@pytest.mark.parametrize(
    ("version", "enough"), [("3.7rc1", True), ("3.10.0+git1", True), ("3.6.0", True), ("3.5.1", False), ("", False)]
)
def test_versions_of_triton(monkeypatch, version, enough):
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    assert backends.has_triton.__wrapped__() is enough


def test_a_triton_of_another_name_is_none(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert not backends.has_triton.__wrapped__()


def test_few_long_texts_are_cut_and_many_are_not():
    assert segments_of(1, 10240, 30) == 102
    assert segments_of(1, 100, 30) == segments_of(5000, 10240, 30) == segments_of(1, 0, 30) == 1
