"""Fits by Hamiltonian samplers: ArviZ takes the tree, and chains are said to agree or not."""

from __future__ import annotations

import warnings

import arviz_stats
import numpy as np
import pytest

from ppl_hmm import fit_bayes, random_hmm, sample, schema
from ppl_hmm.schema import Agreement

TEXT = sample(random_hmm("dirichlet", 2, 3, seed=1), 12, 8, seed=0).tokens
OPTIONS = {"chains": 2, "draws": 12, "tune": 3, "seed": 0}


@pytest.mark.parametrize("method", ["hmc", "nuts"])
def test_the_tree_says_how_chains_agree(method):
    options = OPTIONS if method == "hmc" else {**OPTIONS, "tune": 1, "draws": 5}
    tree = fit_bayes(TEXT, 2, method=method, **options)
    found = tree[schema.MIXING]
    assert found.attrs["agreement"] in set(Agreement)
    assert found[schema.QUANTITY].values.tolist() == ["sigma_min", "transition_trace_squared", "log_evidence"]
    assert found[schema.WEIGHT].sum().item() == pytest.approx(1)
    assert {schema.DIVERGING, schema.N_STEPS, schema.STEP_SIZE, schema.LP} <= set(tree[schema.SAMPLE_STATS].data_vars)
    assert not any(np.isnan(each).any() for each in found.data_vars.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few draws
        assert len(arviz_stats.summary(tree, var_names=["sigma_min"])) == 1


def test_the_same_seed_draws_the_same_and_an_interrupted_run_goes_on(tmp_path):
    whole = fit_bayes(TEXT, 2, **OPTIONS)
    stored = fit_bayes(TEXT, 2, out=tmp_path / "run", **OPTIONS)
    again = fit_bayes(TEXT, 2, out=tmp_path / "run", **OPTIONS)
    for tree in (stored, again):
        assert whole[schema.POSTERIOR].to_dataset().identical(tree[schema.POSTERIOR].to_dataset())


def test_memories_are_sampled_too():
    tree = fit_bayes(TEXT, 2, memory=(2, [0, 0]), **{**OPTIONS, "draws": 4, "tune": 2})
    assert np.isfinite(tree[schema.SAMPLE_STATS][schema.LP]).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_sparse_models_of_many_states_stay_in_modes_that_are_named(seed):
    model = random_hmm("dirichlet", 10, 10, seed=seed, concentration=0.1)
    tokens = sample(model, 30, 30, seed=seed).tokens
    tree = fit_bayes(tokens, 10, vocabulary_size=10, prior=0.1, chains=4, draws=150, tune=150, seed=seed)
    found = tree["mixing"].attrs
    assert found["agreement"] == Agreement.MODES
    assert "different modes" in found["summary"]
    assert "nats less evidence" in found["summary"]
