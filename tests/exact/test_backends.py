"""Backends give the same answers, lose nothing silently, and differentiate by expected counts."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import forked
import numpy as np
import peak_memory
import pytest
import torch
from chains import TINY, arrays
from comparisons import assert_equal
from conftest import BACKENDS
from hypothesis import given, strategies as st

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact import backends, chain, paths
from ppl_hmm.exact.algebra import SCALED
from ppl_hmm.exact.backends.compiled import Compiled, groups, room
from ppl_hmm.exact.backends.recursive import Recursive
from ppl_hmm.exact.recursion import Chain

seeds = st.integers(0, 10_000)
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def random_shape(seed):
    rng = np.random.default_rng(seed)
    sizes = {"n_models": 3, "n_sequences": 20, "length": 12, "n_states": 40, "n_rows": 6}
    return {name: int(rng.integers(1, most + 1)) for name, most in sizes.items()} | {"zeros": rng.choice([0.0, 0.4])}


def by_tape(initial, transition, table, ids, weights):
    """Return the gradient by torch's own tape through the recursion."""
    leaves = [array.clone().requires_grad_() for array in (initial, transition, table)]
    evidence, lost = Recursive(SCALED).evidence(Chain(*leaves, ids))
    assert not lost.any()
    return torch.autograd.grad((evidence * weights).sum(), leaves)


# The same answers.


@given(seeds)
def test_passes_agree(seed):
    given_arrays = arrays(seed, **random_shape(seed))
    length = given_arrays[-1].shape[-1]
    positions = np.random.default_rng(seed).permutation(length)[: 1 + seed % length].tolist()
    for ask in (
        lambda backend: [chain.log_evidence(Chain(*given_arrays), backend=backend)],
        lambda backend: chain.forward_backward(Chain(*given_arrays), positions, backend=backend),
        lambda backend: chain.forward_backward(Chain(*given_arrays), positions, own_token=False, backend=backend),
        lambda backend: chain.messages_at(Chain(*given_arrays), [*positions, -1], backend=backend),
    ):
        for ours, expected in zip(ask("numba"), ask("torch"), strict=True):
            if expected is not None:
                assert_equal(ours, expected)


@each_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_states", [1, 8, 15, 16, 17, 33, 100])
def test_float32_stays_within_the_rounding_bound(backend, dtype, n_states):
    """As in test_exact_routes: four times S·(K + 6) relative roundings bound the smoothed law."""
    single = arrays(0, n_sequences=11, n_states=n_states, dtype=torch.float32)
    exact = [array.double() if array.is_floating_point() else array for array in single]
    given_arrays = single if dtype == torch.float32 else exact
    ours = chain.forward_backward(Chain(*given_arrays), range(9), backend=backend)
    expected = chain.forward_backward(Chain(*exact), range(9), backend="torch")
    assert ours.marginals.dtype == dtype
    assert_equal(ours.marginals, expected.marginals, 4 * 9 * (n_states + 6) * torch.finfo(dtype).eps / 2 + 1e-14)


@given(seeds)
def test_bfloat16_products_stay_within_the_rounding_bound(seed):
    """Three roundings a step, of relative size 2⁻⁸ each, of numbers that are never negative."""
    single = arrays(seed, **random_shape(seed), dtype=torch.float32)
    exact = [array.double() if array.is_floating_point() else array for array in single]
    length, unit = single[-1].shape[-1], 2.0**-8
    ours = chain.forward_backward(Chain(*single), range(length), backend="torch-bfloat16")
    expected = chain.forward_backward(Chain(*exact), range(length), backend="torch")
    possible = expected.log_evidence > -torch.inf
    assert torch.equal(ours.log_evidence > -torch.inf, possible)
    largest = 3 * length * (unit + 1e-4)
    assert_equal(ours.log_evidence[possible], expected.log_evidence[possible], largest)
    # A law is a ratio of such products.
    relative = np.expm1(2 * largest)
    assert ((ours.marginals - expected.marginals).abs() <= relative * expected.marginals + 1e-7).all()


def test_bfloat16_products_need_float32():
    with pytest.raises(InvalidInput, match=r"backend: expected float32 parameters, got torch\.float64"):
        chain.log_evidence(Chain(*arrays(0)), backend="torch-bfloat16")


def test_threads_change_nothing(monkeypatch):
    given_arrays = arrays(0, n_models=3, n_sequences=50)
    alone = chain.forward_backward(Chain(*given_arrays), range(9), backend="numba")
    weights = torch.ones(3, 50, dtype=torch.float64)
    gradient = chain.log_evidence_gradient(Chain(*given_arrays), weights, backend="numba")
    monkeypatch.setattr(groups, "WORK_OF_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    again = chain.forward_backward(Chain(*given_arrays), range(9), backend="numba")
    for one, other in zip(again[:3], alone, strict=False):
        assert torch.equal(one, other)
    again = chain.log_evidence_gradient(Chain(*given_arrays), weights, backend="numba")
    for one, other in zip(again, gradient, strict=True):
        assert_equal(one, other, 1e-12)


@given(seeds)
def test_paths_agree(seed):
    given_arrays = arrays(seed, **random_shape(seed))
    best = [paths.best_path(Chain(*given_arrays), backend=backend) for backend in BACKENDS]
    assert torch.equal(*best)
    *parameters, ids = given_arrays
    possible = (chain.log_evidence(Chain(*parameters, ids)) > -torch.inf).all(0)
    if possible.any():
        draws = [
            paths.sample_paths(
                Chain(*parameters, ids[:, possible]), 3, torch.Generator().manual_seed(seed), backend=backend
            )
            for backend in BACKENDS
        ]
        assert torch.equal(*draws)


# The choice.


def test_the_argument_overrides_the_environment_and_that_the_rule(monkeypatch):
    transition = torch.eye(3)[None]
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    assert isinstance(backends.choose(transition), Compiled)
    assert isinstance(backends.choose(torch.empty(1, 2000, 2000)), Recursive)
    assert isinstance(backends.choose(transition.half()), Recursive)
    monkeypatch.setenv(backends.VARIABLE, "torch")
    assert isinstance(backends.choose(transition), Recursive)
    assert isinstance(backends.choose(transition, "numba"), Compiled)
    monkeypatch.setenv(backends.VARIABLE, "fortran")
    with pytest.raises(InvalidInput, match=r"unknown backend: expected one of auto, .*, triton, got 'fortran'"):
        backends.choose(transition)


def test_without_numba_the_answers_are_the_same():
    code = """
import sys
sys.modules["numba"] = None
import torch
from ppl_hmm import posterior, random_hmm
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact import backends

backends.has_numba.cache_clear()
assert not backends.has_numba()
text = torch.arange(12).reshape(3, 4) % 5
print(posterior(random_hmm("dirichlet", 3, 5, seed=0), text).log_evidence.tolist())
try:
    backends.choose(torch.eye(2)[None], "numba")
except InvalidInput as error:
    print(error)
"""
    from ppl_hmm import posterior, random_hmm

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    numbers, message = done.stdout.splitlines()
    text = torch.arange(12).reshape(3, 4) % 5
    assert_equal(eval(numbers), posterior(random_hmm("dirichlet", 3, 5, seed=0), text).log_evidence)
    assert "pip install 'ppl-hmm[fast]'" in message


# Nothing is lost silently.


@each_backend
@pytest.mark.parametrize("seed", range(10))
def test_what_comes_near_underflow_is_said_to_be_lost(backend, seed):
    initial, transition, table, ids = arrays(seed, n_models=1, n_sequences=12)
    # Two chains that never meet; each of two rows makes the states of one faint beside the others.
    transition[:, :2, 2:] = transition[:, 2:, :2] = 0
    table[:, 0, :2] = table[:, 1, 2:] = TINY
    for pass_ in (
        lambda: backends.choose(transition, backend).evidence(Chain(initial, transition, table, ids)),
        lambda: backends.choose(transition, backend).smooth(Chain(initial, transition, table, ids), range(9), True),
        lambda: backends.choose(transition, backend).messages(Chain(initial, transition, table, ids), [-1]),
    ):
        _, lost = pass_()
        assert lost.any()
    exact = chain.RESCUE.smooth(Chain(initial, transition, table, ids), range(9), True)[0]
    ours = chain.forward_backward(Chain(initial, transition, table, ids), range(9), backend=backend)
    for one, other in zip(ours[:3], exact, strict=False):
        assert_equal(one, other)


# Expected counts.


@each_backend
@given(seed=seeds)
def test_the_gradient_equals_that_of_a_tape(backend, seed):
    *parameters, ids = arrays(seed, **(random_shape(seed) | {"zeros": 0.0}))
    weights = torch.tensor(np.random.default_rng(seed).normal(size=ids.shape[:2]))
    ours = chain.log_evidence_gradient(Chain(*parameters, ids), weights, backend=backend)
    for one, other in zip(ours, by_tape(*parameters, ids, weights), strict=True):
        assert_equal(one, other, 1e-10 * (1 + other.abs().max()))


@each_backend
def test_the_gradient_is_right_at_exact_zeros(backend):
    initial, transition, table, ids = arrays(1, zeros=0.5, n_sequences=20, n_states=3)
    weights = (chain.log_evidence(Chain(initial, transition, table, ids)) > -torch.inf).double()
    ours = chain.log_evidence_gradient(Chain(initial, transition, table, ids), weights, backend=backend)
    possible = [array.clone().requires_grad_() for array in (initial, transition, table)]
    evidence, lost = Recursive(SCALED).evidence(Chain(*possible, ids))
    assert not lost.any()
    assert (weights == 0).any()
    expected = torch.autograd.grad(evidence[weights > 0].sum(), possible)
    for one, other in zip(ours, expected, strict=True):
        assert one.isfinite().all()
        assert_equal(one, other, 1e-10 * (1 + other.abs().max()))


@each_backend
def test_gradcheck_with_models_in_a_batch(backend):
    *parameters, ids = arrays(0)
    leaves = [array.requires_grad_() for array in parameters]
    assert torch.autograd.gradcheck(lambda *given_: chain.log_evidence(Chain(*given_, ids), backend=backend), leaves)


@each_backend
def test_lost_sequences_are_counted_by_logarithms(backend):
    *parameters, ids = arrays(0, n_models=2, n_sequences=6)
    _, transition, table = parameters
    table[1, 0, :2] = TINY
    table[1, 1, 2:] = TINY
    weights = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(2, 6)
    _, _, lost = backends.choose(transition, backend).gradient(Chain(*parameters, ids), weights)
    assert lost.any()
    assert not lost.all()
    leaves = [array.clone().requires_grad_() for array in parameters]
    expected = torch.autograd.grad((chain.RESCUE.evidence(Chain(*leaves, ids))[0] * weights).sum(), leaves)
    ours = chain.log_evidence_gradient(Chain(*parameters, ids), weights, backend=backend)
    for one, other, parameter in zip(ours, expected, parameters, strict=True):
        assert_equal(one * parameter, other * parameter)  # counts; the derivatives themselves reach 1e200


def test_segments_of_the_text_change_no_gradient(monkeypatch):
    *parameters, ids = arrays(0, n_sequences=11, length=37)
    weights = torch.ones(2, 11, dtype=torch.float64)
    whole = chain.log_evidence_gradient(Chain(*parameters, ids), weights, backend="numba")
    monkeypatch.setattr(groups, "SEGMENT_BYTES", 1)
    cut = chain.log_evidence_gradient(Chain(*parameters, ids), weights, backend="numba")
    for one, other in zip(cut, whole, strict=True):
        assert_equal(one, other, 1e-12 * (1 + other.abs().max()))


@each_backend
def test_second_derivatives_are_those_of_a_tape(backend):
    *parameters, ids = arrays(0, n_sequences=2, length=4, n_states=3, n_rows=3)
    leaves = [array.requires_grad_() for array in parameters]
    assert torch.autograd.gradgradcheck(
        lambda *given_: chain.log_evidence(Chain(*given_, ids), backend=backend), leaves
    )


def test_float32_counts_stay_within_the_rounding_bound():
    """Each count is a sum of laws, each within the bound of the smoothed law; sums are in float64."""
    single = arrays(0, n_models=1, n_sequences=300, length=40, n_states=6, dtype=torch.float32)
    exact = [array.double() for array in single[:3]]
    weights = torch.ones(1, 300)
    for backend in BACKENDS:
        ours = chain.log_evidence_gradient(Chain(*single), weights, backend=backend)
        expected = chain.log_evidence_gradient(Chain(*exact, single[3]), weights.double(), backend="torch")
        bound = 4 * 40 * (6 + 6) * torch.finfo(torch.float32).eps / 2
        for one, other, parameter in zip(ours, expected, exact, strict=True):
            counts = (other * parameter).sum()  # all of them, S·B at most
            assert_equal(one * parameter, other * parameter, bound * counts.item())


# Room for results is used again, but never while anything refers to it.


def test_room_that_was_let_go_is_used_again():
    given_arrays = arrays(0, n_models=1, n_sequences=2000, length=150)
    first = chain.forward_backward(Chain(*given_arrays), range(150), backend="numba").marginals
    place, view, values = first.data_ptr(), first[0, 5].numpy()[3:], first.clone()
    second = chain.forward_backward(Chain(*given_arrays), range(150), backend="numba").marginals
    assert second.data_ptr() != place
    del first
    third = chain.forward_backward(Chain(*given_arrays), range(150), backend="numba").marginals
    assert third.data_ptr() not in (place, second.data_ptr())  # the view is still there
    np.testing.assert_array_equal(view, values[0, 5, 3:])
    del view
    fourth = chain.forward_backward(Chain(*given_arrays), range(150), backend="numba").marginals
    assert fourth.data_ptr() == place
    for law in (second, third, fourth):
        assert torch.equal(law, values)


def test_threads_of_the_caller_share_threads_and_room(monkeypatch):
    monkeypatch.setattr(groups, "WORK_OF_A_THREAD", 1)
    monkeypatch.setattr(room, "SMALLEST_KEPT", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    given_arrays = [arrays(seed, n_sequences=40) for seed in range(8)]
    expected = [chain.forward_backward(Chain(*given), range(9), backend="torch").marginals for given in given_arrays]

    def often(given):
        return [chain.forward_backward(Chain(*given), range(9), backend="numba").marginals for _ in range(20)]

    with ThreadPoolExecutor(4) as callers:
        for ours, law in zip(callers.map(often, given_arrays), expected, strict=True):
            for one in ours:
                assert_equal(one, law)


def test_only_the_last_room_and_none_too_large_is_kept():
    sizes = [room.SMALLEST_KEPT - 1, room.SMALLEST_KEPT, room.SMALLEST_KEPT + 1, room.LARGEST_KEPT + 1]
    made = [room.empty((size,), np.dtype(np.uint8)) for size in sizes]
    assert [array.nbytes for array in made] == sizes
    while made:
        del made[-1]
    assert [kept.nbytes for kept in room._kept] == [room.SMALLEST_KEPT]


# A million tokens fit in a gigabyte.

MILLION = """
import sys
import torch
from ppl_hmm import log_likelihood, posterior, random_hmm, sample_posterior, smoothed_segments, viterbi

model = random_hmm("dirichlet", 30, 10, seed=0)
text = torch.randint(10, (1, 1_000_000), generator=torch.Generator().manual_seed(0))
passes = {
    "posterior": lambda text: posterior(model, text),
    "segments": lambda text: [segment.start for segment in smoothed_segments(model, text)],
    "gradient": lambda text: torch.autograd.grad(
        log_likelihood(type(model)(*(array.requires_grad_() for array in leaves)), text).sum(), leaves
    ),
    "viterbi": lambda text: viterbi(model, text),
    "draws": lambda text: sample_posterior(model, text, 1, seed=0),
}
leaves = [array.clone() for array in (model.initial, model.transition, model.emission)]
compute = passes[sys.argv[1]]
compute(text[:, :2000])  # compile
before = peak()
compute(text)
print(peak() - before)
"""


@pytest.mark.parametrize(
    ("computed", "megabytes"),
    [("posterior", 600), ("segments", 100), ("gradient", 100), ("viterbi", 600), ("draws", 650)],
)
def test_a_million_tokens_fit(computed, megabytes):
    """Float64, 30 states; the smoothed law alone has 240 MB."""
    done = forked.run(peak_memory.CODE + MILLION, computed, environment={backends.VARIABLE: "numba"})
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < megabytes
