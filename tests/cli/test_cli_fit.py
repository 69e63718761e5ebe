"""``ppl-hmm fit``: from a text file to models, figures and a table; what is wrong is one line, exit status 2."""

import numpy as np
import pytest
import xarray as xr

import ppl_hmm
from ppl_hmm import cli
from ppl_hmm.estimation.bayes import runs

SENTENCES = ("the cat sat on the mat. ", "a dog ran to the cat. ", "the mat is red, and so is the dog. ")
TEXT = "".join(SENTENCES[number**2 % 3] + SENTENCES[number % 2] for number in range(120))


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Call ``ppl-hmm`` in an empty folder: (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def main(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(list(map(str, arguments)))
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return main


def test_models_figures_and_a_table(call, tmp_path):
    (tmp_path / "corpus.txt").write_text(TEXT)
    options = ("--states", "3", "--restarts", 1, "--unit", "word", "--vocabulary", 12)
    status, output, errors = call("fit", "corpus.txt", *options)
    assert status == 0
    for part in ("Held-out perplexity per word", "3 states", "unigram", "trigram", "1 of 1", "model-3.nc"):
        assert part in output
    assert "1/1 models" in errors
    found = {path.name for path in (tmp_path / "fit").iterdir()}
    kinds = ("perplexity", "checks", "emissions-3", "transition-3")
    assert found == {"fit.nc", "model-3.nc", *(f"{kind}.{end}" for kind in kinds for end in ("png", "svg"))}
    assert "<!-- the -->" in (tmp_path / "fit" / "emissions-3.svg").read_text()
    model = ppl_hmm.load(tmp_path / "fit" / "model-3.nc")
    assert model.names["token"][0] == "the"
    assert ppl_hmm.load(tmp_path / "fit" / "fit.nc").identical(model)
    assert call("sample", "fit/model-3.nc", "--sequences", 2, "--length", 5)[0] == 0
    status, output, errors = call("fit", "corpus.txt", *options)
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert "--out fit: expected a new directory, got one that exists" in errors


def test_draws_of_the_posterior_go_on_where_they_were_interrupted(call, tmp_path, monkeypatch):
    monkeypatch.setattr("ppl_hmm.experiments.fits.command.figures", lambda _: ())  # drawing takes longer than the rest
    (tmp_path / "corpus.txt").write_text(TEXT)
    options = ("--states", "1,2", "--unit", "word", "--method", "gibbs", "--chains", 2, "--draws", 30)

    class Interrupted(runs.Store):
        def write(self, number, state, block):
            if self.path.name == "draws-2" and number == 2:
                raise KeyboardInterrupt
            super().write(number, state, block)

    with monkeypatch.context() as patched:
        patched.setattr("ppl_hmm.estimation.bayes.fit.Store", Interrupted)
        assert call("fit", "corpus.txt", *options)[0] == cli.INTERRUPTED
    assert not (tmp_path / "fit").exists()
    assert len(list((tmp_path / "fit.unfinished" / "draws-2" / "blocks").iterdir())) == 2
    status, output, errors = call("fit", "corpus.txt", *options)
    assert status == 0
    assert "2 of 2" in output
    assert "120/120 draws" in errors
    assert {"draws-1.nc", "draws-2.nc", "fit.nc", "model-2.nc"} <= {path.name for path in (tmp_path / "fit").iterdir()}
    assert not (tmp_path / "fit.unfinished").exists()
    draws = xr.open_datatree(tmp_path / "fit" / "draws-2.nc", engine="h5netcdf")
    assert draws["posterior/emission"].shape[:3] == (2, 30, 2)
    assert draws["model"].attrs["drawn_by"] == "highest posterior density"
    model = ppl_hmm.load(tmp_path / "fit" / "model-2.nc")
    assert np.array_equal(model.emission, draws["model/emission"])


BAD = {
    "missing": (None, (), "expected a text file, got No such file or directory"),
    "empty": (b"", (), "expected text, got an empty file"),
    "one-token": (b"aaaa", (), "expected at least two different chars, got only 'a'"),
    "binary": (b"\0\1\2", (), "got a binary one"),
    "encoding": (b"a \xff b", (), "expected text in utf-8, got byte 0xff at 2"),
    "little": (b"so little", (), "text to hold some out of: expected more blocks of it, got 1 blocks"),
    "unit": (b"text", ("--unit", "letter"), "unknown unit: expected one of char, word, got 'letter'"),
    "method": (b"text", ("--method", "magic"), "unknown method: expected one of em, gibbs, hmc, nuts, svi, got"),
    "states": (b"text", ("--states", "two"), "--states: expected whole numbers separated by commas"),
    "share": (b"text" * 500, ("--held-out", "2"), "share of text to hold out: expected a number between 0 and 1"),
    "size": (b"text" * 500, ("--vocabulary", "1"), "max_size: expected an integer of at least 2, got 1"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_line(kind, call, tmp_path):
    content, options, message = BAD[kind]
    if content is not None:
        (tmp_path / "corpus.txt").write_bytes(content)
    status, output, errors = call("fit", "corpus.txt", *options)
    assert (status, output) == (2, "")
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "fit").exists()
