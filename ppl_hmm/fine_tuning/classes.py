"""Classes of labelled examples, of any names."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.errors import InvalidInput


def class_labels(labels: ArrayLike | Tensor, n: int | None = None) -> np.ndarray:
    """Return the labels (N,) of ``n`` examples, or of any number.

    Raises
    ------
    InvalidInput
        Labels of another shape, or a missing one.
    """
    expected = "shape (N,)" if n is None else f"shape ({n},)"
    try:
        found = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    except ValueError:
        raise InvalidInput("labels", expected, "lists of different lengths", "label each example") from None
    if found.ndim != 1 or (n is not None and len(found) != n):
        raise InvalidInput("labels", expected, f"shape {found.shape}", "label each example")
    missing = np.flatnonzero(pd.isna(found))
    if len(missing):
        raise InvalidInput(f"labels[{missing[0]}]", "a class", repr(found[missing[0]]), "leave the example out")
    return found
