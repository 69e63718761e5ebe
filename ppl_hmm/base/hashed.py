"""Zarr stores that know their files by hash: Zarr takes a missing file for zeros and a changed one for numbers.

Zarr format 2: its round trip is silent and identical.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr
import zarr  # noqa: F401 (xarray imports it to write; a broken one must show before hours of computing)

from ppl_hmm.base.atomic import written_aside
from ppl_hmm.errors import ForeignFile

_FILES = ".files.json"  # relative path: sha256; the first release wrote a list of paths alone


def write(data: xr.Dataset | xr.DataTree, path: Path, encoding: dict[str, Any] | None = None) -> None:
    """Write a store whole or not at all; one that is there already is left, as another run wrote the same numbers.

    Raises
    ------
    ForeignFile
        The place cannot be written.
    """
    try:
        with written_aside(path, "store", "make room, then run the same command again") as aside, _quietly():
            data.to_zarr(aside, zarr_format=2, encoding=encoding)
            names = sorted(str(file.relative_to(aside)) for file in aside.rglob("*") if file.is_file())
            (aside / _FILES).write_text(json.dumps({name: _hash(aside / name) for name in names}))
    except ForeignFile:
        if not path.is_dir():
            raise


def read(path: Path) -> xr.DataTree | None:
    """Return what a store holds, in memory; None where it is damaged, or removed in the meantime."""
    if damaged_files(path):  # before anything is unpacked: damaged bytes may crash what unpacks them
        return None
    try:
        with _quietly(), xr.open_datatree(path, engine="zarr") as store:
            tree = store.load()
    except Exception:  # whatever a file that has just been removed leads to
        return None
    return None if damaged_files(path) else tree


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave out what Zarr says of parts that another run removes meanwhile: the hashes tell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def damaged_files(path: Path) -> list[str]:
    """Return the files of a store that are missing or were changed, by relative path; empty for a whole store."""
    try:
        recorded = json.loads((path / _FILES).read_text())
        if isinstance(recorded, list):
            return [name for name in recorded if not (path / name).is_file()]
        return [name for name, digest in recorded.items() if _hash(path / name) != digest]
    except (OSError, ValueError, TypeError, AttributeError):
        return [_FILES]


def _hash(file: Path) -> str | None:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None
