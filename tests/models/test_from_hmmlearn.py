"""Models of hmmlearn: the law of H₀ that leads to their start, or the silent state and what that means."""

import logging

import numpy as np
import oracle
import pytest
import torch
from sweeps import sweep

from ppl_hmm import HMM, InvalidInput, log_likelihood, posterior, random_hmm
from ppl_hmm.models.initial import law_before


def theirs_of(start, transition, emission):
    theirs = random_hmm("dirichlet", len(start), len(emission[0]), 0).to_hmmlearn()
    theirs.startprob_, theirs.transmat_, theirs.emissionprob_ = map(np.array, (start, transition, emission))
    return theirs


@pytest.mark.parametrize("seed", sweep(40, quick=13))
def test_the_round_trip_keeps_the_law_of_text(seed, caplog):
    rng = np.random.default_rng(seed)
    model = oracle.random_model(rng, int(rng.integers(1, 6)), int(rng.integers(1, 4)))  # zeros, equal rows, K = 1
    again = HMM.from_hmmlearn(model.to_hmmlearn())
    assert again.n_states == model.n_states
    assert torch.equal(again.transition, model.transition)
    assert not caplog.records
    for length in (1, 2, 4):
        texts = oracle.all_texts(model.vocabulary_size, length)
        expected = log_likelihood(model, texts)
        torch.testing.assert_close(log_likelihood(again, texts).exp(), expected.exp(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("n_states", [8, 30])
def test_a_nearly_deterministic_model_survives(n_states):
    # A and π₀A span many orders of magnitude: every entry counts, not only the large ones.
    for seed in range(5):
        model = random_hmm("wei2021", n_states, 10, seed)
        again = HMM.from_hmmlearn(model.to_hmmlearn())
        first, found = model.initial @ model.transition, again.initial @ again.transition
        torch.testing.assert_close(found, first, rtol=1e-12, atol=0)


def test_an_invertible_transition_gives_the_law_back():
    model = HMM([0.25, 0.75], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.4, 0.6]])
    torch.testing.assert_close(HMM.from_hmmlearn(model.to_hmmlearn()).initial, model.initial, rtol=0, atol=1e-15)


def test_of_many_laws_the_least_certain_one_is_taken():
    # Row 0 is the mean of rows 1 and 2: (1, 0, 0), (0, ½, ½) and all between them lead to the same start.
    transition = np.array([[0, 0.5, 0.5], [0, 1, 0], [0, 0, 1.0]])
    np.testing.assert_allclose(law_before(transition[0], transition), [1 / 3, 1 / 3, 1 / 3], rtol=0, atol=1e-15)
    # Every law leads to the same start; and only one does.
    np.testing.assert_allclose(law_before(np.array([0.2, 0.8]), np.array([[0.2, 0.8]] * 2)), [0.5, 0.5], atol=1e-15)
    first, second = law_before(np.array([0.2, 0.8]), np.array([[0.2, 0.8], [0.8, 0.2]]))
    assert first == pytest.approx(1, rel=1e-15, abs=0)
    assert second == 0


def test_without_such_a_law_a_silent_state_is_added_and_named(caplog):
    theirs = theirs_of([1, 0], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.4, 0.6]])
    with caplog.at_level(logging.WARNING, "ppl_hmm"):
        model = HMM.from_hmmlearn(theirs)
    assert model.initial.tolist() == [0, 0, 1]
    assert model.transition.tolist() == [[0.9, 0.1, 0], [0.2, 0.8, 0], [1, 0, 0]]
    (record,) = caplog.records
    assert "P(H₀|x) is the same for every text" in record.message
    assert "PosteriorTask(weights, position=0)" in record.message
    texts = oracle.all_texts(2, 3)
    expected = [theirs.score(text[:, None]) for text in texts]
    np.testing.assert_allclose(log_likelihood(model, texts), expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(posterior(model, texts).initial, [[0, 0, 1.0]] * 8, rtol=1e-14, atol=0)


def test_a_start_that_is_almost_reachable_is_not_taken_for_it(caplog):
    # The best law misses the second entry, 1e-20, altogether: texts that come from there would be impossible.
    theirs = theirs_of([1 - 1e-20, 1e-20], [[1, 0], [0.5, 0.5]], [[1, 0], [0, 1]])
    found = HMM.from_hmmlearn(theirs)
    np.testing.assert_allclose(log_likelihood(found, [[1]]), np.log(1e-20), rtol=1e-12)
    theirs.transmat_ = np.array([[1.0, 0], [1.0, 0]])
    silent = HMM.from_hmmlearn(theirs)
    assert silent.n_states == 3
    np.testing.assert_allclose(log_likelihood(silent, [[1]]), np.log(1e-20), rtol=1e-12)
    assert caplog.records


@pytest.mark.parametrize(
    ("start", "transition", "law"),
    [
        ([1, 1e-16], [[0, 1], [1, 0]], [1e-16, 1]),
        ([1e-18, 1e-25, 1], [[0, 1, 0], [0, 0, 1], [1, 0, 0]], [1e-25, 1, 1e-18]),
        ([1, 2.0**-60], [[0.5, 0.5], [1, 0]], [2.0**-59, 1]),  # (1, ·) is 1 − 2⁻⁶⁰, rounded
        ([1, 1e-200], [[0, 1], [1, 0]], [1e-200, 1]),
    ],
)
def test_laws_with_very_small_entries_are_found(start, transition, law):
    np.testing.assert_allclose(law_before(np.array(start), np.array(transition, float)), law, rtol=1e-12, atol=0)


def test_a_start_beside_the_smallest_floats_gets_a_silent_state():
    theirs = theirs_of([1, 1e-310], [[0, 1], [1, 0]], [[1, 0], [0, 1]])
    np.testing.assert_allclose(log_likelihood(HMM.from_hmmlearn(theirs), [[1]]), np.log(1e-310), rtol=1e-12)


PARAMETERS = ([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.7, 0.3], [0.2, 0.8]])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("startprob_", [0.5, 0.25, 0.25]),
        ("startprob_", [[0.5, 0.5]]),
        ("startprob_", [np.nan, 1]),
        ("startprob_", [0.5, 0.25]),
        ("startprob_", np.ma.array([0.5, 0.5], mask=[0, 1])),
        ("transmat_", [[0.5, np.inf], [1, 0]]),
        ("transmat_", [[0.5, 0.5]]),
        ("emissionprob_", [[0.5, np.nan], [1, 0]]),
    ],
)
def test_parameters_are_checked_under_their_own_names(name, value):
    theirs = theirs_of(*PARAMETERS)
    setattr(theirs, name, value if isinstance(value, np.ma.MaskedArray) else np.array(value))
    with pytest.raises(InvalidInput, match=rf"^{name}"):
        HMM.from_hmmlearn(theirs)


@pytest.mark.parametrize("name", ["startprob_", "transmat_", "emissionprob_"])
def test_missing_parameters_are_named(name):
    theirs = theirs_of(*PARAMETERS)
    delattr(theirs, name)
    with pytest.raises(InvalidInput, match="set startprob_, transmat_ and emissionprob_"):
        HMM.from_hmmlearn(theirs)


def test_a_subclass_is_a_categorical_hmm():
    theirs = theirs_of(*PARAMETERS)
    expected = HMM.from_hmmlearn(theirs)
    theirs.__class__ = type("Smoothed", (type(theirs),), {})
    assert HMM.from_hmmlearn(theirs).identical(expected)
