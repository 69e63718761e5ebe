"""Fits of several sizes that go on: each finished size is a store of its own.

STORE/fit.json        the configuration, written first: text and settings, but not which sizes
STORE/states-K.zarr   the fit with K states, written aside and renamed, its files known by their hashes
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.base import atomic, configured, hashed
from ppl_hmm.models import HMM

_CONFIGURATION = "fit.json"


@dataclasses.dataclass(frozen=True)
class Size:
    """What was fitted with one number of states."""

    model: HMM
    log_likelihood: np.ndarray  # (restart,), or mean of each chain, of the training text
    converged: np.ndarray
    n_reached_best: int
    draws: xr.DataTree | None = None  # of its posterior, whose store is their own

    def to_dataset(self) -> xr.Dataset:
        """Return the model with where its restarts came to."""
        return self.model.to_dataset().assign(
            log_likelihood=(schema.RESTART, self.log_likelihood),
            converged=(schema.RESTART, self.converged),
            n_reached_best=self.n_reached_best,
        )

    @classmethod
    def from_dataset(cls, data: xr.Dataset) -> Size:
        """Return what :meth:`to_dataset` wrote."""
        model = HMM.from_dataset(data[list(HMM.dimensions)])
        return cls(
            model, data["log_likelihood"].values, data["converged"].values.astype(bool), data["n_reached_best"].item()
        )


class SizeStore:
    """The directory of the finished sizes of one corpus under ``settings``.

    Raises
    ------
    ForeignFile
        ``path`` cannot be written, or holds something else, or fits of other text or settings; nothing is changed.
    """

    def __init__(self, path: str | Path, texts: Iterable[str], settings: Mapping[str, Any]) -> None:
        digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
        self.path = configured.hold(path, _CONFIGURATION, "fit", {**settings, "text": digest[:16]})

    def finished(self, sizes: Iterable[int]) -> dict[int, Size]:
        """Return the fits of those sizes that are there and whole; damaged ones are removed."""
        found = {}
        for n_states in sizes:
            place = self._place(n_states)
            tree = hashed.read(place) if place.exists() else None
            if tree is None:
                atomic.remove(place)
            else:
                found[n_states] = Size.from_dataset(tree.to_dataset())
        return found

    def write(self, n_states: int, size: Size) -> None:
        """Keep the fit of a size, whole or not at all."""
        hashed.write(size.to_dataset(), self._place(n_states))

    def _place(self, n_states: int) -> Path:
        return self.path.resolve() / f"states-{n_states}.zarr"
