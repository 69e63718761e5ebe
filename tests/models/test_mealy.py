"""Processes that emit on their transitions have the same texts and beliefs as the models they become."""

from fractions import Fraction

import numpy as np
import oracle
import pytest
import torch
import xarray as xr
from comparisons import check
from rational import fractions
from sweeps import sweep

from ppl_hmm import HMM, MealyHMM, log_likelihood, posterior
from ppl_hmm.exact.stationary import closed_classes, long_run_law

EVEN = [[[0.5, 0], [0, 0]], [[0, 0.5], [1, 0]]]


def random_machine(seed):
    """Return matrices (V,S,S) and a law (S,): zeros, repeated laws on edges, states that are never entered, S = 1."""
    rng = np.random.default_rng(seed)
    n_tokens, n_states = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    moves = oracle.random_rows(rng, n_states, n_states, zeros=rng.choice([0.0, 0.5]))
    few = oracle.random_rows(rng, 2, n_tokens, zeros=rng.choice([0.0, 0.4]))
    every = oracle.random_rows(rng, n_states * n_states, n_tokens, zeros=0.0)
    laws = few[rng.integers(2, size=(n_states, n_states))] if rng.random() < 0.5 else every.reshape(*moves.shape, -1)
    return np.moveaxis(moves[..., None] * laws, -1, 0), oracle.random_rows(rng, n_states, zeros=0.3)


def exact_law(matrices, initial, text):
    """Return P(x, S_T) (S,) as fractions, by matrix products."""
    law, exact = fractions(initial), fractions(matrices)
    for token in text:
        law = law @ exact[token]
    return law


@pytest.mark.parametrize("seed", sweep(60, quick=20))
def test_texts_and_beliefs_are_those_of_the_machine(seed):
    matrices, initial = random_machine(seed)
    machine = HMM.from_mealy(matrices, initial)
    assert machine.hmm.n_states == len(machine.state_of)
    assert set(machine.state_of.tolist()) == set(range(machine.n_states))
    for text in oracle.all_texts(len(matrices), 3):
        expected = exact_law(matrices, initial, text)
        total = sum(expected, Fraction(0))
        found = log_likelihood(machine.hmm, text[None])
        assert found.exp().item() == pytest.approx(float(total), rel=1e-12, abs=1e-300)
        if total:
            beliefs = machine.mealy_beliefs(posterior(machine.hmm, text[None]).smoothed)[0, -1]
            np.testing.assert_allclose(beliefs, [float(each / total) for each in expected], rtol=0, atol=1e-13)


@pytest.mark.parametrize("seed", sweep(30, quick=10))
def test_there_and_back(seed):
    rng = np.random.default_rng(seed)
    model = oracle.random_model(rng, int(rng.integers(1, 5)), int(rng.integers(1, 4)))
    machine = model.to_mealy()
    assert machine.n_states == model.n_states == machine.hmm.n_states
    assert torch.equal(machine.state_of, torch.arange(model.n_states))
    texts = oracle.all_texts(model.vocabulary_size, 3)
    expected = log_likelihood(model, texts).exp()
    torch.testing.assert_close(log_likelihood(machine.hmm, texts).exp(), expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(machine.hmm.transition, model.transition, rtol=1e-15, atol=0)


def test_a_state_is_copied_for_each_law_it_is_entered_with():
    machine = HMM.from_mealy(EVEN)
    assert machine.state_of.tolist() == [0, 0, 1]
    assert machine.hmm.emission.tolist() == [[1, 0], [0, 1], [0, 1]]
    assert machine.initial.tolist() == pytest.approx([2 / 3, 1 / 3], rel=1e-15)
    law = machine.hmm.initial
    torch.testing.assert_close(law @ machine.hmm.transition, law, rtol=1e-15, atol=0)  # stationary, too
    assert machine.mealy_beliefs([[0.1, 0.2, 0.7]]).tolist() == [[pytest.approx(0.3), 0.7]]


def test_a_state_that_is_never_entered_is_kept_silent():
    machine = HMM.from_mealy([[[0, 0.5], [0, 1.0]], [[0, 0.5], [0, 0]]], [1, 0])
    assert machine.state_of.tolist() == [0, 1, 1]
    assert machine.hmm.initial.tolist() == [1, 0, 0]
    assert (machine.hmm.transition[:, 0] == 0).all()
    assert log_likelihood(machine.hmm, [[1, 0]]).exp().item() == 0.5


def test_labels_gradients_and_precision_stay():
    labels = {"token": ["heads", "tails"], "state": ["a", "b"], "state_next": ["a", "b"]}
    named = xr.DataArray(EVEN, dims=("token", "state", "state_next"), coords=labels)
    machine = HMM.from_mealy(named.transpose("state_next", "state", "token"))
    np.testing.assert_array_equal(machine.matrices, EVEN)
    assert machine.hmm.names == {"token": ("heads", "tails")}
    assert HMM.from_mealy(torch.tensor(EVEN, dtype=torch.float32)).hmm.dtype == torch.float32
    matrices = torch.tensor(EVEN, dtype=torch.float64, requires_grad=True)
    log_likelihood(HMM.from_mealy(matrices, [0.5, 0.5]).hmm, [[1, 1]]).sum().backward()
    assert torch.isfinite(matrices.grad).all()


@pytest.mark.parametrize("seed", sweep(30, quick=10))
def test_the_law_in_which_a_chain_settles_is_the_mean_of_its_powers(seed):
    rng = np.random.default_rng(seed)
    n_states = int(rng.integers(1, 7))
    moves = oracle.random_rows(rng, n_states, n_states, zeros=rng.choice([0.0, 0.5, 0.8]))
    initial = oracle.random_rows(rng, n_states, zeros=0.3)
    found = long_run_law(torch.tensor(initial), torch.tensor(moves))
    power = np.linalg.matrix_power(moves, 60 * 400)  # 60 is a multiple of every period, and powers forget the rest
    mean = sum(np.linalg.matrix_power(moves, step) for step in range(60)) @ power / 60
    np.testing.assert_allclose(found, initial @ mean, rtol=0, atol=1e-9)
    assert sorted(torch.cat(closed_classes(torch.tensor(moves))).tolist()) == sorted(np.flatnonzero(mean.sum(0) > 1e-9))


def test_bad_matrices():
    from_mealy = HMM.from_mealy
    wrong = [[[0.5, 0], [0, 0]], [[0, 0.4], [1, 0]]]
    check(lambda: from_mealy(wrong), "matrices of state 0", "sum to 1", "0.9")
    check(lambda: from_mealy([[[1.5, -0.5], [0, 1]]]), "matrices[0, 0, 1]", "a probability", "-0.5")
    check(lambda: from_mealy(np.ones((2, 1, 2)) / 2), "matrices", "(V, S, S)", "(2, 1, 2)")
    check(lambda: from_mealy(np.ones((0, 2, 2))), "matrices", "(V, S, S)", "(0, 2, 2)")
    check(lambda: from_mealy([0.5, 0.5]), "matrices", "at least 3 dimensions", "(2,)")
    check(lambda: from_mealy([np.eye(2)]), "initial of a Mealy machine", "several are stationary", "states 0 and 1")
    check(lambda: from_mealy(EVEN, [1, 0, 0]), "initial of a Mealy machine", "(2,)", "(3,)")
    check(lambda: from_mealy(EVEN, [0.5, 0.6]), "initial is not a distribution", "sum to 1", "1.1")
    check(lambda: from_mealy(np.ones((3, 2, 2, 2)) / 4, np.ones((3, 2)) / 2), "a Mealy machine", "single", "(3,)")
    check(lambda: from_mealy(EVEN).mealy_beliefs([0.5, 0.5]), "beliefs", "(…, 3)", "(2,)")
    check(lambda: MealyHMM([1.0], "text"), "matrices", "numbers", "str")
    check(lambda: HMM.stack([HMM([1], [[1]], [[1]])] * 2).to_mealy(), "to_mealy", "single", "(2,)")
