"""Damaged files are said to be damaged: no wrong number, no error of another library."""

import hashlib
import random
import shutil

import h5py
import numpy as np
import pytest
import xarray as xr

from ppl_hmm import LinearHead, MemoryTask, SoftPrompt, load, random_hmm, save
from ppl_hmm.errors import ForeignFile, PplHmmError

MODEL = random_hmm("wei2021", 4, 5, 0)
OBJECTS = {
    "model": MODEL,
    "task": MemoryTask([[0.0, 1.0], [1.0, 0.0]], 1),
    "prompt": SoftPrompt([[0.5, 1.0, 0.0]]),
    "head": LinearHead.from_weights([0.25, -1.0, 3.0]),
}


def same(one, other):
    return type(one) is type(other) and one.to_dataset().identical(other.to_dataset())


def damaged(content, n, seed):
    """Copies of a file with a flipped bit, some overwritten bytes, or an end that is missing."""
    draw = random.Random(seed)
    for _ in range(n):
        copy, where = bytearray(content), draw.randrange(len(content))
        kind = draw.choice(("bit", "bytes", "cut"))
        if kind == "bit":
            copy[where] ^= 1 << draw.randrange(8)
        elif kind == "bytes":
            copy[where : where + 8] = draw.randbytes(len(copy[where : where + 8]))
        else:
            del copy[where:]
        yield bytes(copy), f"{kind} at {where} of {len(content)}"


@pytest.mark.parametrize("name", OBJECTS)
def test_a_damaged_file_is_foreign_or_right(name, tmp_path):
    save(OBJECTS[name], tmp_path / "whole.nc")
    path, n_refused = tmp_path / "damaged.nc", 0
    for content, how in damaged((tmp_path / "whole.nc").read_bytes(), 150, name):
        path.write_bytes(content)
        try:
            assert same(load(path), OBJECTS[name]), how  # e.g. only the line of the hash is damaged
        except ForeignFile:
            n_refused += 1
    assert n_refused > 100


def test_every_bit_of_a_number_counts(tmp_path):
    """A flip in the data is no fault of the format: only the hash sees it."""
    save(MODEL, tmp_path / "model.nc")
    content = bytearray((tmp_path / "model.nc").read_bytes())
    where = content.find(MODEL.transition.numpy().tobytes())
    content[where] ^= 1  # the last bit of the first probability
    (tmp_path / "model.nc").write_bytes(content)
    with pytest.raises(ForeignFile, match="expected the bytes that were written, got other bytes: it is damaged"):
        load(tmp_path / "model.nc")


@pytest.mark.parametrize("kind", ["NETCDF3_CLASSIC", "NETCDF3_64BIT"])
def test_damaged_classic_files(kind, tmp_path):
    """They have no hash: numbers may change, but every error is ours."""
    MODEL.to_dataset().to_netcdf(tmp_path / "whole.nc", engine="scipy", format=kind)
    assert same(load(tmp_path / "whole.nc"), MODEL)
    for content, how in damaged((tmp_path / "whole.nc").read_bytes(), 300, kind):
        (tmp_path / "damaged.nc").write_bytes(content)
        try:
            load(tmp_path / "damaged.nc")
        except PplHmmError:
            pass
        except Exception as error:
            raise AssertionError(how) from error


def test_hdf5_files_without_a_hash_that_are_cut_off(tmp_path):
    """Other libraries' files: damage inside is found as far as HDF5 finds it, a missing end always."""
    MODEL.to_dataset().to_netcdf(tmp_path / "whole.nc", engine="h5netcdf")
    assert same(load(tmp_path / "whole.nc"), MODEL)
    content = (tmp_path / "whole.nc").read_bytes()
    for length in range(0, len(content), 97):
        (tmp_path / "damaged.nc").write_bytes(content[:length])
        with pytest.raises(ForeignFile, match="expected a netCDF file, got "):
            load(tmp_path / "damaged.nc")


@pytest.mark.parametrize("error", [KeyError("_Netcdf4Dimid"), RuntimeError("no"), MemoryError(), IndexError(0)])
def test_whatever_a_reader_raises_is_a_foreign_file(error, tmp_path, monkeypatch):
    save(MODEL, tmp_path / "model.nc")

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(xr, "open_datatree", fail)
    with pytest.raises(ForeignFile, match=r"model.nc: expected a netCDF file, got .+; check the path"):
        load(tmp_path / "model.nc")


STARTS = [b"", b"CDF\x01", b"CDF\x02", b"\x89HDF\r\n\x1a\n\x09", b"PK\x03\x04", b"ppl_hmm sha256 "]


@pytest.mark.parametrize("start", STARTS)
def test_random_bytes(start, tmp_path):
    for seed in range(20):
        (tmp_path / "noise.nc").write_bytes(start + random.Random(seed).randbytes(7 * seed**2))
        with pytest.raises(ForeignFile, match="expected a netCDF file, got "):
            load(tmp_path / "noise.nc")


def test_the_hash_is_of_the_bytes_before_it(tmp_path):
    save(MODEL, tmp_path / "model.nc")
    content, _, digest = (tmp_path / "model.nc").read_bytes().rpartition(b"\nppl_hmm sha256 ")
    assert hashlib.sha256(content).hexdigest() == digest.decode().strip()


def test_who_changes_a_file_drops_its_hash(tmp_path):
    """By xarray, by h5py in place: the changed file is read as it is."""
    save(MODEL, tmp_path / "model.nc")
    initial = np.array([0.5, 0.25, 0.25, 0.0])
    changed = xr.load_dataset(tmp_path / "model.nc", engine="h5netcdf").assign(initial=("state", initial))
    changed.to_netcdf(tmp_path / "by_xarray.nc", engine="h5netcdf")
    assert load(tmp_path / "by_xarray.nc").initial.tolist() == initial.tolist()
    shutil.copy(tmp_path / "model.nc", tmp_path / "by_h5py.nc")
    with h5py.File(tmp_path / "by_h5py.nc", "r+") as file:
        file["initial"][:] = initial
    assert load(tmp_path / "by_h5py.nc").initial.tolist() == initial.tolist()
