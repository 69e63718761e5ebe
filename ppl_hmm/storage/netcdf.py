"""Datasets and trees as netCDF files that are whole, or said to be damaged.

A file ends with a line ``ppl_hmm sha256 …``, the hash of all bytes before it. HDF5 ignores that line, and drops it when
it changes the file. A file without the line is read as it is, and damage to it is found as far as HDF5 finds it.
"""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

import h5py
import xarray as xr

from ppl_hmm.base.atomic import as_path, write_bytes
from ppl_hmm.errors import ForeignFile

_SEAL = b"\nppl_hmm sha256 %b\n"
_SEALED = re.compile(rb"\nppl_hmm sha256 ([0-9a-f]{64})\n\Z")
_SEAL_LENGTH = len(_SEAL % (64 * b"0"))
_DAMAGED = "restore it from a copy, or make it again"
_OF_ANOTHER_FORMAT = "check the path, or write a model by save(HMM(initial, transition, emission), 'model.nc')"


def write(data: xr.Dataset | xr.DataTree, path: str | Path) -> None:
    """Write a dataset or tree to a netCDF file, whole or not at all.

    It is laid out in memory first: HDF5 on a full disk may end the process.

    Raises
    ------
    ForeignFile
        As :func:`ppl_hmm.base.atomic.write_bytes`.
    """
    content = data.to_netcdf(engine="h5netcdf")
    write_bytes(b"".join((content, _SEAL % hashlib.sha256(content).hexdigest().encode())), path)


def read(path: str | Path) -> xr.DataTree:
    """Return the contents of a netCDF file, in memory; the classic format has no groups.

    Raises
    ------
    InvalidInput
        The path is none.
    ForeignFile
        There is no such file, it is of another format, or it is damaged.
    """
    try:
        content = as_path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ForeignFile(f"file {path}", "a netCDF file", reason, "check the path") from None
    seal = _SEALED.search(content, max(0, len(content) - _SEAL_LENGTH))
    if seal is not None:
        content = content[: seal.start()]
        if hashlib.sha256(content).hexdigest().encode() != seal[1]:
            raise ForeignFile(f"file {path}", "the bytes that were written", "other bytes: it is damaged", _DAMAGED)
    try:
        return _parsed(content)
    except Exception as error:  # what HDF5, h5netcdf, scipy and xarray raise on damaged bytes is no family
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ForeignFile(f"file {path}", "a netCDF file", reason, _OF_ANOTHER_FORMAT) from None


def _parsed(content: bytes) -> xr.DataTree:
    if content.startswith(b"CDF"):
        with xr.open_dataset(io.BytesIO(content), engine="scipy") as file:
            return xr.DataTree(file.load())
    with h5py.File(io.BytesIO(content)):  # a file of h5netcdf that does not open complains once more when it is deleted
        pass
    with xr.open_datatree(io.BytesIO(content), engine="h5netcdf") as file:
        return file.load()
