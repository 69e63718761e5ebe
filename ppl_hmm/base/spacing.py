"""Some of many draws, evenly spaced."""

from __future__ import annotations

import numpy as np


def evenly_spaced(n_draws: int, most: int) -> np.ndarray:
    """Return the numbers of at most ``most`` of n draws, the first and the last among them, one at least."""
    return np.linspace(0, n_draws - 1, max(1, min(most, n_draws))).round().astype(int)
