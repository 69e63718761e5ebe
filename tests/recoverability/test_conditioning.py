"""Spectra, ranks and distances against NumPy and enumeration; and that rank lies where singular values do not."""

import itertools

import numpy as np
import oracle
import pytest
import torch
from sweeps import sweep

from ppl_hmm import (
    HMM,
    InvalidInput,
    SoftPrompt,
    Spectrum,
    constructed_prompt,
    example,
    random_hmm,
    random_memory_hmm,
    spectra,
)
from ppl_hmm.recoverability.conditioning import total_variation

SEEDS = range(40)


def random_pair(seed):
    """Return a random model, zeros and aliases included, and prompt rows (L,K)."""
    rng = np.random.default_rng(seed)
    n_states, n_tokens, n_prompt = map(int, rng.integers(1, 6, size=3))
    return oracle.random_model(rng, n_states, n_tokens), oracle.random_prompt(rng, n_prompt, n_states)


def entering(model, rows=()):
    """Return the law of the mask's state by summing over every path through the prompt; zeros if it is impossible."""
    law = np.zeros(model.n_states)
    for path in itertools.product(range(model.n_states), repeat=len(rows) + 2):
        weight = model.initial[path[0]].item()
        for step, (state, following) in enumerate(itertools.pairwise(path)):
            weight *= model.transition[state, following].item()
            weight *= rows[step][following] if step < len(rows) else 1
        law[path[-1]] += weight
    return law


def sigma(rows):
    """Return the n-th singular value of n rows: the square root of the least eigenvalue of their Gram matrix."""
    return np.sqrt(max(np.linalg.eigvalsh(rows @ rows.T)[0], 0.0)) if len(rows) else 0.0


@pytest.mark.parametrize("seed", sweep(SEEDS, quick=14))
def test_spectra_are_those_of_numpy(seed):
    model, prompt = random_pair(seed)
    emission, transition = model.emission.numpy(), model.transition.numpy()
    for rows in ((), prompt[:2]):
        found = spectra(model, SoftPrompt(rows) if len(rows) else None)
        matrices = {
            "emission": emission,
            "emission_entered": emission[entering(model, rows) > 0],
            "emission_next": transition @ emission,
            "transition": transition,
        }
        assert list(found) == list(matrices)
        for name, matrix in matrices.items():
            spectrum = found[name]
            values = np.linalg.svd(matrix, compute_uv=False) if len(matrix) else np.zeros(0)
            np.testing.assert_allclose(spectrum.singular_values, values, atol=1e-14)
            assert spectrum.n_rows == len(matrix)
            assert spectrum.sigma_min == pytest.approx(sigma(matrix), abs=1e-7)
            for tolerance in (1e-12, 1e-6, 1e-3, 0.5):
                rank = np.linalg.matrix_rank(matrix, tol=tolerance * values[0]) if len(matrix) else 0
                assert spectrum.effective_rank(tolerance) == rank
            if len(matrix) and spectrum.sigma_min > 1e-3:
                assert spectrum.condition_number == pytest.approx(np.linalg.cond(matrix))
                assert spectrum.effective_rank(1e-3 * spectrum.sigma_min) == len(matrix)


@pytest.mark.parametrize("n_states", [2, 3, 5])
def test_more_states_than_tokens_are_dependent(n_states):
    """K > V: the K-th singular value is zero, whatever the smallest of the V that there are."""
    found = spectra(random_hmm("dirichlet", n_states, n_states - 1, 0))["emission"]
    assert len(found.singular_values) == n_states - 1
    assert found.singular_values[-1] > 1e-3
    assert (found.sigma_min, found.condition_number) == (0, np.inf)
    square = spectra(random_hmm("dirichlet", n_states, n_states, 0))["emission"]
    assert square.sigma_min == float(square.singular_values[-1]) > 0
    wide = spectra(random_hmm("dirichlet", n_states, n_states + 1, 0))["emission"]
    assert wide.sigma_min == float(wide.singular_values[-1]) > 0


def test_no_rows_have_no_rank():
    nothing = Spectrum.of(torch.zeros(0, 3, dtype=torch.float64))
    assert (nothing.sigma_min, nothing.condition_number, nothing.effective_rank(0.1)) == (0, np.inf, 0)
    zeros = Spectrum.of(torch.zeros(2, 3, dtype=torch.float64))
    assert (zeros.sigma_min, zeros.condition_number, zeros.effective_rank(0.1)) == (0, np.inf, 0)


def test_an_impossible_prompt_enters_no_state():
    model = HMM([1, 0], [[1, 0], [0.5, 0.5]], [[0.5, 0.5], [0.1, 0.9]])
    found = spectra(model, SoftPrompt([[0.0, 1.0]]))
    assert (found["emission_entered"].n_rows, found["emission_entered"].sigma_min) == (0, 0)
    assert spectra(model)["emission_entered"].n_rows == 1
    assert spectra(model)["emission"].n_rows == 2


def test_a_prompt_keeps_aliased_states_apart():
    model, task = example("aliased")
    before, after = spectra(model), spectra(model, constructed_prompt(model, task))
    assert before["emission_entered"].sigma_min < 1e-15
    assert after["emission_entered"].sigma_min == pytest.approx(sigma(np.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]])))
    assert after["emission"].sigma_min == before["emission"].sigma_min  # the prompt does not change the model


def test_rank_lies_in_nearly_deterministic_models():
    """W of ``wei2021``: full rank in most models up to K = 10, and a smallest singular value next to nothing."""
    medians = {}
    for n_states in (4, 8, 10):
        found = [spectra(random_hmm("wei2021", n_states, 10, seed))["emission"] for seed in range(40)]
        full = [spectrum.effective_rank(n_states * np.finfo(float).eps) == n_states for spectrum in found]
        assert np.mean(full) > 0.5
        medians[n_states] = np.median([spectrum.sigma_min for spectrum in found])
        numerical = [spectrum.effective_rank(1e-3) for spectrum in found]
        assert n_states == 4 or np.mean(np.array(numerical) < n_states) > 0.5
    assert medians[4] > 0.1
    assert 1e-8 < medians[8] < 1e-3
    assert 1e-14 < medians[10] < 1e-7


@pytest.mark.parametrize("seed", SEEDS[:15])
def test_total_variation_is_the_largest_difference_of_an_event(seed):
    rows = random_pair(seed)[0].emission
    found = total_variation(rows).numpy()
    events = np.array([*itertools.product((0, 1), repeat=rows.shape[1])])
    likely = rows.numpy() @ events.T  # the probability of every event
    np.testing.assert_allclose(found, (likely[:, None] - likely).max(-1), atol=1e-14)
    np.testing.assert_array_equal(np.diag(found), 0)
    np.testing.assert_array_equal(found, found.T)


def test_float32_models_are_looked_at_in_float64():
    model = random_hmm("dirichlet", 3, 4, 0)
    single = spectra(model.to(torch.float32))["emission"]
    assert single.singular_values.dtype == torch.float64
    assert single.sigma_min == pytest.approx(spectra(model)["emission"].sigma_min, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((random_memory_hmm("dirichlet", 2, 2, 3, 0),), "spectra: expected a single HMM, got MemoryHMM"),
        ((HMM.stack([random_hmm("dirichlet", 2, 3, seed) for seed in (0, 1)]),), "batch dimensions"),
        ((random_hmm("dirichlet", 2, 3, 0), SoftPrompt([[1.0, 1.0, 1.0]])), "prompt"),
        ((random_hmm("dirichlet", 2, 3, 0), SoftPrompt([[1.0, -1.0]])), "prompt"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        spectra(*arguments)
