"""Text sampled from known models: whether the fit is as likely as the truth, and which start gets there."""

import pytest

from ppl_hmm import fit_em, log_likelihood, random_hmm, sample
from ppl_hmm.estimation.starts import STARTS


@pytest.mark.slow
def test_fits_are_as_likely_as_the_truth():
    """K = 5, V = 20, 2000×50: a fit has at least the truth's evidence, less its sampling error."""
    as_likely, restarts, models = 0, dict.fromkeys(STARTS, 0), dict.fromkeys(STARTS, 0)
    for seed in range(20):
        model = random_hmm("dirichlet", 5, 20, seed=seed, concentration=0.1)
        text = sample(model, 2000, 50, seed=seed).tokens
        each = log_likelihood(model, text)
        least = float(each.sum() - each.std() * len(each) ** 0.5)
        fit = fit_em(text, 5, seed=seed)
        as_likely += float(fit.log_likelihood[-1]) >= least
        enough = (fit.restarts.log_likelihood >= least).tolist()
        for kind in STARTS:
            reached = [yes for yes, of in zip(enough, fit.restarts.kinds, strict=True) if of == kind]
            restarts[kind] += sum(reached)
            models[kind] += any(reached)
    assert as_likely >= 19, (restarts, models)
