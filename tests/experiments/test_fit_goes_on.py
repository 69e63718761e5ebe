"""Fits of several sizes keep those that are finished: the same call, or command, goes on after Ctrl-C or damage."""

import pytest
import xarray as xr
from comparisons import check

from ppl_hmm import cli, fit_corpus
from ppl_hmm.errors import ForeignFile
from ppl_hmm.experiments.fits import corpus

TEXT = "".join(("the cat sat. ", "a dog ran. ", "the dog is red. ")[number**2 % 3] for number in range(150))
OPTIONS = {"restarts": 1, "seed": 0}


@pytest.fixture
def fitted(monkeypatch):
    """Sizes that were fitted, in order; those in ``fitted.stops`` are interrupted."""

    class Fitted(list):
        stops = ()

    def recorded(n_states, *arguments):
        if n_states in sizes.stops:
            raise KeyboardInterrupt
        sizes.append(n_states)
        return original(n_states, *arguments)

    sizes, original = Fitted(), corpus._fit_size
    monkeypatch.setattr(corpus, "_fit_size", recorded)
    return sizes


def test_finished_sizes_are_kept_and_the_fit_is_the_same(fitted, tmp_path):
    whole = fit_corpus(TEXT, n_states=(1, 2, 3), **OPTIONS)
    fitted.clear()
    fitted.stops = (3,)
    with pytest.raises(KeyboardInterrupt):
        fit_corpus(TEXT, n_states=(1, 2, 3), store=tmp_path / "store", **OPTIONS)
    fitted.stops = ()
    done = []
    tree = fit_corpus(
        TEXT, n_states=(1, 2, 3), store=tmp_path / "store", progress=lambda *each: done.append(each), **OPTIONS
    )
    assert fitted == [1, 2, 3]  # each once
    assert done == [(2, 3), (3, 3)]
    xr.testing.assert_identical(tree, whole)
    fit_corpus(TEXT, n_states=(4, 2), store=tmp_path / "store", **OPTIONS)
    assert fitted == [1, 2, 3, 4]  # further sizes of the same text


def test_damaged_sizes_are_fitted_again(fitted, tmp_path):
    fit_corpus(TEXT, n_states=(1, 2), store=tmp_path, **OPTIONS)
    next((tmp_path / "states-2.zarr" / "emission").glob("[0-9]*")).unlink()
    fit_corpus(TEXT, n_states=(1, 2), store=tmp_path, **OPTIONS)
    assert fitted == [1, 2, 2]


def test_stores_of_other_fits_are_refused_untouched(fitted, tmp_path):
    fit_corpus(TEXT, n_states=(1,), store=tmp_path / "store", **OPTIONS)

    def refused(text=TEXT, store=tmp_path / "store", **options):
        return lambda: fit_corpus(text, n_states=(1,), store=store, **{**OPTIONS, **options})

    check(refused(seed=1), "holds another fit", "seed=1", "seed=0", ForeignFile)
    check(refused(restarts=2), "holds another fit", "restarts=2", "restarts=1", ForeignFile)
    check(refused(TEXT + "more "), "holds another fit", "text=", "text=", ForeignFile)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "diary.txt").write_text("mine")
    expected = "a fit of this package, or a new directory"
    check(refused(store=tmp_path / "foreign"), "foreign", expected, "", ForeignFile)
    (tmp_path / "file").write_text("mine")
    check(refused(store=tmp_path / "file"), "file", "a fit of this package", "", ForeignFile)
    assert fitted == [1]
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["diary.txt"]


def test_the_same_command_goes_on_after_ctrl_c(fitted, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ppl_hmm.experiments.fits.command.figures", lambda _: ())  # drawing takes longer than the rest
    (tmp_path / "corpus.txt").write_text(TEXT)

    def command():
        with pytest.raises(SystemExit) as ended:
            cli.main(["fit", "corpus.txt", "--states", "1,2", "--restarts", "1"])
        return ended.value.code, capsys.readouterr().err.splitlines()[-1]

    fitted.stops = (2,)
    message = "ppl-hmm: interrupted; an experiment or a fit goes on where it stopped when the same command is run again"
    assert command() == (130, message)
    assert {path.name for path in tmp_path.iterdir()} == {"corpus.txt", "fit.unfinished"}
    fitted.stops = ()
    status, _ = command()
    assert (status, fitted) == (0, [1, 2])
    assert {path.name for path in tmp_path.iterdir()} == {"corpus.txt", "fit"}
