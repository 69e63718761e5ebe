"""What must be known of a fit before any verdict: whether its chains agree, and whether its text told anything."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.over_posterior.chances import effective_draws

#: R-hat above this says that chains do not agree (Vehtari et al. 2021).
LARGEST_RHAT = 1.01
#: Kolmogorov distance of posterior and prior up to which a text has told next to nothing of a quantity.
NEARLY_PRIOR = 0.15
#: What does not depend on the order of states.
QUANTITIES = (schema.SIGMA_MIN, schema.TRANSITION_TRACE_SQUARED, schema.LOG_EVIDENCE)


def convergence(fit: xr.DataTree) -> xr.Dataset:
    """Return, by quantity that does not depend on the order of states, R-hat and the effective number of draws.

    Also ``prior_distance``, the largest difference of the distribution functions of posterior and prior draws. R-hat is
    that of the fit's group ``/mixing`` where it has one, whose attributes are kept, else computed; NaN for a single
    chain, which cannot tell.
    """
    drawn = fit[schema.POSTERIOR].to_dataset()
    quantities = [name for name in QUANTITIES if name in drawn]
    prior = fit[schema.PRIOR].to_dataset() if schema.PRIOR in fit.children else xr.Dataset()
    rows = {
        schema.RHAT: [_rhat(fit, name) for name in quantities],
        schema.EFFECTIVE_DRAWS: [float(effective_draws(drawn[name])) for name in quantities],
        schema.PRIOR_DISTANCE: [_distance(drawn, prior, name) for name in quantities],
    }
    variables = {name: (schema.QUANTITY, np.array(values)) for name, values in rows.items()}
    said = fit[schema.MIXING].attrs if schema.MIXING in fit.children else {}
    return xr.Dataset(variables, {schema.QUANTITY: quantities}, dict(said))


def _rhat(fit: xr.DataTree, name: str) -> float:
    if schema.MIXING in fit.children:
        mixing = fit[schema.MIXING].to_dataset()
        if schema.RHAT in mixing and name in mixing[schema.QUANTITY]:
            return float(mixing[schema.RHAT].sel({schema.QUANTITY: name}))
    values = fit[schema.POSTERIOR].to_dataset()[name]
    if values.sizes[schema.CHAIN] < 2 or values.sizes[schema.DRAW] < 4:
        return np.nan
    from arviz_stats.sampling_diagnostics import rhat  # takes a second

    found = float(rhat(values.to_dataset(name="value"))["value"])
    return 1.0 if np.isnan(found) else found  # the same number in all draws


def _distance(drawn: xr.Dataset, prior: xr.Dataset, name: str) -> float:
    if name not in prior:
        return np.nan
    after, before = (np.sort(each[name].values.ravel()) for each in (drawn, prior))
    every = np.concatenate([after, before])
    shares = (np.searchsorted(each, every, side="right") / len(each) for each in (after, before))
    return float(np.abs(np.subtract(*shares)).max())
