"""What figures and tables show, as labelled data."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.experiments.look.summary import mean_and_interval


def curves(tree: xr.DataTree) -> xr.Dataset:
    """Return what the figure and the table of an experiment show.

    Returns
    -------
    xarray.Dataset
        ``mean``, ``low``, ``high`` (approach, n_states): accuracy over seeds with its 95 % interval, in [0, 1];
        ``separable``, ``condition`` (approach, n_states): shares of models whose training text the LP separates, and
        that meet the theorem's condition, NaN where not asked; ``undecidable`` (n_states): mean share of test texts;
        ``total_variation``, ``excess``, ``excess_at_read_position`` of trained language models, means over seeds;
        ``published``, ``published_half_width``: the paper's, NaN where it has none. Attributes are the settings.
    """
    results, published = tree[schema.RESULTS].to_dataset(), tree[schema.PUBLISHED].to_dataset()
    found = mean_and_interval(results[schema.ACCURACY])
    found["separable"] = share_of_yes(results[schema.SEPARABLE])
    found["condition"] = share_of_yes(results[schema.CONDITION])
    found["undecidable"] = results[schema.UNDECIDABLE].mean(schema.SEED)
    for name in (schema.TOTAL_VARIATION, schema.EXCESS, schema.EXCESS_AT_READ_POSITION):
        if name in results:
            found[name] = results[name].mean(schema.SEED)
    same_points = {schema.APPROACH: results[schema.APPROACH], schema.N_STATES: results[schema.N_STATES]}
    found["published"] = published["accuracy"].reindex(same_points)
    found["published_half_width"] = published["half_width"].reindex(same_points)
    return found.assign_attrs(tree[schema.SETTINGS].attrs)


def share_of_yes(answers: xr.DataArray) -> xr.DataArray:
    """Return the share of yes among the seeds asked, NaN where none was."""
    asked = answers != schema.NOT_ASKED
    n_asked = asked.sum(schema.SEED)
    return (answers == schema.YES).sum(schema.SEED) / n_asked.where(n_asked > 0, np.nan)
