"""Means over seeds with their intervals."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.stats import bootstrap

from ppl_hmm import schema

_RESAMPLES = 9999
_CONFIDENCE = 0.95


def mean_and_interval(values: xr.DataArray) -> xr.Dataset:
    """Return ``mean``, ``low`` and ``high`` of values (…, seed) over their seeds.

    The interval is the 95 % percentile bootstrap of the mean, from a fixed random stream. Seeds not yet computed (NaN)
    are left out; with fewer than two seeds the interval is NaN: one number has no spread.
    """
    dims = [dim for dim in values.dims if dim != schema.SEED]
    mean, low, high = xr.apply_ufunc(
        _summarise, values, input_core_dims=[[schema.SEED]], output_core_dims=[[], [], []], vectorize=True
    )
    return xr.Dataset({"mean": mean, "low": low, "high": high}).transpose(*dims)


def _summarise(values: np.ndarray) -> tuple[float, float, float]:
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return (values.mean() if len(values) else np.nan), np.nan, np.nan
    interval = bootstrap(
        (values,),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=_CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return values.mean(), interval.low, interval.high
