"""Identifiability: laws against brute force, twins that pairs cannot tell apart, and how many directions stay open."""

import itertools

import numpy as np
import oracle
import pytest
import torch
from sweeps import sweep

from ppl_hmm.base.tokens import MASK
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.queries import log_likelihood
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.identifiability import (
    pair_law,
    pair_spectrum,
    pairwise_twin,
    triple_law,
    triple_spectrum,
    triple_views,
)
from ppl_hmm.regimes import random_hmm

STATES_AND_TOKENS = [(3, 3), (3, 5), (4, 4), (4, 6), (5, 5), (5, 7)]


def doubly_stochastic(n_states, vocabulary_size, seed):
    """States stay, move by a mixture of permutations, or move anywhere; uniform π₀, all entries positive."""
    rng = np.random.default_rng(seed)
    permutations = sum(
        weight * np.eye(n_states)[rng.permutation(n_states)] for weight in rng.dirichlet(np.ones(2 * n_states))
    )
    transition = 0.5 * np.eye(n_states) + 0.3 * permutations + 0.2 / n_states
    emission = rng.dirichlet(np.ones(vocabulary_size), size=n_states)
    return HMM(np.full(n_states, 1 / n_states), transition, emission)


def brute_force(model, length):
    """P(X_1..X_length) as an array (V,..,V), from all paths."""
    texts = oracle.all_texts(model.vocabulary_size, length)
    law = np.exp([oracle.log_evidence(model, text) for text in texts])
    return law.reshape((model.vocabulary_size,) * length)


# The laws.


@pytest.mark.parametrize("seed", sweep(30, quick=10))
def test_laws_are_those_of_all_paths_and_of_the_likelihood(seed):
    rng = np.random.default_rng(seed)
    n_states, vocabulary_size = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    model = oracle.random_model(rng, n_states, vocabulary_size)
    tokens = range(vocabulary_size)

    law = brute_force(model, 4)
    np.testing.assert_allclose(triple_law(model), law.sum(3), atol=1e-14)
    for lag, summed in ((1, (2, 3)), (2, (1, 3)), (3, (1, 2))):
        np.testing.assert_allclose(pair_law(model, lag), law.sum(summed), atol=1e-14)

    triples = list(itertools.product(tokens, repeat=3))
    likelihood = log_likelihood(model, triples).exp().numpy()
    np.testing.assert_allclose(triple_law(model).flatten(), likelihood, atol=1e-14)
    pairs = [[x, *[MASK] * 6, y] for x in tokens for y in tokens]
    np.testing.assert_allclose(pair_law(model, 7).flatten(), log_likelihood(model, pairs).exp(), atol=1e-14)


def test_stationary_laws_are_the_same_at_every_time():
    model = doubly_stochastic(3, 4, 0)
    later = HMM(model.initial @ torch.linalg.matrix_power(model.transition, 5), model.transition, model.emission)
    for lag in (1, 4):
        torch.testing.assert_close(pair_law(later, lag), pair_law(model, lag), rtol=0, atol=1e-15)
    torch.testing.assert_close(triple_law(later), triple_law(model), rtol=0, atol=1e-15)


# Twins.


def assert_twins(model, twin):
    """Pairs agree at every lag; triples differ in total variation, the advantage of the best test on one triple."""
    for lag in (1, 2, 3, 7):
        np.testing.assert_allclose(pair_law(twin.model, lag), pair_law(model, lag), rtol=0, atol=1e-12)
    assert twin.pair_distance < 1e-12
    distance = np.abs(brute_force(twin.model, 3) - brute_force(model, 3)).sum() / 2
    assert twin.triple_distance == pytest.approx(distance, abs=1e-12)
    rotation = twin.rotation
    torch.testing.assert_close(
        rotation @ rotation.mT, torch.eye(len(rotation), dtype=torch.float64), rtol=0, atol=1e-13
    )
    for rows in (twin.model.initial, twin.model.transition, twin.model.emission):
        assert (rows > 0).all()
        np.testing.assert_allclose(rows.sum(-1), 1, atol=1e-13)


@pytest.mark.parametrize(("n_states", "vocabulary_size"), STATES_AND_TOKENS)
@pytest.mark.parametrize("seed", range(3))
def test_a_rotation_in_the_doubly_stochastic_family(n_states, vocabulary_size, seed):
    model = doubly_stochastic(n_states, vocabulary_size, seed)
    twin = pairwise_twin(model, family="doubly stochastic")
    assert_twins(model, twin)
    assert twin.triple_distance > 1e-3
    R = twin.rotation
    np.testing.assert_allclose(R.sum(1), 1, atol=1e-13)
    np.testing.assert_allclose(twin.model.initial, 1 / n_states, atol=1e-13)
    np.testing.assert_allclose(twin.model.transition, R.mT @ model.transition @ R, atol=1e-13)
    np.testing.assert_allclose(twin.model.transition.sum(0), 1, atol=1e-13)
    np.testing.assert_allclose(twin.model.emission.mT, model.emission.mT @ R, atol=1e-13)


@pytest.mark.parametrize("seed", sweep(20, quick=8))
def test_every_positive_model_has_a_twin(seed):
    """Neither stationary nor doubly stochastic, from two states on, also with fewer tokens than states."""
    rng = np.random.default_rng(seed)
    n_states, vocabulary_size = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    model = random_hmm("dirichlet", n_states, vocabulary_size, seed, concentration=2.0)
    twin = pairwise_twin(model, seed=seed)
    assert_twins(model, twin)
    assert twin.triple_distance > 1e-6
    assert not twin.model.allclose(model, atol=1e-3)


def test_twins_of_a_stationary_model_agree_at_every_time():
    model = doubly_stochastic(2, 3, 0)
    twin = pairwise_twin(model).model
    assert not np.allclose(twin.initial, 0.5, atol=1e-2)  # the law of the state has moved, and is stationary again
    torch.testing.assert_close(twin.initial @ twin.transition, twin.initial, rtol=0, atol=1e-14)


def test_no_triple_tells_states_apart_that_emit_alike():
    model = doubly_stochastic(3, 4, 0)
    alike = HMM(model.initial, model.transition, model.emission[:1].repeat(3, 1))
    assert pairwise_twin(alike).triple_distance < 1e-12


# Directions that stay open.


@pytest.mark.parametrize("n_states", [2, 3, 4])
@pytest.mark.parametrize("more_tokens", [0, 1, 3])
@pytest.mark.parametrize("seed", range(2))
def test_nullity_of_pairs_with_at_least_as_many_tokens_as_states(n_states, more_tokens, seed):
    K = n_states
    model = doubly_stochastic(K, K + more_tokens, seed)
    assert pair_spectrum(model, family="doubly stochastic").nullity == (K - 1) * (K - 2) // 2
    assert pair_spectrum(model, [1], family="doubly stochastic").nullity == (K - 1) ** 2
    for any_model in (model, random_hmm("dirichlet", K, K + more_tokens, seed, concentration=2.0)):
        assert pair_spectrum(any_model).nullity == K * (K - 1) // 2
        assert pair_spectrum(any_model, [1, 2]).nullity == K * (K - 1) // 2
        assert pair_spectrum(any_model, range(1, 8)).nullity == K * (K - 1) // 2
        assert pair_spectrum(any_model, [1]).nullity == K * (K - 1)


@pytest.mark.parametrize("n_states", [1, 2, 3, 4])
@pytest.mark.parametrize("vocabulary_size", [1, 2, 3, 4, 5])
def test_nullity_of_triples(n_states, vocabulary_size):
    """0 where V ≥ K; else (K−V)², or the parameters less the equations if that is more, as it is for K=3, V=2."""
    K, V = n_states, vocabulary_size
    model, stationary = random_hmm("dirichlet", K, V, 1, concentration=2.0), doubly_stochastic(K, V, 0)
    n_free, n_doubly = (K - 1) + K * (K - 1) + K * (V - 1), (K - 1) ** 2 + K * (V - 1)
    free, doubly = triple_spectrum(model), triple_spectrum(stationary, family="doubly stochastic")
    assert (free.n_parameters, doubly.n_parameters) == (n_free, n_doubly)
    kernel = max(K - V, 0) ** 2
    assert free.nullity == max(kernel, n_free - (V**3 - 1))
    assert doubly.nullity == max(kernel, n_doubly - (V**3 - V**2))
    if V >= K:
        assert free.nullity == doubly.nullity == 0


def test_three_states_and_two_tokens_leave_more_than_one_direction():
    """V³ − V² = 4 equations, V³ − 1 = 7 without stationarity, for 7 and 11 parameters."""
    assert triple_spectrum(doubly_stochastic(3, 2, 0), family="doubly stochastic").nullity == 3
    assert triple_spectrum(random_hmm("dirichlet", 3, 2, 0)).nullity == 4


def test_singular_values_are_those_of_finite_differences():
    """The norm of the law's change is J's, along steps of the coordinates: here of W alone, in an orthonormal basis."""
    model = random_hmm("dirichlet", 2, 2, 0)
    spectrum = pair_spectrum(model, [1])
    assert spectrum.n_parameters == len(spectrum.singular_values) == 5
    assert (spectrum.singular_values.diff() <= 0).all()
    step, columns = 1e-6, []
    zero_sum = np.array([1, -1]) / np.sqrt(2)
    arrays = [model.initial.numpy(), model.transition.numpy(), model.emission.numpy()]
    for which, row in [(0, None), (1, 0), (1, 1), (2, 0), (2, 1)]:
        laws = []
        for sign in (1, -1):
            moved = [array.copy() for array in arrays]
            target = moved[which] if row is None else moved[which][row]
            target += sign * step * zero_sum
            laws.append(pair_law(HMM(*moved), 1).numpy().ravel())
        columns.append((laws[0] - laws[1]) / (2 * step))
    expected = np.append(np.linalg.svd(np.array(columns).T)[1], 0)
    np.testing.assert_allclose(spectrum.singular_values, expected, atol=1e-9)


@pytest.mark.parametrize(("family", "n_open"), [("free", 3), ("doubly stochastic", 1)])
def test_open_directions_stand_apart(family, n_open):
    values = pair_spectrum(doubly_stochastic(3, 4, 1), family=family).singular_values
    assert values[-n_open] < 1e-14 < 1e-6 < values[-n_open - 1]


def test_the_tolerance_decides_what_counts_as_zero():
    model = random_hmm("dirichlet", 3, 4, 0)
    values = triple_spectrum(model).singular_values
    between = float((values[-1] + values[-2]) / 2 / values[0])
    assert triple_spectrum(model, tolerance=between).nullity == 1
    assert triple_spectrum(model, tolerance=0.0).nullity == 0
    assert triple_spectrum(model, tolerance=1.0).nullity == len(values)


# Views.


def naive_k_rank(rows):
    return max(
        (
            k
            for k in range(1, len(rows) + 1)
            if all(np.linalg.matrix_rank(rows[list(s)]) == k for s in itertools.combinations(range(len(rows)), k))
        ),
        default=0,
    )


@pytest.mark.parametrize("seed", sweep(30, quick=10))
def test_views_are_conditionals_of_tokens_given_the_middle_state(seed):
    rng = np.random.default_rng(seed)
    K, V = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    model = oracle.random_model(rng, K, V)
    initial, A, W = model.initial.numpy(), model.transition.numpy(), model.emission.numpy()
    joint = np.zeros((3, K, V))  # P(H_2=h, X_t=x) by paths h_0..h_3
    for h0, h1, h2, h3 in itertools.product(range(K), repeat=4):
        path = initial[h0] * A[h0, h1] * A[h1, h2] * A[h2, h3]
        for t, h in enumerate((h1, h2, h3)):
            joint[t, h2] += path * W[h]
    visits = joint[0].sum(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        views = np.where(visits > 0, joint / visits, [np.zeros_like(W), W, A @ W])

    result = triple_views(model)
    for t, view in enumerate(views):
        expected = np.linalg.svd(view)[1].min() if K <= V else 0.0
        assert result.sigma_min[t] == pytest.approx(expected, abs=1e-12)
        assert result.k_ranks[t] == naive_k_rank(view)
    full = np.linalg.matrix_rank(W) == K
    assert result.identifies == (full and (K == 1 or sum(map(naive_k_rank, views)) >= 2 * K + 2))


def test_kruskals_condition_alone_does_not_give_the_transition():
    """K = 5, V = 4: k-ranks 4 + 4 + 4 = 12 = 2K + 2, but rank W < K: the views are known, and A is not."""
    model = random_hmm("dirichlet", 5, 4, 0)
    views = triple_views(model)
    assert views.k_ranks == (4, 4, 4)
    assert not views.identifies
    kernel_of_rows = np.linalg.svd(model.emission.numpy().T)[2][-1]
    law = (model.initial @ model.transition).numpy()
    kernel_of_law = np.linalg.svd((law[:, None] * model.emission.numpy()).T)[2][-1]
    # A + left·rightᵀ with rightᵀW = 0 and leftᵀdiag(p)W = 0; π₀ gives the same p.
    step = 0.1 * np.outer(kernel_of_law, kernel_of_rows)
    transition = model.transition.numpy() + step * float(model.transition.min()) / np.abs(step).max()
    other = HMM(np.linalg.solve(transition.T, law), transition, model.emission)
    assert not np.allclose(other.transition, model.transition, atol=1e-6)
    np.testing.assert_allclose(triple_law(other), triple_law(model), atol=1e-14)


def test_independent_rows_identify_in_two_states_and_more():
    for n_states in (1, 2, 3, 5):
        assert triple_views(random_hmm("dirichlet", n_states, 5, 0)).identifies
    assert not triple_views(random_hmm("degenerate", 3, 5, 0)).identifies
    aliased = random_hmm("dirichlet", 3, 5, 0)
    aliased = HMM(aliased.initial, aliased.transition, aliased.emission[[0, 1, 1]])
    assert triple_views(aliased).k_ranks[1] == 1


def test_many_states_end_with_a_lower_bound():
    views = triple_views(random_hmm("dirichlet", 40, 10, 0))
    assert views.sigma_min == (0.0, 0.0, 0.0)
    assert all(2 <= k <= 10 for k in views.k_ranks)


# Bad input.

MODEL, SMALL = random_hmm("dirichlet", 3, 4, 0), doubly_stochastic(2, 3, 0)
DOUBLY = {"family": "doubly stochastic"}


@pytest.mark.parametrize(
    ("function", "arguments", "options", "message"),
    [
        (pair_law, [HMM.stack([MODEL, MODEL]), 1], {}, "pair_law: expected a single HMM"),
        (pair_law, [MODEL, 0], {}, "lag: expected an integer of at least 1, got 0"),
        (triple_law, ["model"], {}, "triple_law: expected a single HMM, got str"),
        (pair_spectrum, [MODEL, []], {}, "number of lags: expected an integer of at least 1, got 0"),
        (pair_spectrum, [MODEL, [1, 0]], {}, "lag: expected an integer of at least 1"),
        (pair_spectrum, [MODEL], {"tolerance": -1}, "tolerance: expected a non-negative number"),
        (triple_spectrum, [MODEL], {"family": "any"}, "unknown family: expected one of doubly stochastic, free"),
        (triple_spectrum, [MODEL], DOUBLY, "expected doubly stochastic A and uniform π₀"),
        (triple_spectrum, [random_hmm("dirichlet", 30, 40, 0)], {}, "Jacobian: expected at most 33554432"),
        (pairwise_twin, [MODEL], DOUBLY, "expected doubly stochastic A and uniform π₀"),
        (pairwise_twin, [MODEL], {"n_directions": 0}, "n_directions: expected an integer of at least 1"),
        (pairwise_twin, [random_hmm("dirichlet", 1, 3, 0)], {}, "n_states: expected an integer of at least 2, got 1"),
        (pairwise_twin, [SMALL], DOUBLY, "n_states: expected an integer of at least 3, got 2"),
        (pairwise_twin, [HMM([0.5, 0.5], np.eye(2), np.eye(2))], {}, "expected π₀, A, W > 0 entrywise, got a zero"),
        (triple_views, [MODEL], {"tolerance": -1.0}, "tolerance: expected a non-negative number"),
    ],
)
def test_bad_arguments(function, arguments, options, message):
    with pytest.raises(InvalidInput, match=message):
        function(*arguments, **options)
