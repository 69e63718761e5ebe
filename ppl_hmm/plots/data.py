"""What each figure draws, as labelled data."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.plots.summary import mean_and_interval


def head_vs_prompt(tree: xr.DataTree) -> xr.Dataset:
    """Return the curves of the head-vs-prompt figure.

    Returns
    -------
    xarray.Dataset
        ``mean``, ``low``, ``high`` (method, n_states): accuracy over seeds with its 95 % interval, in [0, 1];
        ``separable``, ``condition`` (method, n_states): shares of models whose training text the LP separates, and that
        meet the theorem's condition, NaN where not asked;
        ``published``, ``published_half_width``: the paper's, NaN where it has none; attribute ``vocabulary_size``.
    """
    results, published = tree[schema.RESULTS].to_dataset(), tree[schema.PUBLISHED].to_dataset()
    curves = mean_and_interval(results[schema.ACCURACY])
    curves["separable"] = share_of_yes(results[schema.SEPARABLE])
    curves["condition"] = share_of_yes(results[schema.CONDITION])
    same_points = {schema.METHOD: results[schema.METHOD], schema.N_STATES: results[schema.N_STATES]}
    curves["published"] = published["accuracy"].reindex(same_points)
    curves["published_half_width"] = published["half_width"].reindex(same_points)
    curves.attrs["vocabulary_size"] = tree[schema.SETTINGS].attrs["vocabulary_size"]
    curves.attrs["n_seeds"] = tree[schema.SETTINGS].attrs["n_seeds"]
    curves.attrs["support_threshold"] = tree[schema.SETTINGS].attrs["support_threshold"]
    return curves


def share_of_yes(answers: xr.DataArray) -> xr.DataArray:
    """Return the share of yes among the seeds asked, NaN where none was."""
    asked = answers != schema.NOT_ASKED
    n_asked = asked.sum(schema.SEED)
    return (answers == schema.YES).sum(schema.SEED) / n_asked.where(n_asked > 0, np.nan)
