"""The pass from left to right: compiled loops give the laws of torch's recursion, and lose nothing silently."""

import numpy as np
import pytest
import torch
from chains import TINY, arrays
from comparisons import assert_equal
from conftest import BACKENDS
from hypothesis import given, settings, strategies as st

from ppl_hmm.exact import backends, chain, predictive
from ppl_hmm.exact.backends.compiled import groups
from ppl_hmm.exact.recursion import Chain

seeds = st.integers(0, 10_000)
each_backend = pytest.mark.parametrize("backend", BACKENDS)
TOLERANCE = 1e-12


def assert_passes_agree(given_arrays, positions, tolerance=TOLERANCE):
    """Compare compiled loops with torch, absolutely for laws, relative to the longest text for logarithms."""
    ours, expected = (predictive.filtered(Chain(*given_arrays), positions, backend=name) for name in ("numba", "torch"))
    assert_equal(ours.filtered, expected.filtered, tolerance)
    assert_equal(ours.log_prefix, expected.log_prefix, tolerance * (1 + 10 * given_arrays[-1].shape[-1]))


def with_masks(seed, length, share):
    """Return arrays whose last row is the mask's, which texts read at random and after ends of their own."""
    rng = np.random.default_rng(seed)
    initial, transition, table, ids = arrays(seed, n_sequences=9, length=length, zeros=share)
    table = torch.cat([table, torch.ones_like(table[:, :1])], dim=1)
    ends = torch.tensor(rng.integers(length + 1, size=(2, 9, 1)))
    hidden = torch.tensor(rng.random(ids.shape) < 0.3) | (torch.arange(length) >= ends)
    return initial, transition, table, torch.where(hidden, table.shape[1] - 1, ids)


def two_rooms(seed=0):
    """Return two chains that never meet; each of two rows makes the states of one faint beside the others."""
    initial, transition, table, ids = arrays(seed, n_models=2, n_sequences=12)
    transition[:, :2, 2:] = transition[:, 2:, :2] = 0
    table[:, 0, :2] = table[:, 1, 2:] = TINY
    return initial, transition, table, ids


# The same answers.


@settings(max_examples=50)
@given(seeds)
def test_compiled_loops_agree_with_torch(seed):
    rng = np.random.default_rng(seed)
    sizes = {"n_models": 3, "n_sequences": 20, "length": 12, "n_states": 40, "n_rows": 6}
    shape = {name: int(rng.integers(1, most + 1)) for name, most in sizes.items()}
    given_arrays, length = arrays(seed, **shape, zeros=rng.choice([0.0, 0.4])), shape["length"]
    assert_passes_agree(given_arrays, range(-1, length))
    assert_passes_agree(given_arrays, (rng.permutation(length + 1)[: 1 + seed % (length + 1)] - 1).tolist())


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("length", [1, 7])
def test_masks_and_texts_of_different_lengths(length, share):
    for seed in range(5):
        assert_passes_agree(with_masks(seed, length, share), range(-1, length))


@pytest.mark.parametrize("shape", [{"n_states": 1}, {"length": 1}, {"n_sequences": 1}, {"n_models": 1}, {"n_rows": 1}])
def test_what_is_one(shape):
    given_arrays = arrays(0, **shape)
    assert_passes_agree(given_arrays, range(-1, given_arrays[-1].shape[-1]))


@each_backend
@pytest.mark.parametrize("positions", [[-1], range(-1, 0)], ids=["list", "range"])
def test_text_without_a_token_says_nothing(backend, positions):
    initial, *others, ids = arrays(0)
    filtered, log_prefix = predictive.filtered(Chain(initial, *others, ids[..., :0]), positions, backend=backend)
    assert torch.equal(filtered, initial[:, None, None].expand(-1, 3, -1, -1))
    assert torch.equal(log_prefix, torch.zeros(2, 3, 1, dtype=torch.float64))


@each_backend
def test_the_end_of_the_text_is_that_of_smoothing(backend):
    whole = Chain(*arrays(3, n_sequences=20, length=12))
    filtered, log_prefix = predictive.filtered(whole, [11, 4], backend=backend)
    smoothed = chain.forward_backward(whole, [11], backend=backend)
    assert_equal(filtered[:, :, 0], smoothed.marginals[:, :, 0], TOLERANCE)
    assert_equal(log_prefix[:, :, 0], smoothed.log_evidence, TOLERANCE)
    up_to_there = predictive.filtered(whole.with_ids(whole.ids[..., :5]), [4], backend=backend)
    assert torch.equal(filtered[:, :, 1:], up_to_there.filtered)
    assert torch.equal(log_prefix[:, :, 1:], up_to_there.log_prefix)


@each_backend
def test_impossible_text_is_zero_from_there_on(backend):
    initial, transition, table, ids = arrays(0, n_models=1, n_sequences=10)
    table[:, 2] = 0
    found = predictive.filtered(Chain(initial, transition, table, ids), range(-1, 9), backend=backend)
    possible = torch.cat([torch.ones(1, 10, 1, dtype=bool), (ids != 2).cumprod(-1).bool()], dim=-1)
    assert not possible.all()
    assert torch.equal(found.log_prefix > -torch.inf, possible)
    assert_equal(found.filtered.sum(-1), possible.double(), TOLERANCE)


@pytest.mark.parametrize("n_states", [1, 3, 8, 15, 16, 17, 33, 100])
def test_float32_stays_within_the_rounding_bound(n_states):
    """As in test_exact_routes: four times S·(K + 6) relative roundings bound the smoothed law."""
    *single, ids = arrays(0, n_sequences=11, n_states=n_states, dtype=torch.float32)
    ours = predictive.filtered(Chain(*single, ids), range(-1, 9), backend="numba")
    exact = Chain(*(array.double() for array in single), ids)
    expected = predictive.filtered(exact, range(-1, 9), backend="torch")
    bound = 4 * 9 * (n_states + 6) * torch.finfo(torch.float32).eps / 2
    assert ours.filtered.dtype == ours.log_prefix.dtype == torch.float32
    assert_equal(ours.filtered, expected.filtered, bound)
    assert_equal(ours.log_prefix, expected.log_prefix, bound * 10)


def test_threads_change_nothing(monkeypatch):
    whole = Chain(*arrays(0, n_models=3, n_sequences=50))
    alone = predictive.filtered(whole, range(-1, 9), backend="numba")
    monkeypatch.setattr(groups, "WORK_OF_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for one, other in zip(predictive.filtered(whole, range(-1, 9), backend="numba"), alone, strict=True):
        assert torch.equal(one, other)


# Nothing is lost silently.


@each_backend
@pytest.mark.parametrize("seed", range(5))
def test_what_comes_near_underflow_is_computed_in_logarithms(backend, seed):
    whole = Chain(*two_rooms(seed))
    _, lost = backends.choose(whole.transition, backend).filter(whole, range(-1, 9))
    assert lost.any()
    exact, _ = chain.RESCUE.filter(whole, range(-1, 9))
    ours = predictive.filtered(whole, range(-1, 9), backend=backend)
    for one, other in zip(ours, exact, strict=True):
        assert_equal(one, other)


@each_backend
@pytest.mark.parametrize("where", ["start", "end"])
def test_faint_weights_are_seen_at_either_end(backend, where):
    initial, transition, table, ids = arrays(0, n_sequences=4)
    if where == "start":
        initial[:, 0] = 1e-306
        ids = ids[..., :1]
    else:
        table = torch.cat([table, table[:, :1]], dim=1)
        table[:, -1, 0] = 1e-300
        ids[..., -1] = table.shape[1] - 1
    whole = Chain(initial, transition, table, ids)
    _, lost = backends.choose(transition, backend).filter(whole, [ids.shape[-1] - 1])
    assert lost.all()


# The law of the last state, from which text to come starts.


@each_backend
def test_the_last_law_in_logarithms(backend):
    for given_arrays in (arrays(0, n_sequences=20, zeros=0.4), two_rooms()):
        whole = Chain(*given_arrays)
        ours = predictive.log_filtered(whole, backend=backend)
        expected, _ = chain.RESCUE.filter(whole, [8])
        assert not ours.isnan().any()
        assert_equal(ours.exp(), expected.filtered[:, :, 0])
