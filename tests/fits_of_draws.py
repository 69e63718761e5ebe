"""Trees of fits that were not sampled: their draws are models of one's choice."""

import numpy as np
import torch
import xarray as xr

from ppl_hmm import HMM

BY_DRAW = ("chain", "draw")


def dirichlet(n_draws, n_states=3, n_tokens=4, seed=0):
    """A batch of models from the flat prior."""
    stream = torch.Generator().manual_seed(seed)

    def laws(*shape):
        weights = torch.rand(shape, generator=stream, dtype=torch.float64).log().neg()
        return weights / weights.sum(-1, keepdim=True)

    return HMM(laws(n_draws, n_states), laws(n_draws, n_states, n_states), laws(n_draws, n_states, n_tokens))


def fit_of(models, prior=None, chains=2):
    """A fit whose draws are these models, of a text that tells nothing."""
    text = {"token": (("sequence", "position"), np.zeros((3, 6), int))}
    groups = {"/posterior": drawn(models, chains), "/observed_data": xr.Dataset(text)}
    return xr.DataTree.from_dict(groups | ({} if prior is None else {"/prior": drawn(prior, 1)}))


def drawn(models, chains):
    laws = {name: getattr(models, name).unflatten(0, (chains, -1)).numpy() for name in HMM.dimensions}
    variables = {name: ((*BY_DRAW, *HMM.dimensions[name]), law) for name, law in laws.items()}
    variables["sigma_min"] = (BY_DRAW, np.linalg.svd(laws["emission"], compute_uv=False)[..., -1])
    variables["transition_trace_squared"] = (BY_DRAW, (laws["transition"] ** 2).sum((-1, -2)))
    return xr.Dataset(variables)
