"""Probabilities over draws, with the Monte Carlo error that chains of dependent draws leave."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ppl_hmm import schema


def probability(half_range: xr.DataArray, budgets: np.ndarray) -> xr.Dataset:
    """Return P(half-range ≤ budget) by question and budget, and its Monte Carlo standard error.

    Over the draws (chain, draw) that are not NaN. The error is √(p(1−p)/ESS), ESS being the effective number of draws
    of the event. Where all draws agree, p is taken half a draw off 0 or 1: that nothing else was seen in n draws does
    not make it impossible.
    """
    budget = xr.DataArray(budgets, {schema.BUDGET: budgets}, schema.BUDGET)
    event = (half_range <= budget).where(half_range.notnull())
    by_draw = (schema.CHAIN, schema.DRAW)
    share, n_draws = event.mean(by_draw), event.count(by_draw)
    effective = effective_draws(event.fillna(share)) * n_draws / np.prod([event.sizes[each] for each in by_draw])
    seen = share.clip(0.5 / n_draws, 1 - 0.5 / n_draws)
    return xr.Dataset({schema.PROBABILITY: share, schema.PROBABILITY_ERROR: np.sqrt(seen * (1 - seen) / effective)})


def effective_draws(values: xr.DataArray) -> xr.DataArray:
    """Return the effective number of draws of a mean over (chain, draw), at most their number; that where all agree."""
    from arviz_stats.sampling_diagnostics import ess  # takes a second

    n_all = values.sizes[schema.CHAIN] * values.sizes[schema.DRAW]
    if values.sizes[schema.DRAW] < _FEWEST:
        return xr.full_like(values.isel({schema.CHAIN: 0, schema.DRAW: 0}, drop=True), n_all, float)
    found = ess(values.astype(float).to_dataset(name="value"), method="mean")["value"]
    return found.fillna(n_all).clip(1, n_all)


#: Draws of a chain from which dependence can be told, at least: ArviZ's own limit.
_FEWEST = 4
