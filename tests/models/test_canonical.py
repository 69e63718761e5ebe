"""States in an order of their own: how they were numbered changes no bit."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from ppl_hmm import HMM, MemoryHMM, random_hmm
from ppl_hmm.exact.canonical import canonical_order
from ppl_hmm.models.canonical import in_canonical_order


def permuted(model, order):
    """The same law of text, its states called by other numbers."""
    order = torch.as_tensor(order)
    initial, transition = model.initial[order], model.transition[order][:, order]
    if isinstance(model, HMM):
        return HMM(initial, transition, model.emission[order])
    return MemoryHMM(
        model.memory_prior, initial, transition, model.cell_of_state[order], model.emission[:, order]
    )


@st.composite
def tied_models(draw, largest=6):
    """Models of few different probabilities: equal rows, zeros, cycles, copies of the same block."""
    n_states = draw(st.integers(1, largest))

    def laws(n_rows, n_columns):
        counts = st.lists(st.integers(0, 2), min_size=n_columns, max_size=n_columns).filter(any)
        rows = np.array(draw(st.lists(counts, min_size=n_rows, max_size=n_rows)), float)
        return rows / rows.sum(-1, keepdims=True)

    transition = laws(n_states, n_states)
    if draw(st.booleans()):  # moves that no count of them tells apart
        transition = np.eye(n_states)[draw(st.permutations(range(n_states)))]
    emission = laws(n_states, 2) if draw(st.booleans()) else np.full((n_states, 2), 0.5)
    initial = laws(1, n_states)[0] if draw(st.booleans()) else np.full(n_states, 1 / n_states)
    return HMM(initial, transition, emission)


@settings(max_examples=80)
@given(tied_models(), st.randoms(use_true_random=False))
def test_permuted_states_come_into_the_same_order(model, random):
    order = list(range(model.n_states))
    random.shuffle(order)
    assert in_canonical_order(model).identical(in_canonical_order(permuted(model, order)))


def test_all_orders_of_a_model_of_symmetric_and_unsymmetric_ties():
    cycles = np.zeros((6, 6))  # two of three states, told apart by nothing that a state sees, from one of six
    cycles[[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]] = 1
    for transition in (cycles, np.roll(np.eye(6), 1, axis=1), np.full((6, 6), 1 / 6)):
        model = HMM(np.full(6, 1 / 6), transition, np.full((6, 2), 0.5))
        first = in_canonical_order(model)
        orders = list(itertools.permutations(range(6)))[::97]
        assert all(first.identical(in_canonical_order(permuted(model, order))) for order in orders)


def test_models_of_different_laws_stay_different():
    two, one = np.zeros((6, 6)), np.roll(np.eye(6), 1, axis=1)
    two[[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]] = 1
    orders = [canonical_order(np.ones((6, 1)), matrix) for matrix in (one, two)]
    assert not np.array_equal(one[np.ix_(orders[0], orders[0])], two[np.ix_(orders[1], orders[1])])


def test_states_are_sorted_by_their_rows_in_each_model_of_a_batch():
    models = HMM.stack([random_hmm("dirichlet", 4, 3, seed=seed) for seed in range(3)])
    ordered = in_canonical_order(models)
    for each, before in zip(ordered.emission.tolist(), models.emission.tolist(), strict=True):
        assert each == sorted(before)
    assert ordered[1].identical(in_canonical_order(models[1]))


@pytest.mark.parametrize("seed", range(3))
def test_memory_models(seed):
    stream = np.random.default_rng(seed)
    emission = np.repeat(stream.dirichlet(np.ones(3), size=(2, 2)), 2, axis=1)  # states in pairs of equal rows
    model = MemoryHMM(
        np.full((2, 2), 0.5), np.full(4, 0.25), stream.dirichlet(np.ones(4), size=4), [0, 0, 1, 1], emission
    )
    assert all(
        in_canonical_order(model).identical(in_canonical_order(permuted(model, order)))
        for order in itertools.permutations(range(4))
    )


def test_names_of_states_move_with_them():
    model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.1, 0.9]]).assign_names(state=("low", "high"))
    assert in_canonical_order(model).names["state"] == ("high", "low")
