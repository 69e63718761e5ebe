"""Texts of integer tokens from files that anybody writes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.base.atomic import as_path
from ppl_hmm.errors import ForeignFile
from ppl_hmm.storage import netcdf

_TOKENS = "tokens"
_CHECK = "check the path"


def load_texts(path: str | Path) -> list[list[int]] | np.ndarray | xr.DataArray:
    """Return the texts of a file, for functions that take tokens (B,T).

    ``.npy``: an array (B,T). ``.nc``: the tokens of ``/observed_data``, as ``ppl-hmm sample`` and audits write them, or
    of the root. Any other file is plain text: a line a text, integers with spaces between them, −1 for an unobserved
    token; lines may differ in length, and blank ones are skipped.

    Raises
    ------
    ForeignFile
        The file cannot be read, or is not of its kind (which line).
    """
    path = as_path(path)
    if path.suffix == ".nc":
        return _of_netcdf(path)
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ForeignFile(f"file {path}", "a file of texts", reason, _CHECK) from None
    return _of_array(path, content) if path.suffix == ".npy" else _of_lines(path, content)


def _of_netcdf(path: Path) -> xr.DataArray:
    tree = netcdf.read(path)
    group = tree[schema.OBSERVED_DATA] if schema.OBSERVED_DATA in tree.children else tree
    dataset = group.to_dataset()
    if _TOKENS not in dataset:
        found = ", ".join(map(str, dataset.variables)) or "none"
        raise ForeignFile(f"file {path}", f"a variable {_TOKENS!r}", found, f"put it into /{schema.OBSERVED_DATA}")
    return dataset[_TOKENS]


def _of_array(path: Path, content: bytes) -> np.ndarray:
    try:
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except (ValueError, MemoryError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ForeignFile(f"file {path}", "an array that numpy.save wrote", reason, _CHECK) from None


def _of_lines(path: Path, content: bytes) -> list[list[int]]:
    texts = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            tokens = [int(np.int64(word)) for word in line.split()]
        except (ValueError, OverflowError):
            got = repr(line[:40].decode(errors="replace"))
            raise ForeignFile(
                f"line {number} of file {path}", "integers with spaces between them", got, "write a text a line"
            ) from None
        if tokens:
            texts.append(tokens)
    if not texts:
        raise ForeignFile(f"file {path}", "at least one text", "none", "write a text a line")
    return texts
