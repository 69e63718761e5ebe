"""Expectation-maximisation against sums over every path, against hmmlearn, and against itself."""

import logging

import numpy as np
import oracle
import pytest
import torch
from comparisons import assert_equal
from hmmlearn.hmm import CategoricalHMM

from ppl_hmm import HMM, MASK, fit_bayes, fit_em, log_likelihood, random_hmm, random_memory_hmm, sample
from ppl_hmm.errors import ImpossibleText, InvalidInput
from ppl_hmm.estimation.starts import STARTS
from ppl_hmm.exact.baum_welch import NEGLIGIBLE

LAWS = ("initial", "transition", "emission")


def stepped(model, tokens, **options):
    """Return the model after one iteration."""
    return fit_em(tokens, model.n_states, start=model, max_iterations=2, tolerance=-np.inf, seed=0, **options).model


def by_hand(model, tokens, weights, excess=0.0):
    """Return the model after one iteration, from all paths of every text up to its last observed token."""
    uses = [np.zeros_like(getattr(model, name).numpy()) for name in LAWS]
    for text, weight in zip(tokens, weights, strict=True):
        end = np.flatnonzero(text != MASK)[-1:] + 1
        for total, part in zip(uses, oracle.expected_uses(model, text[: end.sum()]), strict=True):
            total += weight * part
    laws = []
    for name, counts in zip(LAWS, uses, strict=True):
        old = getattr(model, name).numpy()
        counts = counts + excess * (old > 0)
        total = counts.sum(-1, keepdims=True)
        laws.append(np.where(total > 0, counts / np.where(total > 0, total, 1), old))
    return HMM(*laws)


def cases(n_wanted):
    """Yield random models with zeros, aliases, masks, ragged texts, K = 1 and T = 1, and weights for their texts."""
    seed = 0
    while n_wanted:
        case, seed = oracle.random_case(seed), seed + 1
        text = case.masked_tokens
        possible = [oracle.log_evidence(case.model, row) > -np.inf for row in text]
        if len(set(text[text != MASK])) >= 2 and all(possible):
            n_wanted -= 1
            yield case, np.random.default_rng(seed).integers(0, 3, len(text)) + np.array([1, 0, 0])


def test_one_iteration_equals_the_sum_over_all_paths():
    for case, _ in cases(40):
        ours = stepped(case.model, case.tokens, lengths=case.lengths)
        expected = by_hand(case.model, case.masked_tokens, np.ones(3))
        assert ours.allclose(expected, atol=1e-10), case


def test_weights_are_repetitions_and_priors_add_their_excess():
    for case, weights in cases(15):
        tokens = case.masked_tokens
        repeated = np.repeat(tokens, weights, axis=0)
        if len(set(repeated[repeated != MASK])) < 2:
            continue
        ours = stepped(case.model, tokens, sample_weight=weights, prior=1.5)
        assert ours.allclose(by_hand(case.model, tokens, weights, excess=0.5), atol=1e-10)
        assert ours.allclose(stepped(case.model, repeated, prior=1.5), atol=1e-10)


@pytest.mark.parametrize("implementation", ["scaling", "log"])
@pytest.mark.parametrize("zeros", [0.0, 0.4])
def test_equals_hmmlearn_from_its_start(implementation, zeros, caplog):
    """A silent extra state, whose zeros are tied, stands for a first state that emits."""
    rng = np.random.default_rng(3)
    text = sample(random_hmm("dirichlet", 4, 6, seed=0), 12, length=40, seed=1).tokens.numpy()
    lengths = rng.integers(1, 41, size=12)
    moves = oracle.random_rows(rng, 4, 4, zeros=zeros)
    options = {"init_params": "", "n_iter": 25, "tol": -np.inf, "implementation": implementation}
    other = CategoricalHMM(4, n_features=6, **options)
    other.startprob_, other.transmat_ = np.array([0.7, 0.1, 0.1, 0.1]), moves
    other.emissionprob_ = oracle.random_rows(rng, 4, 6)
    start = HMM.from_hmmlearn(other)
    assert start.n_states == 5
    other.fit(np.concatenate([row[:n] for row, n in zip(text, lengths, strict=True)])[:, None], lengths)
    fit = fit_em(text, 5, lengths=lengths, start=start, max_iterations=26, tolerance=-np.inf, seed=0)
    assert_equal(fit.model.transition[-1, :4], other.startprob_, 1e-8)
    assert_equal(fit.model.transition[:4, :4], other.transmat_, 1e-8)
    assert_equal(fit.model.emission[:4], other.emissionprob_, 1e-8)
    assert_equal(fit.log_likelihood[:-1], other.monitor_.history, 1e-8)


ALLOWED = {"transition": np.tri(4, k=1), "emission": [[1, 1, 1, 1, 1, 0]] * 2 + [[0, 1, 1, 1, 1, 1]] * 2}


@pytest.mark.parametrize("prior", [None, 1.2])
def test_the_posterior_never_falls_from_a_hundred_starts_with_zeros(prior):
    text = sample(random_hmm("dirichlet", 4, 6, seed=0, concentration=0.3), 40, length=12, seed=1).tokens
    options = {"restarts": 100, "start": "random", "allowed": ALLOWED, "prior": prior}
    fit = fit_em(text, 4, max_iterations=150, tolerance=1e-4, seed=0, **options)
    assert float(fit.restarts.largest_decrease.max()) <= 1e-9
    assert (fit.restarts.models.transition[:, np.tri(4, k=1) == 0] == 0).all()
    assert_equal(fit.log_likelihood[-1], log_likelihood(fit.model, text).sum(), 1e-9)
    assert fit.log_posterior[-1] == fit.restarts.log_posterior.max()
    for name in LAWS:
        values = getattr(fit.restarts.models, name)
        assert values[values > 0].min() >= NEGLIGIBLE[torch.float64]


def test_single_precision_climbs_as_far():
    text = sample(random_hmm("dirichlet", 3, 5, seed=0), 50, length=10, seed=1).tokens
    start = HMM.stack([random_hmm("dirichlet", 3, 5, seed=seed) for seed in range(20)])
    exact = fit_em(text, 3, start=start, max_iterations=60, tolerance=-np.inf, seed=0)
    single = fit_em(text, 3, start=start.to(torch.float32), max_iterations=60, tolerance=-np.inf, seed=0)
    assert single.model.dtype == torch.float32
    rounding = 50 * 10 * torch.finfo(torch.float32).eps
    assert float(single.restarts.largest_decrease.max()) <= 10 * rounding
    np.testing.assert_allclose(single.restarts.log_likelihood, exact.restarts.log_likelihood, rtol=2e-4)


def test_memory_models_are_fitted_flattened():
    memory = random_memory_hmm("dirichlet", 2, 2, 5, seed=0)
    text = sample(memory, 60, length=12, seed=1).tokens
    flat = random_memory_hmm("dirichlet", 2, 2, 5, seed=2).flatten()
    fit = fit_em(text, flat.n_states, start=flat, max_iterations=100, tolerance=-np.inf, seed=0)
    assert float(fit.restarts.largest_decrease) <= 1e-9
    assert (fit.model.transition[flat.transition == 0] == 0).all()  # a memory never changes
    assert fit.log_likelihood[-1] > log_likelihood(memory.flatten(), text).sum() - 10


def test_text_may_be_written_in_any_way():
    text = sample(random_hmm("dirichlet", 3, 5, seed=0), 9, length=20, seed=1).tokens.numpy()
    lengths = np.random.default_rng(0).integers(1, 21, size=9)
    start = random_hmm("dirichlet", 3, 5, seed=2)
    expected = stepped(start, text, lengths=lengths)
    lists = [row[:n].tolist() for row, n in zip(text, lengths, strict=True)]
    masked = np.where(np.arange(20) < lengths[:, None], text, MASK)
    padded = np.concatenate([masked, np.full((9, 4), MASK)], 1)  # nothing after the last token is read
    for other in (lists, masked, padded, lists[::-1]):
        assert stepped(start, other).allclose(expected, atol=1e-12)
    assert stepped(start, lists * 3).allclose(expected, atol=1e-12)
    assert stepped(start, lists, backend="torch").allclose(expected, atol=1e-10)


def test_fixed_laws_stay():
    text = sample(random_hmm("dirichlet", 3, 5, seed=0), 9, length=20, seed=1).tokens
    start = random_hmm("dirichlet", 3, 5, seed=2)
    kept = stepped(start, text, fixed=("emission", "initial"))
    assert torch.equal(kept.emission, start.emission)
    assert torch.equal(kept.initial, start.initial)
    assert kept.transition.allclose(stepped(start, text).transition, atol=1e-12)


def test_one_batch_is_an_iteration_and_minibatches_climb():
    text = sample(random_hmm("dirichlet", 3, 5, seed=0, concentration=0.3), 200, length=20, seed=1).tokens
    start = random_hmm("dirichlet", 3, 5, seed=2)
    assert stepped(start, text, batch_size=200).allclose(stepped(start, text), atol=1e-10)
    online = fit_em(text, 3, start=start, batch_size=20, max_iterations=15, seed=0)
    assert_equal(online.log_likelihood[-1], log_likelihood(online.model, text).sum(), 1e-8)
    whole = fit_em(text, 3, start=start, max_iterations=15, seed=0)
    assert online.log_likelihood[-1] > whole.log_likelihood[-1] - 5


@pytest.mark.parametrize("kind", [*STARTS, "mixed"])
def test_starts_are_reproducible_and_climb(kind):
    text = sample(random_hmm("dirichlet", 3, 40, seed=0, concentration=0.2), 60, length=20, seed=1).tokens
    fits = [fit_em(text, 3, start=kind, restarts=4, max_iterations=30, seed=5) for _ in range(2)]
    assert fits[0].model.identical(fits[1].model)
    assert sum(of for _, of in fits[0].restarts.by_kind.values()) == 4
    assert 1 <= fits[0].restarts.n_reached_best <= 4
    assert float(fits[0].restarts.largest_decrease.max()) <= 1e-9


def test_little_text_is_warned_of_with_the_numbers(caplog):
    with caplog.at_level(logging.WARNING, logger="ppl_hmm"):
        fit_em([[0, 1, 2, 1]], 4, restarts=2, max_iterations=3, seed=0)
    first, second, _ = caplog.messages
    assert "4 observed tokens for 23 free parameters" in first
    assert "4 states for 3 kinds of tokens" in second


def test_a_fit_that_spends_its_iterations_says_so(caplog):
    text = sample(random_hmm("dirichlet", 2, 3, seed=0), 50, length=10, seed=0).tokens
    with caplog.at_level(logging.WARNING, logger="ppl_hmm"):
        for options in ({"max_iterations": 2}, {"max_iterations": 2, "tolerance": -np.inf}, {"tolerance": 10.0}):
            fit_em(text, 2, restarts=2, seed=0, **options)
    (message,) = caplog.messages
    assert "no restart converged to gains below 0.001 nats in 2 iterations: raise max_iterations" in message


@pytest.mark.parametrize("text", [[[0], [1], [2], [0]], [[0, MASK, MASK], [MASK, 1, MASK]]])
def test_texts_of_one_token_each_are_warned_of(text, caplog):
    with caplog.at_level(logging.WARNING, logger="ppl_hmm"):
        fit_em(text, 1, restarts=1, max_iterations=1, seed=0)
        fit_bayes(text, 1, method="gibbs", chains=1, draws=1, tune=0, seed=0)
    assert [message.startswith("no text has two observed tokens") for message in caplog.messages].count(True) == 2


@pytest.mark.parametrize("fit", [fit_em, fit_bayes])
def test_tokens_that_count_from_one_are_warned_of_where_their_number_is_not_given(fit, caplog):
    options = {"seed": 0} | ({"restarts": 1, "max_iterations": 2} if fit is fit_em else {"draws": 2, "tune": 2})
    text = [[1, 2, 3, 1], [3, 1, 1, 2]]
    fit(text, 1, vocabulary_size=4, **options)
    assert "count from 0" not in caplog.text
    fit(text, 1, **options)
    assert "subtract 1 if yours count from 1, or pass vocabulary_size=4" in caplog.text


def test_a_single_state_is_the_token_frequencies():
    fit = fit_em([[0, 0, 1, 2], [1, 0, 0, MASK]], 1, restarts=1, seed=0)
    assert_equal(fit.model.emission, [[4 / 7, 2 / 7, 1 / 7]], 1e-14)
    assert fit.converged


def test_text_that_the_zeros_forbid_is_named():
    still = HMM([0.5, 0.5], np.eye(2), np.eye(2))
    with pytest.raises(ImpossibleText, match="text 1 under start 0"):
        fit_em([[0, 0, 0], [0, 1, 1], [1, 1, 1]], 2, start=still, seed=0)
    with pytest.raises(InvalidInput, match="start"):
        fit_em([[0, 1]], 3, start=still, seed=0)
