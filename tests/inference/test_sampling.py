"""Drawn text follows the model's exact law, and random models and tasks are what their regime says."""

import time

import numpy as np
import oracle
import pytest
import torch
from comparisons import assert_shares
from scipy import stats

from ppl_hmm.base.tokens import MASK
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.queries import log_likelihood, posterior
from ppl_hmm.inference.sampling import sample
from ppl_hmm.models import HMM
from ppl_hmm.regimes import random_hmm, random_task

N = 40_000


def small_model(seed=0, zeros=0.3):
    rng = np.random.default_rng(seed)
    return HMM(
        oracle.random_rows(rng, 3, zeros=zeros),
        oracle.random_rows(rng, 3, 3, zeros=zeros),
        oracle.random_rows(rng, 3, 3, zeros=zeros),
    )


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_texts_follow_the_exact_law(seed, length):
    model = small_model(seed)
    texts = oracle.all_texts(3, length)
    law = np.exp([oracle.log_evidence(model, text) for text in texts])
    tokens = sample(model, N, length, seed).tokens.numpy()
    number = tokens @ 3 ** np.arange(length)[::-1]  # of the text in all_texts
    assert_shares(np.bincount(number, minlength=len(texts)), law)


def test_hidden_states_follow_the_parameters():
    model = small_model(3)
    drawn = sample(model, N, 3, seed=0)
    assert drawn.tokens.shape == drawn.states.shape == (N, 3)
    assert drawn.initial_state.shape == (N,)
    path = torch.cat([drawn.initial_state[:, None], drawn.states], 1).numpy()
    assert_shares(np.bincount(path[:, 0], minlength=3), model.initial)
    for h in range(3):
        for t in range(3):
            following = path[path[:, t] == h, t + 1]
            if len(following):
                assert_shares(np.bincount(following, minlength=3), model.transition[h])
        emitted = drawn.tokens.numpy()[path[:, 1:] == h]
        if len(emitted):
            assert_shares(np.bincount(emitted, minlength=3), model.emission[h])


def test_the_first_token_comes_after_one_transition():
    # H₀ is silent: state 0 always starts, state 1 always follows, and only state 1 emits token 1.
    model = HMM([1, 0], [[0, 1], [0, 1]], [[1, 0], [0, 1]])
    drawn = sample(model, 10, 2, seed=0)
    assert (drawn.initial_state == 0).all()
    assert (drawn.states == 1).all()
    assert (drawn.tokens == 1).all()


def test_the_same_seed_gives_the_same_sample():
    model = small_model()
    one, same, other = (sample(model, 100, 5, seed=seed) for seed in (7, 7, 8))
    for field in ("tokens", "states", "initial_state"):
        assert torch.equal(getattr(one, field), getattr(same, field))
        assert not torch.equal(getattr(one, field), getattr(other, field))
    by_stream = [sample(model, 100, 5, torch.Generator().manual_seed(1)).tokens for _ in range(2)]
    assert torch.equal(*by_stream)
    assert not torch.equal(by_stream[0], one.tokens)


def test_batches_of_models_draw_each_its_own_text():
    models = [small_model(seed) for seed in range(4)]
    drawn = sample(HMM.stack(models), N, 2, seed=0)
    assert drawn.tokens.shape == drawn.states.shape == (4, N, 2)
    assert drawn.initial_state.shape == (4, N)
    for p, model in enumerate(models):
        law = np.exp([oracle.log_evidence(model, text) for text in oracle.all_texts(3, 2)])
        assert_shares(np.bincount(drawn.tokens[p].numpy() @ [3, 1], minlength=9), law)
        assert_shares(np.bincount(drawn.initial_state[p], minlength=3), model.initial)
    # Two copies of one model are independent.
    twins = sample(HMM.stack([models[0], models[0]]), 100, 5, seed=0).tokens
    assert not torch.equal(twins[0], twins[1])
    nested = sample(HMM.stack([HMM.stack(models[:2]), HMM.stack(models[2:])]), 6, 5, seed=0)
    assert nested.tokens.shape == (2, 2, 6, 5)
    assert nested.initial_state.shape == (2, 2, 6)


def test_lengths_mask_the_ends():
    model, lengths = small_model(), [0, 2, 5]
    whole, cut = sample(model, 3, 5, seed=0), sample(model, 3, 5, seed=0, lengths=lengths)
    for b, end in enumerate(lengths):
        assert torch.equal(cut.tokens[b, :end], whole.tokens[b, :end])
        assert (cut.tokens[b, end:] == MASK).all()
    assert torch.equal(cut.states, whole.states)


def test_drawn_text_is_possible_in_its_dtype():
    for dtype in (torch.float32, torch.float64):
        model = random_hmm("wei2021", 8, 10, seed=0).to(dtype)
        drawn = sample(model, 200, 30, seed=0)
        assert drawn.tokens.dtype == torch.int64
        assert log_likelihood(model, drawn.tokens).isfinite().all()


def test_sampling_is_fast():
    model = random_hmm("wei2021", 30, 10, seed=0)

    def seconds():
        start = time.perf_counter()
        assert sample(model, 5000, 128, seed=0).tokens.shape == (5000, 128)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 1


# Regimes.

REGIMES = ["wei2021", "dirichlet", "degenerate"]


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize(("n_states", "vocabulary_size"), [(1, 1), (1, 4), (4, 1), (3, 7), (7, 3)])
def test_every_regime_keeps_the_contract(regime, n_states, vocabulary_size):
    model, same, other = (random_hmm(regime, n_states, vocabulary_size, seed=seed) for seed in (0, 0, 1))
    assert model.initial.shape == (n_states,)
    assert model.emission.shape == (n_states, vocabulary_size)
    assert model.dtype == torch.float64
    assert model.identical(same)
    assert model.identical(other) == (n_states == vocabulary_size == 1)
    assert log_likelihood(model, sample(model, 5, 6, seed=0).tokens).isfinite().all()


@pytest.mark.parametrize("n_states", [4, 30])
def test_wei2021_is_nearly_deterministic(n_states):
    models = [random_hmm("wei2021", n_states, 10, seed) for seed in range(60)]
    transition = torch.stack([model.transition for model in models])
    emission = torch.stack([model.emission for model in models])
    initial = torch.stack([model.initial for model in models])
    # A mixes K permutations: columns too sum to one, and an entry is zero where no permutation puts its one.
    assert torch.allclose(transition.sum(-2), torch.ones(60, n_states).double(), rtol=0, atol=1e-12)
    share = (transition == 0).double().mean((1, 2))
    standard_error = share.std().item() / 60**0.5
    assert abs(share.mean().item() - (1 - 1 / n_states) ** n_states) < 4 * standard_error
    # W is softmax(U/0.01), U in [-1/2, 1/2]: log ratios within a row are differences of uniforms, times 100.
    assert (emission > 0).all()
    ratios = (emission[..., 0] / emission[..., 1]).log() / 100
    assert ratios.abs().max() <= 1
    assert stats.kstest(ratios.flatten().numpy(), stats.triang(0.5, loc=-1, scale=2).cdf).pvalue > 1e-4
    # π₀ is softmax(U/10): ratios within exp(±0.1), and not all equal.
    assert (initial.amax(-1) / initial.amin(-1)).max() <= np.exp(0.1)
    assert (initial.std(-1) > 0).all()


@pytest.mark.parametrize("concentration", [0.2, 1.0, 5.0])
def test_dirichlet_rows_have_the_moments_of_their_law(concentration):
    model = random_hmm("dirichlet", 400, 5, seed=0, concentration=concentration)
    rows = model.emission
    for values, mean in [(rows, 1 / 5), ((rows - 1 / 5) ** 2, (1 / 5) * (4 / 5) / (5 * concentration + 1))]:
        standard_error = values.std(0) / 400**0.5
        assert ((values.mean(0) - mean).abs() < 4 * standard_error).all()
    assert abs(model.initial.max().item() - 1 / 400) < 1


@pytest.mark.parametrize("regime", ["dirichlet", "degenerate"])
def test_extreme_concentrations_stay_distributions(regime):
    for concentration in (1e-4, 1e4):
        model = random_hmm(regime, 5, 6, seed=0, concentration=concentration)
        assert torch.allclose(model.emission.sum(-1), torch.ones(5).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rank", "expected"), [(None, 5), (1, 1), (3, 3)])
def test_degenerate_emissions_have_the_rank_asked_for(rank, expected):
    for seed in range(20):
        options = {} if rank is None else {"rank": rank}
        model = random_hmm("degenerate", 6, 8, seed, **options)
        values = torch.linalg.svdvals(model.emission)
        assert (values[:expected] > 1e-6).all()
        assert (values[expected:] < 1e-14).all()
        assert torch.linalg.matrix_rank(model.transition) == 6


def test_streams_of_one_seed_are_independent_of_each_other():
    model = random_hmm("dirichlet", 4, 5, seed=0)
    before = sample(model, 10, 5, seed=0).tokens
    random_task(model, seed=0)
    assert torch.equal(sample(model, 10, 5, seed=0).tokens, before)
    # The initial law is not the uniform numbers that choose the first states.
    assert not random_hmm("degenerate", 4, 5, seed=0).initial.equal(model.initial)


# Tasks.


def test_random_task_has_at_most_six_weights():
    tasks = [random_task(random_hmm("wei2021", 8, 10, seed=0), seed) for seed in range(200)]
    nonzero = torch.tensor([(task.weights != 0).sum() for task in tasks])
    assert tasks[0].weights.shape == (2, 8)
    assert nonzero.max() == 6
    assert nonzero.min() < 6  # indices are drawn with replacement
    # Expected number of distinct cells among 16 after six draws.
    assert abs(nonzero.double().mean() - 16 * (1 - (15 / 16) ** 6)) < 4 * nonzero.double().std() / 200**0.5
    weights = torch.cat([task.weights[task.weights != 0] for task in tasks]).numpy()
    assert stats.kstest(weights, stats.norm.cdf).pvalue > 1e-4


@pytest.mark.parametrize("seed", range(5))
def test_random_task_with_text_is_balanced(seed):
    model = random_hmm("wei2021", 4, 10, seed)
    tokens = sample(model, 500, 40, seed).tokens
    task = random_task(model, seed, tokens)
    positive = task.labels(posterior(model, tokens)).double().mean().item()
    assert 0.05 <= positive <= 0.95
    assert task.identical(random_task(model, seed, tokens))
    assert not task.identical(random_task(model, seed + 100, tokens))


def test_random_task_of_one_state_is_an_error():
    model = random_hmm("wei2021", 1, 10, seed=0)
    with pytest.raises(InvalidInput, match=r"random_task: the silent state H₀.*more than one possible state"):
        random_task(model, 0, sample(model, 50, 10, seed=0).tokens)
