"""Draws are kept as they come: what is interrupted goes on, bit for bit; what is foreign is refused."""

import signal

import forked
import pytest
import xarray as xr
from comparisons import case, check

from ppl_hmm import fit_bayes
from ppl_hmm.errors import ForeignFile

TEXT = [[0, 1, 2, 1], [2, 1, 0, 0], [0, 1, 2, 1], [1, 1]]
OPTIONS = {"method": "gibbs", "chains": 2, "draws": 60, "tune": 30, "seed": 0}


def fit(**options):
    return fit_bayes(TEXT, 2, **{**OPTIONS, **options})


def assert_same(one, other):
    for node in one.subtree:
        xr.testing.assert_identical(node.to_dataset(inherit=False), other[node.path].to_dataset(inherit=False))


@pytest.fixture(scope="module")
def uninterrupted():
    return fit()


class Interrupted(Exception):
    pass


def interrupt_after(n):
    def report(done, _total):
        if done >= n:
            raise Interrupted

    return report


@pytest.mark.parametrize("n", [0, 55, 90])
def test_an_interrupted_run_goes_on_bit_for_bit(n, uninterrupted, tmp_path):
    with pytest.raises(Interrupted):
        fit(out=tmp_path / "fit", progress=interrupt_after(n))
    reports = []
    assert_same(fit(out=tmp_path / "fit", progress=lambda *each: reports.append(each)), uninterrupted)
    assert reports[0] == (n, 90)
    assert reports[-1] == (90, 90)


def test_a_kill_loses_no_draw_that_was_reported(uninterrupted, tmp_path):
    code = f"""
import os, signal
from ppl_hmm import fit_bayes
def report(done, total):
    if done >= 55:
        os.kill(os.getpid(), signal.SIGKILL)
fit_bayes({TEXT}, 2, out={str(tmp_path / "fit")!r}, progress=report, **{OPTIONS})
"""
    assert forked.run(code).returncode == -signal.SIGKILL
    reports = []
    assert_same(fit(out=tmp_path / "fit", progress=lambda *each: reports.append(each)), uninterrupted)
    assert reports[0] == (55, 90)


def test_damaged_draws_are_drawn_again(uninterrupted, tmp_path):
    fit(out=tmp_path / "fit")
    chunk = next((tmp_path / "fit" / "blocks" / "00003.zarr" / "law_emission").glob("0*"))
    chunk.unlink()
    assert_same(fit(out=tmp_path / "fit"), uninterrupted)


def test_a_store_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    check(lambda: fit(out=tmp_path), "output", "a run of this package", "no readable run.json", ForeignFile)
    check(lambda: fit(out=tmp_path / "notes.txt"), "output", "directory", "", ForeignFile)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


OTHERS = [
    case("seed", lambda out: fit(out=out, seed=1), "another run", "seed=1", "seed=0", ForeignFile),
    case("draws", lambda out: fit(out=out, draws=70), "another run", "draws=70", "draws=60", ForeignFile),
    case("text", lambda out: fit_bayes(TEXT[1:], 2, out=out, **OPTIONS), "another run", "text=", "text=", ForeignFile),
    case("prior", lambda out: fit(out=out, prior=2.0), "another run", "prior=", "prior=", ForeignFile),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "fit"
    with pytest.raises(Interrupted):
        fit(out=out, progress=interrupt_after(0))
    return out


@pytest.mark.parametrize(("call", "what", "expected", "got", "error"), OTHERS)
def test_a_run_of_another_configuration_is_refused(call, what, expected, got, error, store):
    check(lambda: call(store), what, expected, got, error)
