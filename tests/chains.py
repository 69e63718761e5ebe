"""Random arrays of chains: the arguments of the passes."""

import numpy as np
import oracle
import torch

TINY = 1e-200  # the square of it underflows


def arrays(seed, n_models=2, n_sequences=3, length=9, n_states=4, n_rows=5, zeros=0.0, dtype=torch.float64):
    """Return random parameters of some models, and texts."""
    rng = np.random.default_rng(seed)
    shapes = [(n_models, n_states), (n_models, n_states, n_states), (n_models, n_rows, n_states)]
    parameters = [torch.tensor(oracle.random_rows(rng, *shape, zeros=zeros), dtype=dtype) for shape in shapes]
    return *parameters, torch.tensor(rng.integers(n_rows, size=(n_models, n_sequences, length)))
