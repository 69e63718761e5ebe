"""What the experiment found: slopes of log error in log ε, and how the bounds held."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.fine_tuning.dynamics import with_interval

#: Slopes are of the networks with at most this excess at the read position, in nats: above it heads have learned little
#: but how text looks.
SMALL_EXCESS = 0.1
#: What rounding may add to a loss that attains its bound.
ROUNDING = 1e-6
_NATURAL = schema.NATURAL_LOSS, schema.NATURAL_BOUND
_OF_LAYER = {each: {schema.OBJECTIVE: each, schema.HEADS_OF: schema.HEAD_OF_LAYER} for each in schema.LOSSES}
#: The bounds by name: the column that is bounded, the bound, and which heads and networks.
BOUNDS: dict[str, tuple[str, str, dict[str, str]]] = {
    "natural": (*_NATURAL, {schema.HEADS_OF: schema.ANY_HEAD}),
    "natural, Φp": (*_NATURAL, _OF_LAYER["tokens"]),
    "natural, f": (*_NATURAL, _OF_LAYER["quad"]),
    "transfer": (schema.TRANSFER_ERROR, schema.TRANSFER_BOUND, {}),
}
_MODEL = (schema.N_STATES, schema.SEED)
_CHECKED = "bounds"


def slopes(tree: xr.DataTree) -> xr.Dataset:
    """Return the slopes of log error in log ε, ε the excess at the read position.

    Least squares over the networks of at most :data:`SMALL_EXCESS`, with an intercept for each model; the interval is
    the bootstrap's over models. An error of no text in N counts as half a text: log((errors + ½)/(N + 1)).

    Returns
    -------
    xarray.Dataset
        ``slope`` and ``slope_interval`` (…, bound) by objective, template, task and features; ``n_networks``.
    """
    results = tree[schema.RESULTS].to_dataset()
    n_test = tree[schema.SETTINGS].attrs["n_test"]
    log_error = np.log((results[schema.ERROR] * n_test + 0.5) / (n_test + 1))
    excess = results[schema.EXCESS_AT_READ_POSITION].broadcast_like(log_error)
    small = (excess <= SMALL_EXCESS) & log_error.notnull()
    columns = np.log(excess.where(small)), log_error.where(small)
    dims = [[*_MODEL, schema.STEP]] * 2
    slope, interval = xr.apply_ufunc(
        _slope, *columns, input_core_dims=dims, output_core_dims=[[], [schema.BOUND]], vectorize=True
    )
    return xr.Dataset(
        {
            schema.SLOPE: slope,
            f"{schema.SLOPE}_interval": interval.assign_coords({schema.BOUND: [schema.LOWER, schema.UPPER]}),
            "n_networks": small.isel({schema.FEATURES: 0}).sum([*_MODEL, schema.STEP]),
        }
    )


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the slope of y in x, both (K,seeds,steps), NaN where not counted, and its interval over models.

    A model of one network says nothing of a slope.
    """
    x, y = (each.reshape(-1, each.shape[-1]) for each in (x, y))
    counted = ~np.isnan(x)
    x, y, counted = (each[counted.sum(-1) > 1] for each in (x, y, counted))
    n_counted = counted.sum(-1, keepdims=True)
    x, y = (np.where(counted, each - np.nansum(each, -1, keepdims=True) / n_counted, 0) for each in (x, y))
    products, squares = (x * y).sum(-1), (x * x).sum(-1)

    def of(models: np.ndarray) -> float:
        total = squares[models].sum()
        return float(products[models].sum() / total) if total > 0 else float("nan")

    return with_interval(of, len(x))


def checks(tree: xr.DataTree) -> xr.Dataset:
    """Return how each bound of :data:`BOUNDS` held, over all models, networks, tasks and templates.

    ``natural, Φp`` is of networks on cross-entropy, ``natural, f`` of those on the quadratic loss.

    Returns
    -------
    xarray.Dataset
        By ``bounds``: ``n_checked``, ``n_violated``; ``n_below_one`` and ``n_below_guess``, the bounds below one and
        below the share of the smaller class; ``bound``, ``bounded`` and ``attained``, medians at the end of training of
        the bound, of what it bounds and of their ratio. Beside it ``n_unseen_violated``: networks where the error of
        the transferred head exceeds the bound on the texts where it was chosen, by more than two standard errors.
    """
    results = tree[schema.RESULTS].to_dataset()
    there = {
        name: (bounded, bound, which)
        for name, (bounded, bound, which) in BOUNDS.items()
        if which.get(schema.OBJECTIVE) in (None, *results[schema.OBJECTIVE].values)
    }
    found = xr.concat([_check(results, *each) for each in there.values()], xr.DataArray(list(there), dims=_CHECKED))
    return found.assign_coords({_CHECKED: list(there)}).assign(
        n_unseen_violated=_unseen(results, tree[schema.SETTINGS].attrs)
    )


def _check(results: xr.Dataset, bounded: str, bound: str, which: dict[str, str]) -> xr.Dataset:
    columns = results[[bounded, bound, schema.GUESS_ERROR]].sel(which, drop=True)
    less, most = columns[bounded], columns[bound]
    last = {schema.STEP: -1}
    return xr.Dataset(
        {
            "n_checked": most.notnull().sum(),
            "n_violated": (less > most + ROUNDING).sum(),
            "n_below_one": (most < 1 - ROUNDING).sum(),
            "n_below_guess": (most < columns[schema.GUESS_ERROR] - ROUNDING).sum(),
            "bound": most.isel(last, drop=True).median(),
            "bounded": less.isel(last, drop=True).median(),
            "attained": (less / most).isel(last, drop=True).median(),
        }
    )


def _unseen(results: xr.Dataset, settings: dict) -> int:
    error, chosen = results[schema.TRANSFER_ERROR], results[schema.TRANSFER_CHOSEN]
    variance = error * (1 - error) / settings["n_test"] + chosen * (1 - chosen) / settings["n_validation"]
    return int((error > chosen + 2 * np.sqrt(variance)).sum())


def sampled_excess(tree: xr.DataTree) -> dict[str, float]:
    """Return how the excess of drawn tokens agrees with theory: it is not below zero, and near its expectation.

    Returns
    -------
    dict
        ``n_checked`` networks; ``lowest``, the least excess over its standard error; ``n_below``, those more than two
        standard errors below zero; ``near``, the share within two standard errors of the mean divergence.
    """
    results = tree[schema.RESULTS].to_dataset()
    excess, error = results[schema.EXCESS_SAMPLED], results[schema.EXCESS_SAMPLED_ERROR]
    scaled = excess / error
    distance = np.abs(excess - results[schema.EXCESS]) / error
    there = excess.notnull()
    return {
        "n_checked": int(there.sum()),
        "lowest": float(scaled.min()),
        "n_below": int((scaled < -2).sum()),
        "near": float((distance <= 2).sum() / there.sum()),
    }
