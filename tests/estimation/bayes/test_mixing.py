"""Whether chains agree is said of chains that do, that do not yet, and that never will."""

from __future__ import annotations

import numpy as np
import pytest

from ppl_hmm import schema
from ppl_hmm.estimation.bayes.mixing import _stacked, mixing
from ppl_hmm.schema import Agreement


def draws(shifts, n_draws=400, seed=0, width=1.0, correlation=0.0):
    """Return normal draws (C,D) around a mean for each chain, each draw correlated with the one before."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(len(shifts), n_draws))
    for t in range(1, n_draws):
        noise[:, t] = correlation * noise[:, t - 1] + np.sqrt(1 - correlation**2) * noise[:, t]
    return np.asarray(shifts)[:, None] + width * noise


def of(shifts, **options):
    """Return the report of chains whose log-evidence is around -100 plus a shift, of ten equal texts."""
    evidence = draws(shifts, **options) - 100
    texts = np.repeat(evidence[..., None] / 10, 10, -1)
    other = draws(np.zeros(len(shifts)), n_draws=evidence.shape[1], seed=1)
    return mixing({"sigma_min": other, schema.LOG_EVIDENCE: evidence}, texts)


def test_chains_of_one_law_agree():
    found = of([0, 0, 0, 0])
    assert found.attrs["agreement"] == Agreement.MIXED
    assert found.attrs["summary"].startswith("The chains agree")
    assert (found.rhat < 1.01).all()
    assert (found.ess_bulk > 1000).all()
    np.testing.assert_allclose(found.weight, 0.25)


def test_chains_that_crawl_do_not_agree_yet():
    found = of([0, 0, 0, 0], correlation=0.98)
    assert found.attrs["agreement"] in (Agreement.UNFINISHED, Agreement.MODES)
    assert "R-hat of log_evidence" in found.attrs["summary"]


def test_modes_are_named_with_their_gap_and_never_averaged():
    found = of([-20, 0, -20, 0])
    assert found.attrs["agreement"] == Agreement.MODES
    assert found.mode_of_chain.values.tolist() == [1, 0, 1, 0]
    assert found.evidence_gap.values[0] == 0
    assert found.evidence_gap.values[1] == pytest.approx(20, abs=0.5)
    assert "mode 1 (chains 0, 2): 20" in found.attrs["summary"]
    assert found.weight.values == pytest.approx([0, 0.5, 0, 0.5], abs=1e-6)


def test_weights_are_those_of_stacking():
    """Two modes, each of which predicts half of the texts better by ten nats: both are needed."""
    rng = np.random.default_rng(0)
    better = np.arange(20) < 10
    texts = rng.normal(scale=0.1, size=(4, 200, 20)) - 5
    texts[:2, :, better] -= 10
    texts[2:, :, ~better] -= 10
    evidence = texts.sum(-1) + np.array([0, 0, -30, -30])[:, None]
    found = mixing({schema.LOG_EVIDENCE: evidence}, texts)
    assert found.weight.values == pytest.approx([0.25] * 4, abs=0.01)
    assert found.evidence_gap.values == pytest.approx([0, 30], abs=1)


def test_stacking_maximises_its_score():
    """Against a grid of the simplex."""
    rng = np.random.default_rng(3)
    log_predictive = rng.normal(size=(30, 2))
    grid = np.linspace(0, 1, 1001)
    scores = np.log(np.exp(log_predictive) @ np.stack([grid, 1 - grid])).sum(0)
    assert _stacked(log_predictive)[0] == pytest.approx(grid[scores.argmax()], abs=2e-3)


def test_constants_agree_and_stuck_chains_do_not():
    same, stuck = np.full((2, 50), 1.0), np.repeat([[1.0], [2.0]], 50, 1)
    evidence = draws([0, 0], n_draws=50)
    found = mixing({"same": same, "stuck": stuck, schema.LOG_EVIDENCE: evidence}, evidence[..., None])
    assert found.rhat.values[:2].tolist() == [1, np.inf]
    assert found.ess_bulk.values[:2].tolist() == [100, 0]
    assert found.attrs["agreement"] == Agreement.MODES
    assert not any(np.isnan(each).any() for each in found.values())


def test_too_few_draws_say_nothing():
    found = of([0, 0], n_draws=3)
    assert found.attrs["agreement"] == Agreement.UNKNOWN
    assert not any(np.isnan(each).any() for each in found.values())


def test_divergences_are_counted_by_chain():
    evidence = draws([0, 0])
    diverging = np.zeros((2, 400), bool)
    diverging[1, :3] = True
    found = mixing({schema.LOG_EVIDENCE: evidence}, evidence[..., None], diverging)
    assert found.n_diverging.values.tolist() == [0, 3]
    assert "3 trajectories diverged" in found.attrs["summary"]
