"""Texts from files that anybody writes: plain lines, arrays, netCDF; what is wrong is named with its line."""

import numpy as np
import pytest
import xarray as xr

from ppl_hmm import ForeignFile, InvalidInput, cli, random_hmm, save
from ppl_hmm.base.tokens import as_text
from ppl_hmm.inference.sampling import as_tree, sample
from ppl_hmm.storage.texts import load_texts

MODEL = random_hmm("dirichlet", 3, 4, 0)
TEXTS = [[0, 3, 1], [2, -1, 0]]


def as_lines(path):
    path.write_text("0 3 1\n2\t-1  0\n")


def as_array(path):
    np.save(path, np.array(TEXTS, dtype=np.int16))


def in_a_group(path):
    tokens = xr.Dataset({"tokens": (("position", "sequence"), np.transpose(TEXTS))})
    xr.DataTree.from_dict({"/observed_data": tokens}).to_netcdf(path)


def at_the_root(path):
    xr.Dataset({"tokens": (("sequence", "position"), TEXTS)}).to_netcdf(path)


FILES = {
    "lines": ("a.txt", as_lines),
    "any-name": ("corpus", as_lines),
    "windows": ("a.txt", lambda path: path.write_bytes(b"0 3 1\r\n2 -1 0")),
    "array": ("a.npy", as_array),
    "group": ("a.nc", in_a_group),
    "root": ("b.nc", at_the_root),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_texts_are_those_that_were_written(kind, tmp_path):
    name, write = FILES[kind]
    write(tmp_path / name)
    assert as_text(load_texts(tmp_path / name), 4).tokens.tolist() == TEXTS


def test_lines_of_different_lengths_end_where_they_do(tmp_path):
    (tmp_path / "a.txt").write_text("\n0 1 2 3\n1\n\n2 2\n")
    text = as_text(load_texts(tmp_path / "a.txt"), 4)
    assert text.tokens.tolist() == [[0, 1, 2, 3], [1, -1, -1, -1], [2, 2, -1, -1]]
    assert text.lengths.tolist() == [4, 1, 2]


BAD = {
    "word": ("a.txt", b"0 1\n1 play 2\n", r"line 2 of file .*a.txt: expected integers .*, got '1 play 2'"),
    "fraction": ("a.txt", b"0 1.5\n", "line 1 of file"),
    "huge": ("a.txt", b"0 99999999999999999999\n", "line 1 of file"),
    "binary": ("a.txt", bytes(range(256)), "line 1 of file"),
    "empty": ("a.txt", b"\n \n", "expected at least one text, got none"),
    "no-array": ("a.npy", b"mine", "expected an array that numpy.save wrote"),
    "no-netcdf": ("a.nc", b"mine", "expected a netCDF file"),
    "objects": ("a.npy", None, "expected an array that numpy.save wrote"),
    "absent": ("none.txt", None, "expected a file of texts, got No such file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_named(kind, tmp_path):
    name, content, message = BAD[kind]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    if kind == "objects":
        np.save(tmp_path / name, np.array([[0], "mine"], dtype=object))
    with pytest.raises(ForeignFile, match=message) as caught:
        load_texts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_netcdf_without_tokens(tmp_path):
    save(MODEL, tmp_path / "model.nc")
    expected = r"expected a variable 'tokens', got .*emission.*; put it into /observed_data"
    with pytest.raises(ForeignFile, match=expected):
        load_texts(tmp_path / "model.nc")
    with pytest.raises(InvalidInput, match="path"):
        load_texts(3)


# ppl-hmm audit MODEL --text FILE


def call(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(["audit", *map(str, arguments)])
    return caught.value.code


def test_the_command_audits_the_texts_of_a_file(tmp_path, capsys):
    save(MODEL, tmp_path / "model.nc")
    as_tree(MODEL, sample(MODEL, 7, 6, 0), 0).to_netcdf(tmp_path / "sample.nc")
    assert call(tmp_path / "model.nc", "--text", tmp_path / "sample.nc", "--prompt-tokens", 0) == 0
    assert "\ntexts: 7 given texts\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"), [("0 play\n", "line 1 of file"), ("0 7\n", "token out of range at sequence 0, position 1")]
)
def test_a_bad_file_is_one_line(content, message, tmp_path, capsys):
    save(MODEL, tmp_path / "model.nc")
    (tmp_path / "text.txt").write_text(content)
    assert call(tmp_path / "model.nc", "--text", tmp_path / "text.txt") == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert message in captured.err
