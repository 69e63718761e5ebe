"""Derivatives of log P(x) against exact rational arithmetic: zeros, and entries that no product of floats can hold."""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import BACKENDS
from hypothesis import given, strategies as st

from ppl_hmm import HMM, MemoryHMM, log_likelihood, posterior
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact import chain
from ppl_hmm.exact.recursion import Chain

LARGEST = Fraction(torch.finfo(torch.float64).max)
#: Entries and derivatives below are no normal floats.
SMALLEST = 1e-300

each_backend = pytest.mark.parametrize("backend", BACKENDS)
seeds = st.integers(0, 100_000)


def exact(array):
    """Return the floats of an array as fractions: no rounding."""
    return np.vectorize(Fraction, otypes=[object])(np.asarray(array, float))


def exact_derivatives(initial, transition, rows):
    """Return P(rows), and its derivatives by π₀ (K,), A (K,K) and each row (T,K), as fractions."""
    forth, back = [initial], [exact(np.ones(len(initial)))]
    for row in rows:
        forth.append(forth[-1] @ transition * row)
    for row in rows[::-1]:
        back.append(transition @ (row * back[-1]))
    back = back[::-1]
    of_moves = sum(np.outer(forth[t], row * back[t + 1]) for t, row in enumerate(rows))
    of_rows = np.array([forth[t] @ transition * back[t + 1] for t in range(len(rows))])
    return initial @ back[0], back[0], of_moves, of_rows


def as_float(number):
    """Round a fraction; inf beyond the largest float."""
    return float(number) if abs(number) <= LARGEST else float("inf") * (1 if number > 0 else -1)


def assert_relative(ours, expected):
    """Each entry is right to 1e-9 of itself, infinities included."""
    ours, expected = np.asarray(ours), np.vectorize(as_float, otypes=[float])(expected)
    with np.errstate(invalid="ignore"):
        close = (ours == expected) | (np.abs(ours - expected) <= 1e-9 * np.abs(expected) + SMALLEST)
    assert close.all(), (ours[~close], expected[~close])


def assert_close(ours, expected, relative=1e-9):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(expected), rtol=relative, atol=0)


def wide(rng, *shape):
    """Return entries that are zero, or down to 1e-300, or of common size; one of each row is of that."""
    entries = np.where(rng.random(shape) < 0.5, 10.0 ** rng.uniform(-300, 0, shape), rng.uniform(0.1, 1, shape))
    entries *= rng.random(shape) >= 0.3
    entries[..., rng.integers(shape[-1])] = rng.uniform(0.1, 1)
    return entries


@functools.cache
def random_chains(n_states, n_models=125, length=4, n_rows=3):
    """Return models with a text and a weight each, and what rational arithmetic says of them; possible ones only."""
    rng, found = np.random.default_rng(n_states), []
    while len(found) < n_models:
        parameters = wide(rng, n_states), wide(rng, n_states, n_states), wide(rng, n_rows, n_states)
        text, weight = rng.integers(n_rows, size=length), rng.choice([-1.0, 0.5, 2.0])
        rows_of_text = exact(parameters[2][text])
        evidence, of_initial, of_moves, of_rows = exact_derivatives(*map(exact, parameters[:2]), rows_of_text)
        if evidence > 0:
            of_table = exact(np.zeros((n_rows, n_states)))
            np.add.at(of_table, text, of_rows)
            expected = [each * Fraction(weight) / evidence for each in (of_initial, of_moves, of_table)]
            found.append((*parameters, text, weight, *expected))
    return [np.array(part) for part in zip(*found, strict=True)]


@each_backend
@pytest.mark.parametrize("n_states", [1, 2, 3, 4])
def test_five_hundred_models_equal_rational_arithmetic(backend, n_states):
    *parameters, texts, weights, of_initial, of_moves, of_table = random_chains(n_states)
    leaves = [torch.tensor(each).requires_grad_() for each in parameters]
    evidence = chain.log_evidence(Chain(*leaves, torch.tensor(texts)[:, None]), backend=backend)
    ours = torch.autograd.grad((evidence[:, 0] * torch.tensor(weights)).sum(), leaves)
    for one, expected in zip(ours, (of_initial, of_moves, of_table), strict=True):
        assert_relative(one, expected)


def test_the_five_hundred_models_cover_what_they_should():
    every = [random_chains(n_states) for n_states in (2, 3, 4)]
    derivatives = np.concatenate([np.abs(part).ravel() for each in every for part in each[5:]])
    assert (derivatives > LARGEST).sum() >= 10
    assert ((derivatives > 10**200) & (derivatives <= LARGEST)).sum() >= 50
    at_zero = np.concatenate([each[6][each[1] == 0] for each in every])
    assert (at_zero != 0).sum() > 300  # derivatives by entries that are exactly zero


@each_backend
@pytest.mark.parametrize("length", [320, 340, 500])
def test_zeros_of_the_transition_keep_their_derivative_in_long_text(backend, length):
    """A = I: the state that pays less gains 9 to 1 a token; Σ_t 9^{-t} = 1/8, and 1 + 1/8 the other way."""
    transition = torch.eye(2, dtype=torch.float64)[None].requires_grad_()
    initial = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    table = torch.tensor([[[0.9, 0.1], [0.1, 0.9]]], dtype=torch.float64)
    evidence = chain.log_evidence(Chain(initial, transition, table, torch.zeros(1, 1, length).long()), backend=backend)
    (ours,) = torch.autograd.grad(evidence.sum(), transition)
    np.testing.assert_allclose(ours[0] - torch.diag(ours[0].diagonal()), [[0, 0.125], [1.125, 0]], rtol=1e-9)


@each_backend
def test_a_lost_text_adds_its_share_beside_others(backend):
    """One batch of texts that do and do not come near underflow: the sum of what each gives alone."""
    initial = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    transition = torch.eye(2, dtype=torch.float64)[None]
    table = torch.tensor([[[0.9, 0.1], [0.1, 0.9]]], dtype=torch.float64)
    texts = torch.zeros(1, 3, 340).long()
    texts[0, 1, ::2] = 1
    weights = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.float64)
    arrays = (initial, transition, table)
    together = chain.log_evidence_gradient(Chain(*arrays, texts), weights, backend=backend)
    alone = [
        chain.log_evidence_gradient(Chain(*arrays, texts[:, b, None]), weights[:, b, None], backend=backend)
        for b in range(3)
    ]
    for one, parts in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(one, sum(parts), rtol=1e-9)


@each_backend
def test_products_within_reach_of_floats_do_not_underflow_on_the_way(backend):
    """Not one weight is faint, but predicted · message is 1e-320 where the derivative is 1e-80."""
    initial, transition = np.array([1.0, 0.0]), np.array([[1.0, 1e-30], [0.0, 1.0]])
    table = np.array([[1e-10, 1.0], [1.0, 0.0], [0.5, 0.5]])
    rng = np.random.default_rng(0)
    for _ in range(20):
        text = rng.integers(3, size=9)
        expected = exact_derivatives(*map(exact, (initial, transition)), exact(table[text]))
        if expected[0] == 0:
            continue
        arrays = [torch.tensor(each)[None] for each in (initial, transition, table)]
        ours = chain.log_evidence_gradient(
            Chain(*arrays, torch.tensor(text)[None, None]), torch.ones(1, 1, dtype=torch.float64), backend=backend
        )
        assert_relative(ours.transition[0], expected[2] / expected[0])
        assert_relative(ours.initial[0], expected[1] / expected[0])


@each_backend
def test_a_derivative_beyond_any_float_is_infinite_and_never_a_number_by_accident(backend):
    """Only state 0 can start and stay; state 1 would say 400 tokens of 0.1 for certain: a gain of 1e400."""
    initial = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    arrays = (initial, torch.eye(2, dtype=torch.float64)[None], torch.tensor([[[0.1, 1.0]]], dtype=torch.float64))
    text, weights = torch.zeros(1, 2, 400).long(), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    ours = chain.log_evidence_gradient(Chain(*arrays, text), weights, backend=backend)
    assert ours.transition[0, 0, 1] == ours.initial[0, 1] == torch.inf
    np.testing.assert_allclose(ours.transition[0, :, 0], [400, 0])
    with pytest.raises(InvalidInput, match=r"derivative of the log-likelihood by initial\[1\] of model 0.*inf − inf"):
        chain.log_evidence_gradient(
            Chain(*arrays, text), torch.tensor([[1.0, -1.0]], dtype=torch.float64), backend=backend
        )


def test_float32_keeps_the_derivative_at_zeros():
    transition = torch.eye(2)[None].requires_grad_()
    initial, table = torch.tensor([[0.5, 0.5]]), torch.tensor([[[0.9, 0.1], [0.1, 0.9]]])
    evidence = chain.log_evidence(Chain(initial, transition, table, torch.zeros(1, 1, 60).long()))
    (ours,) = torch.autograd.grad(evidence.sum(), transition)
    np.testing.assert_allclose([ours[0, 0, 1], ours[0, 1, 0]], [0.125, 1.125], rtol=1e-4)


# With a memory: ∂P(x) = Σ_M ∂[P(M) P(x|M)], also where P(x|M) is zero.


def exact_memory_derivatives(prior, initial, transition, cells, emission, text):
    """Return P(x), and its derivatives by the prior (N,m), π₀, A and W (m,K,V), as fractions."""
    n_cells, n_values = prior.shape
    total, sums = Fraction(0), [exact(np.zeros(each.shape)) for each in (prior, initial, transition, emission)]
    states = np.arange(len(initial))
    for memory in itertools.product(range(n_values), repeat=n_cells):
        factors, reads = [prior[j, a] for j, a in enumerate(memory)], np.array(memory)[cells]
        weight = math.prod(factors)
        evidence, *of_chain = exact_derivatives(initial, transition, emission[reads, states][:, text].T)
        total += weight * evidence
        for j, a in enumerate(memory):
            sums[0][j, a] += math.prod(factors[:j] + factors[j + 1 :]) * evidence
        sums[1] += weight * of_chain[0]
        sums[2] += weight * of_chain[1]
        for t, token in enumerate(text):
            sums[3][reads, states, token] += weight * of_chain[2][t]
    return total, sums


def rows(rng, *shape, smallest):
    """Return distributions with zeros and entries down to 10^smallest, the largest at the end."""
    entries = 10.0 ** rng.uniform(smallest, -1, shape) / shape[-1] * (rng.random(shape) >= 0.3)
    entries[..., -1] = 1 - entries[..., :-1].sum(-1)
    return entries


def random_memory_chain(seed, smallest):
    rng = np.random.default_rng(seed)
    n_cells, n_values, n_states, n_tokens = rng.integers(1, 4), rng.integers(2, 4), rng.integers(1, 4), 3
    return (
        rows(rng, n_cells, n_values, smallest=smallest),
        rows(rng, n_states, smallest=smallest),
        rows(rng, n_states, n_states, smallest=smallest),
        rng.integers(n_cells, size=n_states),
        rows(rng, n_values, n_states, n_tokens, smallest=smallest),
        rng.integers(n_tokens, size=rng.integers(1, 5)),
    )


@each_backend
@pytest.mark.parametrize("smallest", [-1.5, -300])
def test_memory_models_equal_rational_arithmetic(backend, smallest, monkeypatch):
    monkeypatch.setenv("PPL_HMM_BACKEND", backend)
    n_possible = 0
    for seed in range(40):
        *arrays, text = random_memory_chain(seed, smallest)
        cells = arrays.pop(3)
        total, expected = exact_memory_derivatives(*map(exact, arrays[:3]), cells, exact(arrays[3]), text)
        leaves = [torch.tensor(each).requires_grad_() for each in arrays]
        evidence = log_likelihood(MemoryHMM(*leaves[:3], torch.tensor(cells), leaves[3]), text[None])
        assert (evidence > -torch.inf) == (total > 0)
        if total == 0:
            continue
        n_possible += 1
        for one, other in zip(torch.autograd.grad(evidence.sum(), leaves), expected, strict=True):
            assert_relative(one, other / total)
    assert n_possible > 20


def test_a_prior_whose_product_is_no_float_is_no_zero():
    """P(M) = 1e-400 is all that explains the text."""
    cells = {"initial": [0.5, 0.5], "transition": [[0.0, 1.0], [1.0, 0.0]], "cell_of_state": [0, 1]}
    certain = [[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]]
    prior = torch.tensor([[1e-200, 1.0], [1e-200, 1.0]], dtype=torch.float64, requires_grad=True)
    evidence = log_likelihood(MemoryHMM(memory_prior=prior, emission=certain, **cells), [[0, 0]])
    np.testing.assert_allclose(evidence.item(), 2 * np.log(1e-200), rtol=1e-14)
    (ours,) = torch.autograd.grad(evidence.sum(), prior)
    np.testing.assert_allclose(ours, [[1e200, 0], [1e200, 0]], rtol=1e-10)


def test_many_cells_in_float32():
    """A prior of 1e-5 in each of 10 cells: 1e-50 is no float32."""
    n = 10
    model = MemoryHMM(
        torch.tensor([[1e-5, 0.99999]] * n),
        torch.full((n,), 1 / n),
        torch.roll(torch.eye(n), 1, 1),
        torch.arange(n),
        torch.tensor([[[1.0, 0.0]] * n, [[0.0, 1.0]] * n]),
    )
    assert_close(log_likelihood(model, [[0] * n]), [n * np.log(1e-5)], 1e-6)
    # The eleventh token is told by the cell that told the first: it cannot be another.
    with pytest.raises(InvalidInput, match="sequence 0 is impossible from position 10 on"):
        posterior(model, [[0] * n + [1]])


def test_flattening_refuses_what_it_would_lose():
    model = MemoryHMM([[1e-200, 1.0]] * 2, [1.0], [[1.0]], [0], [[[0.5, 0.5]]] * 2)
    with pytest.raises(InvalidInput, match=r"flatten: .*, got a positive one of 0\.0e\+00; use the memory model"):
        model.flatten()
    assert MemoryHMM([[0.0, 1.0]] * 2, [1.0], [[1.0]], [0], [[[0.5, 0.5]]] * 2).flatten().n_states == 4


@given(seeds)
def test_one_sided_differences_agree_at_zeros(seed):
    """A third route, for the whole of a model: a zero of the emission moved by a little."""
    rng = np.random.default_rng(seed)
    emission = rows(rng, 2, 3, smallest=-1.5)
    emission[0, 0] = 0
    emission /= emission.sum(-1, keepdims=True)
    text, step = rng.integers(3, size=(1, 4)), 1e-7
    point = torch.tensor(emission, requires_grad=True)
    base = log_likelihood(HMM([0.5, 0.5], [[0.5, 0.5]] * 2, point), text)
    if base.isinf():
        return
    (ours,) = torch.autograd.grad(base.sum(), point)
    table = torch.cat([point.detach().mT, torch.ones(1, 2, dtype=torch.float64)])[None]
    table[0, 0, 0] = step
    half = torch.full((1, 2), 0.5, dtype=torch.float64)
    moved = chain.log_evidence(Chain(half, half[:, None].expand(-1, 2, -1), table, torch.tensor(text)[None]))
    np.testing.assert_allclose((moved - base.detach()).item() / step, ours[0, 0], rtol=1e-4, atol=1e-6)
