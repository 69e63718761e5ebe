"""Compiled loops in a process that ends, forks or is interrupted, and where nothing can be kept on disk."""

import errno
import itertools
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numba
import pytest
import torch
from numba.core import caching

import ppl_hmm
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact import backends
from ppl_hmm.exact.backends.compiled import disk, threads

COMPUTE = """
import atexit, multiprocessing, os, sys, threading, time
import torch
from ppl_hmm import log_likelihood, posterior, random_hmm, sample, sample_posterior, viterbi

torch.set_num_threads(1)  # torch's own threads do not survive a fork
torch.get_num_threads = lambda: 2
model = random_hmm("dirichlet", 20, 10, 0)
text = sample(model, 2000, 60, 0).tokens  # enough for two threads

def compute():
    leaf = model.initial.clone().requires_grad_()
    evidence = log_likelihood(type(model)(leaf, model.transition, model.emission), text)
    (gradient,) = torch.autograd.grad(evidence.sum(), leaf)
    draws = sample_posterior(model, text, 1, seed=0).states
    return evidence.detach(), gradient, posterior(model, text).initial, viterbi(model, text).states, draws

expected = compute()

def check(name):
    try:
        right = all(torch.allclose(*pair, rtol=1e-12, atol=0) for pair in zip(compute(), expected, strict=True))
    except BaseException as error:
        right = repr(error)
    print(name, right, flush=True)
"""

ENDS = """
def after_the_main_one():
    threading.main_thread().join()
    check("thread")

atexit.register(check, "atexit")
threading.Thread(target=after_the_main_one).start()
"""

FORKS = """
def fork(name):
    child = os.fork()
    if child == 0:
        check(name)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

fork("fork")
late = threading.Thread(target=fork, args=["fork of a thread"])
late.start()
late.join()
with multiprocessing.get_context("fork").Pool(1) as pool:
    pool.map(check, ["pool"])
check("parent")
"""


def run(code, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env=os.environ | {"PPL_HMM_BACKEND": "numba", "OMP_NUM_THREADS": "2", **environment},
    )


@pytest.mark.parametrize(
    ("events", "names"),
    [
        (ENDS, ["thread", "atexit"]),
        pytest.param(
            FORKS,
            ["fork", "fork of a thread", "pool", "parent"],
            marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here"),
        ),
    ],
)
def test_processes_that_end_or_fork_compute_as_others(events, names):
    process = run(COMPUTE + events)
    assert process.stdout.splitlines() == [f"{name} True" for name in names], process.stderr
    assert process.stderr == ""


# Sharing parts among threads.

RANGES = list(itertools.pairwise(range(0, 41, 2)))


def covered(first, last):
    return list(range(first, last))


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_each_part_is_computed_once_and_in_its_place(n_threads):
    assert threads.share(covered, RANGES, n_threads) == [covered(*each) for each in RANGES]


@pytest.mark.parametrize("n_more", [0, 2])
def test_where_no_more_threads_start_the_others_compute(n_more, monkeypatch):
    """As at a limit of the system's: the first threads start, later ones do not."""
    start, left = threading.Thread.start, [None] * n_more

    def limited(thread):
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    threads._pool.cache_clear()
    monkeypatch.setattr(threading.Thread, "start", limited)
    for _ in range(20):
        assert threads.share(covered, RANGES, 5) == [covered(*each) for each in RANGES]
    threads._pool.cache_clear()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("here", [True, False])
def test_an_error_ends_the_pass_and_the_next_one_is_whole(error, here):
    """Whether the caller or a helper raises, it reaches the caller, and nobody begins another part."""
    begun, caller, failed = [], threading.get_ident(), threading.Event()

    def part(first, last):
        begun.append(first)
        if (threading.get_ident() == caller) == here:
            failed.set()
            raise error
        failed.wait(10)

    with pytest.raises(error):
        threads.share(part, RANGES, 3)
    assert len(begun) <= 4
    assert threads.share(covered, RANGES, 3) == [covered(*each) for each in RANGES]


# Nothing on disk.

SMALL = """
import torch
from ppl_hmm import posterior, random_hmm

text = torch.arange(12).reshape(3, 4) % 5
print(posterior(random_hmm("dirichlet", 3, 5, seed=0), text).log_evidence.tolist())
"""


@pytest.fixture
def evidence():
    text = torch.arange(12).reshape(3, 4) % 5
    model = ppl_hmm.random_hmm("dirichlet", 3, 5, seed=0)
    return pytest.approx(ppl_hmm.posterior(model, text).log_evidence.tolist(), rel=1e-12)


def test_where_no_directory_can_be_written_each_process_compiles(evidence, tmp_path):
    """In a copy of the package where, as in the home directory, files stand in the way of directories."""
    copy = tmp_path / "site" / "ppl_hmm"
    shutil.copytree(Path(ppl_hmm.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "exact" / "backends" / "compiled" / "__pycache__").write_text("")
    (tmp_path / "file").write_text("")
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"), str(tmp_path / "file" / "below"))
    process = run(SMALL, tmp_path, PYTHONPATH=str(copy.parent), PYTHONDONTWRITEBYTECODE="1", **nowhere)
    assert eval(process.stdout) == evidence
    assert re.fullmatch("compiled loops could not be kept on disk .* set NUMBA_CACHE_DIR to .*\n", process.stderr)


@pytest.fixture
def twice(tmp_path, monkeypatch, caplog):
    """Compile and call a function as if in a new process, its code kept in a directory with odd letters."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "ein Ort, ∅"))
    (tmp_path / "source.py").write_text("def twice(x):\n    return 2 * x\n")

    def call():
        caplog.clear()
        disk._warn_once.cache_clear()
        dispatcher = numba.njit(runpy.run_path(str(tmp_path / "source.py"))["twice"])
        disk.keep(dispatcher)
        assert dispatcher(21) == 42
        return sum(dispatcher.stats.cache_hits.values()), [record.levelname for record in caplog.records]

    return call


def kept(tmp_path, kind):
    (file,) = (tmp_path / "ein Ort, ∅").rglob(f"*.{kind}")
    return file


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_damaged_files_are_compiled_and_written_again(kind, share, twice, tmp_path):
    assert twice() == (0, [])
    assert twice() == (1, [])
    whole = kept(tmp_path, kind).read_bytes()
    kept(tmp_path, kind).write_bytes(whole[: int(share * len(whole))])
    assert twice() == (0, ["WARNING"])
    assert twice() == (1, [])


@pytest.mark.parametrize("error", [PermissionError("denied"), OSError(errno.ENOSPC, "full"), EOFError()])
def test_a_disk_that_cannot_be_written_later_on(error, twice, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise error

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_index", refuse)
    assert twice() == (0, ["WARNING"])


def asked(name):
    """What is chosen for a small model, or the message of the error; as if in a new process."""
    backends.has_numba.cache_clear()
    try:
        return type(backends.choose(torch.empty(1, 2, 2), name)).__name__
    except InvalidInput as error:
        return str(error)
    finally:
        backends.has_numba.cache_clear()


@pytest.mark.parametrize("fault", ["switched off", "broken"])
def test_where_numba_does_not_compile_torch_computes(fault, monkeypatch, caplog):
    """By the rule with a line in the log; asked for by name, numba is refused in one line."""
    reason = "NUMBA_DISABLE_JIT; unset it"
    if fault == "switched off":
        monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    else:

        def fail():
            raise ImportError("Numba needs NumPy 2.3\nor less")

        monkeypatch.setattr(backends, "_compiled", fail)
        reason = "ImportError (Numba needs NumPy 2.3 or less); install another version of numba"
    assert asked("auto") == "Recursive"
    assert caplog.messages == [f"torch computes in place of numba: {reason}"]
    assert asked("numba") == f"backend: expected numba to compile, got {reason}"


def test_without_compiling(evidence):
    process = run(SMALL, PPL_HMM_BACKEND="", NUMBA_DISABLE_JIT="1")
    assert eval(process.stdout) == evidence
    assert process.stderr == "torch computes in place of numba: NUMBA_DISABLE_JIT; unset it\n"


def test_the_rule_does_not_ask_for_numba_in_vain(monkeypatch):
    """More states than numba takes: nothing is imported to find out."""
    monkeypatch.setattr(backends, "has_numba", None)
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    assert backends.choose(torch.empty(1, 2000, 2000)) is backends.choose(torch.empty(1, 1, 1), "torch")
    with pytest.raises(TypeError):
        backends.choose(torch.empty(1, 2, 2))


def test_vectors_are_as_wide_as_the_registers_that_numba_compiles_for():
    registers = pytest.importorskip("ppl_hmm.exact.backends.compiled.registers")
    assert registers.width("+sse4.2,+avx2,-avx512f") == registers.width("") == 32
    assert registers.width("+avx2,+avx512f,+avx512bw") == 64
