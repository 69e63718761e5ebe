"""Text sampled from known models: whether the fit is as likely as the truth, and which start gets there."""

import pytest

from ppl_hmm import fit_em, log_likelihood, random_hmm, sample
from ppl_hmm.estimation.starts import STARTS

RESTARTS = 4


@pytest.mark.slow
def test_fits_are_as_likely_as_the_truth(capsys):
    """K = 5, V = 20, 2000×50: the best fit has at least the truth's evidence, less its sampling error."""
    as_likely, reached = [], dict.fromkeys(STARTS, 0)
    for seed in range(20):
        model = random_hmm("dirichlet", 5, 20, seed=seed, concentration=0.1)
        text = sample(model, 2000, 50, seed=seed).tokens
        each = log_likelihood(model, text)
        least = float(each.sum() - each.std() * len(each) ** 0.5)
        fits = {kind: fit_em(text, 5, start=kind, restarts=RESTARTS, seed=seed) for kind in STARTS}
        best = max(float(fit.log_likelihood[-1]) for fit in fits.values())
        as_likely.append(best >= least)
        for kind, fit in fits.items():
            reached[kind] += int((fit.restarts.log_likelihood >= least).sum())
    with capsys.disabled():
        print("\n".join(f"{kind:10s} {count}/{20 * RESTARTS} restarts" for kind, count in reached.items()))
    assert sum(as_likely) >= 19
