"""The audit of a fit: first whether its chains can be believed, then what its draws say."""

from __future__ import annotations

import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.over_posterior.convergence import convergence
from ppl_hmm.audits.over_posterior.posterior import recoverability_posterior
from ppl_hmm.base.randomness import Seed
from ppl_hmm.tasks import TaskOfModel


def audit_fit(fit: xr.DataTree, task: TaskOfModel, *, seed: Seed, **options) -> xr.DataTree:
    """Return the audit of a fit: ``/convergence``, ``/recoverability_posterior``, and the same of its prior.

    ``options`` are those of :func:`recoverability_posterior`, and so are the errors.
    """
    tree = recoverability_posterior(fit, task, seed=seed, **options)
    if schema.PRIOR in fit.children:
        prior = recoverability_posterior(fit, task, seed=seed, group=schema.PRIOR, **options)
        tree[schema.RECOVERABILITY_PRIOR] = prior[schema.RECOVERABILITY_PRIOR]
    tree[schema.CONVERGENCE] = xr.DataTree(convergence(fit))
    drawn = {schema.POSTERIOR: fit[schema.POSTERIOR].to_dataset()}
    if schema.PRIOR in fit.children:
        drawn[schema.PRIOR] = fit[schema.PRIOR].to_dataset()
    for group, dataset in drawn.items():
        if schema.SIGMA_MIN in dataset:
            tree[group] = xr.DataTree(dataset[[schema.SIGMA_MIN]])
    if schema.MIXING in fit.children:
        tree[schema.MIXING] = fit[schema.MIXING].copy()
    text = fit[schema.OBSERVED_DATA].sizes if schema.OBSERVED_DATA in fit.children else {}
    n_states, n_tokens = (fit[schema.POSTERIOR].sizes[each] for each in (schema.STATE, schema.TOKEN))
    tree.attrs |= {
        "n_states": n_states,
        "vocabulary_size": n_tokens,
        **{f"n_{name}s": size for name, size in text.items() if name in (schema.SEQUENCE, schema.POSITION)},
        **{name: fit.attrs[name] for name in ("method",) if name in fit.attrs},
    }
    return tree
