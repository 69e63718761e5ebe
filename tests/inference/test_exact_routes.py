"""Independent routes to the same numbers: brute force, our recursions, Pyro's enumeration, gradients, hmmlearn."""

import functools
import subprocess
import sys

import numpy as np
import oracle
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from comparisons import TOLERANCE, assert_equal
from hypothesis import given, strategies as st
from sweeps import sweep

from ppl_hmm.base.tokens import MASK
from ppl_hmm.exact import chain
from ppl_hmm.exact.recursion import Chain
from ppl_hmm.inference.queries import (
    log_likelihood,
    masked_conditionals,
    posterior,
    sample_posterior,
    viterbi,
)
from ppl_hmm.inference.sampling import sample
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import probe_features, probe_input
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.programs import enumeration
from ppl_hmm.regimes import random_hmm

EVERY_BACKEND = True
SEEDS = range(200)
seeds = st.integers(0, 10_000)

QUICK, FEW = 60, 30  # of the seeds: in every run, and in every run of what takes longer

each_seed = pytest.mark.parametrize("seed", sweep(SEEDS, quick=QUICK))


@functools.cache
def case_of(seed):
    return oracle.random_case(seed)


@functools.cache
def truth_of(seed):
    case = case_of(seed)
    return oracle.truth(case.model, case.masked_tokens, case.prompt)


def cases_cover(condition, among):
    return sum(bool(condition(case_of(seed))) for seed in among)


@pytest.mark.parametrize(("among", "least"), [(SEEDS, 10), (SEEDS[:QUICK], 4), (SEEDS[:FEW], 2)])
def test_the_random_cases_cover_what_they_should(among, least):
    assert cases_cover(lambda case: case.model.n_states == 1, among) >= least
    assert cases_cover(lambda case: case.tokens.shape[1] == 1, among) >= least
    assert cases_cover(lambda case: case.lengths is not None, among) >= least
    assert cases_cover(lambda case: case.prompt is not None and (case.prompt == 0).any(), among) >= least
    assert cases_cover(lambda case: (case.model.emission == 0).any(), among) >= least
    assert cases_cover(lambda case: (case.tokens == MASK).any(), among) >= least
    repeats = cases_cover(
        lambda case: case.model.n_states > 1 and bool((case.model.emission[0] == case.model.emission[-1]).all()), among
    )
    assert repeats >= least
    assert sum(-np.inf in truth_of(seed).log_evidence for seed in among) >= least


def test_shapes_of_the_kernels_execute():
    case = oracle.random_case(0)
    with pytest.raises(BeartypeCallHintViolation):
        chain.log_evidence(
            Chain(case.model.initial, case.model.transition, case.model.emission, torch.zeros(1, 1).long())
        )


# Brute force.


@each_seed
def test_recursion_equals_brute_force(seed):
    case, expected = case_of(seed), truth_of(seed)
    options = {"prompt": case.prompt, "lengths": case.lengths}
    ours = posterior(case.model, case.tokens, impossible="mask", **options)
    assert_equal(ours.log_evidence, expected.log_evidence)
    assert_equal(ours.initial, expected.initial)
    assert_equal(ours.smoothed, expected.smoothed)
    assert ours.possible.tolist() == (expected.log_evidence > -np.inf).tolist()
    assert_equal(log_likelihood(case.model, case.tokens, **options), expected.log_evidence)
    assert_equal(masked_conditionals(case.model, case.tokens, impossible="mask", **options), expected.conditionals)


@each_seed
def test_best_path_equals_brute_force(seed):
    case = case_of(seed)
    ours = viterbi(case.model, case.tokens, prompt=case.prompt, lengths=case.lengths, impossible="mask")
    n_prompt = 0 if case.prompt is None else len(case.prompt)
    for b, text in enumerate(case.texts):
        path, log_probability, lead = oracle.best_path(case.model, text, case.prompt)
        assert_equal(ours.log_probability[b], log_probability)
        if log_probability == -np.inf:
            assert ours.initial_state[b] == -1
            assert (ours.states[b] == -1).all()
        elif lead > TOLERANCE:  # otherwise rounding decides
            assert ours.initial_state[b] == path[0]
            assert ours.states[b, : len(text)].tolist() == path[1 + n_prompt :].tolist()
            assert (ours.states[b, len(text) :] == -1).all()


def test_best_path_takes_the_lowest_state_among_equals():
    uniform = HMM([0.5, 0.5], [[0.5, 0.5]] * 2, [[0.25, 0.75]] * 2)
    best = viterbi(uniform, [[0, 1, MASK]])
    assert best.initial_state.tolist() == [0]
    assert best.states.tolist() == [[0, 0, 0]]


def test_best_path_of_a_text_does_not_depend_on_its_batch():
    absorbing = HMM([1.0, 0.0], [[0.6, 0.4], [0.0, 1.0]], [[0.6, 0.4], [0.4, 0.6]])
    alone = viterbi(absorbing, [[0]])
    assert alone.states.tolist() == [[0]]
    for beside in (viterbi(absorbing, [[0], [0, 0, 0]]), viterbi(absorbing, [[0, 0, 0]] * 2, lengths=[1, 3])):
        assert beside.states.tolist() == [[0, -1, -1], [0, 0, 0]]
        assert beside.log_probability[0] == alone.log_probability[0]
    # A length says that what is not observed belongs to the text: its states are those of the best path of all.
    assert viterbi(absorbing, [[0, MASK, MASK]], lengths=[3]).states.tolist() == [[1, 1, 1]]


def test_probabilities_of_all_texts_sum_to_one():
    for seed in range(20):
        model = oracle.random_model(np.random.default_rng(seed), n_states=4, vocabulary_size=3)
        assert_equal(log_likelihood(model, oracle.all_texts(3, 4)).exp().sum(), 1)


# Pyro's enumeration of the Pyro program: it refuses impossible text, so it sees the possible ones.


@pytest.mark.parametrize("seed", sweep(SEEDS, quick=FEW))
def test_enumeration_equals_brute_force(seed):
    case, expected = case_of(seed), truth_of(seed)
    lengths, prompt = case.lengths, case.prompt
    for possible, compare in [
        (expected.log_evidence > -np.inf, _compare_posterior),
        *[
            (expected.conditionals[:, i].sum(-1) > 0, lambda *arguments, i=i: _compare_conditionals(i, *arguments))
            for i in range(case.tokens.shape[1])
        ],
    ]:
        if possible.any():
            kept = None if lengths is None else lengths[possible]
            compare(
                case.model,
                case.tokens[possible],
                {"prompt": prompt, "lengths": kept},
                oracle.Truth(*(field[possible] for field in expected)),
            )


def _compare_posterior(model, tokens, options, expected):
    other = enumeration.posterior(model, tokens, **options)
    assert_equal(other.log_evidence, expected.log_evidence)
    assert_equal(other.initial, expected.initial)
    assert_equal(other.smoothed, expected.smoothed)


def _compare_conditionals(i, model, tokens, options, expected):
    other = enumeration.masked_conditionals(model, tokens, positions=[i], **options)
    assert_equal(other[:, 0], expected.conditionals[:, i])


# Marginals as gradients: d log P(x) / d log row_t(h) = P(H_t=h | x), and d log P(x) / d log π₀(h) = P(H₀=h | x).


@each_seed
def test_marginals_are_gradients_of_the_log_evidence(seed):
    case, expected = case_of(seed), truth_of(seed)
    n_prompt = 0 if case.prompt is None else len(case.prompt)
    # Every position of every text gets a row of its own; every text, as a model of its own, its own initial law.
    rows = torch.tensor(
        np.array([oracle.likelihood_rows(case.model, text, case.prompt) for text in case.masked_tokens])
    ).requires_grad_()
    n_texts, n_rows, n_states = rows.shape
    initial = case.model.initial.expand(n_texts, n_states).clone().requires_grad_()
    transition = case.model.transition.expand(n_texts, n_states, n_states)
    ids = torch.arange(n_rows).expand(n_texts, 1, n_rows)
    evidence = chain.log_evidence(Chain(initial, transition, rows, ids))[:, 0]
    assert_equal(evidence.detach(), expected.log_evidence)

    of_initial, of_rows = torch.autograd.grad(evidence.sum(), (initial, rows))
    assert_equal((of_initial * initial).detach(), expected.initial)
    assert_equal((of_rows * rows).detach()[:, n_prompt:], expected.smoothed)
    # The gradient itself, own row left out, is the cavity: a third route to G, where the text is possible.
    possible = expected.log_evidence > -np.inf
    cavities = of_rows[:, n_prompt:] / of_rows[:, n_prompt:].sum(-1, keepdim=True).clamp(min=1e-300)
    assert_equal((cavities @ case.model.emission)[possible], expected.conditionals[possible])
    assert (of_rows[~possible] == 0).all()
    assert (of_initial[~possible] == 0).all()


# Other packages.


def random_texts(seed, n_states=4, vocabulary_size=5, shape=(6, 7)):
    rng = np.random.default_rng(seed)
    model = HMM(
        oracle.random_rows(rng, n_states),
        oracle.random_rows(rng, n_states, n_states),
        oracle.random_rows(rng, n_states, vocabulary_size),
    )
    return model, rng.integers(vocabulary_size, size=shape)


@pytest.mark.parametrize("seed", range(10))
def test_hmmlearn_agrees_on_evidence_and_posterior(seed):
    model, tokens = random_texts(seed)
    other = model.to_hmmlearn()
    ours = posterior(model, tokens)
    assert_equal(ours.log_evidence, [other.score(text[:, None]) for text in tokens])
    assert_equal(ours.smoothed, [other.predict_proba(text[:, None]) for text in tokens])


@pytest.mark.parametrize("seed", range(10))
def test_hmmlearn_agrees_on_the_best_path(seed):
    model, tokens = random_texts(seed)
    theirs = model.to_hmmlearn()
    theirs.startprob_ = np.eye(model.n_states)[seed % model.n_states]  # no mean of rows of A: A has no zeros
    ours = HMM.from_hmmlearn(theirs)
    best = viterbi(ours, tokens)
    assert (best.initial_state == model.n_states).all()  # the silent start state, added last
    for b, text in enumerate(tokens):
        log_probability, states = theirs.decode(text[:, None])
        assert best.states[b].tolist() == states.tolist()
        assert_equal(best.log_probability[b], log_probability)


def test_from_hmmlearn_is_exact():
    model, tokens = random_texts(0)
    theirs = model.to_hmmlearn()
    start = theirs.startprob_ = np.array([1.0, 0, 0, 0])
    silent = HMM.from_hmmlearn(theirs)
    # The first state emits, with law `start`: moving to it from anywhere gives the first step the same law.
    same = HMM(np.eye(5)[4], np.pad(np.vstack([model.transition, start]), ((0, 0), (0, 1))), silent.emission)
    before, after = posterior(same, tokens), posterior(silent, tokens)
    assert_equal(before.log_evidence, [theirs.score(text[:, None]) for text in tokens])
    assert_equal(before.smoothed[..., :-1], [theirs.predict_proba(text[:, None]) for text in tokens])
    assert_equal(after.log_evidence, before.log_evidence)
    assert_equal(after.smoothed, before.smoothed)
    assert (after.smoothed[..., -1] == 0).all()


@pytest.mark.parametrize("seed", sweep(20, quick=8))
def test_discrete_hmm_round_trip_and_log_probability(seed):
    rng = np.random.default_rng(seed)
    model = oracle.random_model(rng, n_states=3, vocabulary_size=4)
    tokens = rng.integers(4, size=(8, 5))
    assert HMM.from_discrete_hmm(model.to_discrete_hmm()).allclose(model)
    theirs = model.to_discrete_hmm(duration=5).log_prob(torch.tensor(tokens))
    ours = log_likelihood(model, tokens)
    possible = ours > -torch.inf
    assert_equal(theirs[possible], ours[possible])
    # Pyro writes log 0 as the lowest float in places: far below any text that is possible.
    assert (theirs[~possible] < -1e30).all()


# Batches of models.


@pytest.mark.parametrize("shared_text", [True, False])
def test_batches_equal_one_by_one(shared_text):
    rng = np.random.default_rng(5)
    models = [oracle.random_model(rng, n_states=3, vocabulary_size=4) for _ in range(4)]
    prompts = rng.gamma(1.0, size=(4, 2, 3))
    tokens = rng.integers(-1, 4, size=(5, 4) if shared_text else (4, 5, 4))
    lengths = rng.integers(0, 5, size=5)
    batch, options = HMM.stack(models), {"lengths": lengths, "impossible": "mask"}
    one_by_one = [(model, tokens if shared_text else tokens[p], prompts[p]) for p, model in enumerate(models)]

    both = posterior(batch, tokens, prompt=prompts, **options)
    best = viterbi(batch, tokens, prompt=prompts, **options)
    conditionals = masked_conditionals(batch, tokens, prompt=prompts, positions=[1, -1], **options)
    for p, (model, text, prompt) in enumerate(one_by_one):
        single = posterior(model, text, prompt=prompt, **options)
        for field in ("log_evidence", "initial", "smoothed", "possible"):
            assert_equal(getattr(both, field)[p], getattr(single, field))
        alone = viterbi(model, text, prompt=prompt, **options)
        assert torch.equal(best.states[p], alone.states)
        assert torch.equal(best.initial_state[p], alone.initial_state)
        assert_equal(best.log_probability[p], alone.log_probability)
        assert_equal(conditionals[p], masked_conditionals(model, text, prompt=prompt, positions=[1, -1], **options))
        assert_equal(
            log_likelihood(batch, tokens, prompt=prompts, lengths=lengths)[p],
            log_likelihood(model, text, prompt=prompt, lengths=lengths),
        )


def test_batches_of_batches_keep_their_shape():
    rng = np.random.default_rng(0)
    models = [[oracle.random_model(rng, 3, 4) for _ in range(2)] for _ in range(3)]
    batch = HMM.stack([HMM.stack(row) for row in models])
    tokens = rng.integers(4, size=(5, 4))
    result = posterior(batch, tokens, impossible="mask")
    assert result.log_evidence.shape == (3, 2, 5)
    assert result.smoothed.shape == (3, 2, 5, 4, 3)
    assert masked_conditionals(batch, tokens, impossible="mask").shape == (3, 2, 5, 4, 4)
    assert viterbi(batch, tokens, impossible="mask").states.shape == (3, 2, 5, 4)
    assert_equal(result.log_evidence[2, 1], log_likelihood(models[2][1], tokens))
    assert_equal(
        OracleLM(batch).conditionals(tokens)[1, 0], masked_conditionals(models[1][0], tokens, impossible="mask")
    )


def test_one_prompt_serves_a_batch_of_models():
    rng = np.random.default_rng(1)
    models = [oracle.random_model(rng, 3, 4) for _ in range(3)]
    tokens, prompt = rng.integers(4, size=(5, 4)), SoftPrompt([[0.5, 2.0, 1.0]])
    both = log_likelihood(HMM.stack(models), tokens, prompt=prompt)
    assert_equal(both, torch.stack([log_likelihood(model, tokens, prompt=prompt) for model in models]))


# The perfect masked language model.


@each_seed
def test_oracle_lm_equals_masked_conditionals(seed):
    case = case_of(seed)
    ours = OracleLM(case.model).conditionals(case.tokens, prompt=case.prompt, lengths=case.lengths)
    assert_equal(
        ours, masked_conditionals(case.model, case.tokens, prompt=case.prompt, lengths=case.lengths, impossible="mask")
    )


@each_seed
def test_probe_features_equal_conditionals_of_concatenated_text(seed):
    case = case_of(seed)
    masked = np.concatenate([np.full((3, 1), MASK), case.masked_tokens], axis=1)
    assert np.array_equal(probe_input(OracleLM(case.model), case.tokens, case.lengths).numpy(), masked)
    expected = masked_conditionals(case.model, masked, prompt=case.prompt, positions=[0], impossible="mask")[:, 0]
    ours = probe_features(
        OracleLM(case.model), case.tokens, prompt=case.prompt, lengths=case.lengths, impossible="mask"
    )
    assert_equal(ours, expected)


@pytest.mark.parametrize("positions", [None, [0], [2, -1]])
def test_prompts_have_leading_dimensions_of_restarts(positions):
    rng = np.random.default_rng(2)
    models = [oracle.random_model(rng, 3, 4) for _ in range(2)]
    tokens = rng.integers(4, size=(2, 6, 5))
    prompts = np.stack([[oracle.random_prompt(rng, 2, 3) for _ in models] for _ in range(7)])  # (restarts, P, L, K)
    many = OracleLM(HMM.stack(models)).encode(tokens).conditionals(torch.tensor(prompts), positions)
    for restart in range(7):
        for p, model in enumerate(models):
            assert_equal(
                many[restart, p],
                masked_conditionals(
                    model, tokens[p], prompt=prompts[restart, p], positions=positions, impossible="mask"
                ),
            )
    single = OracleLM(models[0]).encode(tokens[0]).conditionals(torch.tensor(prompts[:, 0]), positions)
    assert_equal(single, many[:, 0])


def test_oracle_lm_is_differentiable_in_the_prompt():
    model, tokens = random_texts(3, n_states=3, vocabulary_size=3, shape=(2, 3))
    text = OracleLM(model).encode(tokens)
    logits = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: text.conditionals(values.exp(), [0, 2]), (logits,))


# Lengths, masks, positions, dtypes.


@given(seeds)
def test_lengths_are_masks_past_each_end(seed):
    case = oracle.random_case(seed)
    lengths = np.random.default_rng(seed).integers(0, case.tokens.shape[1] + 1, size=3)
    by_length = {"prompt": case.prompt, "lengths": lengths}
    masked, by_mask = case._replace(lengths=lengths).masked_tokens, {"prompt": case.prompt}
    one = posterior(case.model, case.tokens, impossible="mask", **by_length)
    other = posterior(case.model, masked, impossible="mask", **by_mask)
    for field in ("log_evidence", "initial", "smoothed", "possible"):
        assert torch.equal(getattr(one, field), getattr(other, field))
    assert torch.equal(
        log_likelihood(case.model, case.tokens, **by_length), log_likelihood(case.model, masked, **by_mask)
    )
    # Unobserved ends change no evidence: the same as cutting the text there.
    for b, end in enumerate(lengths):
        if end:
            cut = log_likelihood(case.model, case.tokens[b : b + 1, :end], prompt=case.prompt)
            assert_equal(one.log_evidence[b], cut[0])


@given(seeds)
def test_names_of_states_do_not_matter(seed):
    case = oracle.random_case(seed)
    order = np.random.default_rng(seed).permutation(case.model.n_states)
    renamed = HMM(case.model.initial[order], case.model.transition[order][:, order], case.model.emission[order])
    prompt = None if case.prompt is None else case.prompt[:, order]
    ours = posterior(case.model, case.tokens, prompt=case.prompt, impossible="mask")
    other = posterior(renamed, case.tokens, prompt=prompt, impossible="mask")
    assert_equal(other.log_evidence, ours.log_evidence)
    assert_equal(other.initial, ours.initial[:, order])
    assert_equal(other.smoothed, ours.smoothed[..., order])


@given(seeds)
def test_impossible_text_masked_is_zero_rows_never_nan(seed):
    case = oracle.random_case(seed)
    ours = posterior(case.model, case.tokens, prompt=case.prompt, impossible="mask")
    assert torch.equal(ours.possible, ours.log_evidence > -torch.inf)
    for rows in (ours.initial, ours.smoothed):
        assert not rows.isnan().any()
        assert (rows[~ours.possible] == 0).all()
        assert_equal(rows[ours.possible].sum(-1), torch.ones(rows[ours.possible].shape[:-1]))
    conditionals = masked_conditionals(case.model, case.tokens, prompt=case.prompt, impossible="mask")
    sums = conditionals.sum(-1)
    assert ((sums == 0) | ((sums - 1).abs() < TOLERANCE)).all()


def test_positions_select_and_count_from_the_end():
    model, tokens = random_texts(0)
    every = masked_conditionals(model, tokens)
    assert torch.equal(masked_conditionals(model, tokens, positions=[-1, 0, -7, 3])[:, [0, 1, 3]], every[:, [6, 0, 3]])
    for conditionals in (masked_conditionals, OracleLM(model).conditionals.__func__):
        first = OracleLM(model) if conditionals is not masked_conditionals else model
        assert_equal(conditionals(first, tokens, positions=[-1]), every[:, [6]])
        assert_equal(conditionals(first, tokens, positions=[4, 1]), every[:, [4, 1]])


@pytest.mark.parametrize("positions", [[1, 1], [0, -7], [3, 0, 3, -4]])
def test_repeated_positions_repeat_the_answer(positions):
    model, tokens = random_texts(0)
    every = masked_conditionals(model, tokens)
    assert_equal(OracleLM(model).conditionals(tokens, positions=positions), every[:, positions])
    assert_equal(masked_conditionals(model, tokens, positions=positions), every[:, positions])


def test_array_likes_are_the_same_text():
    model, tokens = random_texts(0)
    expected = posterior(model, tokens).initial
    for text in (tokens.tolist(), torch.tensor(tokens), tokens.astype(np.int8), torch.tensor(tokens).int()):
        assert torch.equal(posterior(model, text).initial, expected)


def test_float32_parameters_give_float32_within_the_rounding_bound():
    """Sums and products of non-negatives: each of S steps adds at most (K + 6) relative roundings to every path.

    (One matrix product: K; parameters rounded to float32: 3; weighing and normalising: 3.) Evidence and smoothed
    law take one such chain forward, one backward, and a ratio: four times S·(K + 6)·u bounds both, u = eps/2.
    """
    model = random_hmm("dirichlet", 6, 5, seed=0)
    tokens = sample(model, 50, 40, seed=0).tokens
    exact, single = posterior(model, tokens), posterior(model.to(torch.float32), tokens)
    bound = 4 * 40 * (6 + 6) * torch.finfo(torch.float32).eps / 2
    assert {single.log_evidence.dtype, single.initial.dtype, single.smoothed.dtype} == {torch.float32}
    assert_equal(single.initial, exact.initial, bound)
    assert_equal(single.smoothed, exact.smoothed, bound)
    # The logarithms' own rounding and their sum: each of 40 terms adds at most |log P| · u twice.
    of_sum = 40 * exact.log_evidence.abs().max().item() * torch.finfo(torch.float32).eps
    assert_equal(single.log_evidence, exact.log_evidence, bound + of_sum)
    conditionals = masked_conditionals(model.to(torch.float32), tokens)
    assert conditionals.dtype == torch.float32
    assert_equal(conditionals, masked_conditionals(model, tokens), bound)
    assert OracleLM(model.to(torch.float32)).conditionals(tokens, positions=[0]).dtype == torch.float32


def test_a_float32_model_becomes_float64():
    model = random_hmm("dirichlet", 6, 5, seed=0)
    assert model.to(torch.float32).to(torch.float64).allclose(model, rtol=1e-6, atol=1e-7)


# Underflow: what the scaled route loses, logarithms find.

TINY = 1e-200


def assert_equals_brute_force(model, tokens, prompt=None):
    tokens = np.asarray(tokens)
    expected = oracle.truth(model, tokens, prompt)
    assert np.isfinite(expected.log_evidence).all()
    ours = posterior(model, tokens, prompt=prompt)
    assert_equal(ours.log_evidence, expected.log_evidence)
    assert_equal(log_likelihood(model, tokens, prompt=prompt), expected.log_evidence)
    assert_equal(ours.initial, expected.initial)
    assert_equal(ours.smoothed, expected.smoothed)
    assert_equal(masked_conditionals(model, tokens, prompt=prompt), expected.conditionals)
    assert_equal(OracleLM(model).conditionals(tokens, prompt=prompt), expected.conditionals)
    for text, path in zip(tokens, viterbi(model, tokens, prompt=prompt).log_probability, strict=True):
        assert_equal(path, oracle.best_path(model, text, prompt)[1])


def test_underflow_of_everything_is_rescued():
    # Only state 1 emits token 1; it is reached with 1e-200 and emits it with 1e-200 or 3e-200.
    model = HMM([1, 0], [[1, TINY], [0.5, 0.5]], [[1, 0, 0], [1, TINY, 3 * TINY]])
    assert_equals_brute_force(model, [[1, 0, 2], [0, 2, 1], [1, 1, 1], [2, MASK, 1]])


@pytest.mark.parametrize("seed", sweep(20, quick=8))
def test_underflow_in_random_models_is_rescued(seed):
    # A silent start moves to any of three states with about 1e-200, and each emits tokens 1, 2 with about 1e-200.
    rng = np.random.default_rng(seed)
    small = rng.uniform(0.1, 1, size=(3, 2)) * TINY
    reach = rng.uniform(0.1, 1, size=3) * TINY
    transition = np.zeros((4, 4))
    transition[0] = [1, *reach]
    transition[1:, 1:] = oracle.random_rows(rng, 3, 3)
    emission = np.vstack([[1, 0, 0], np.column_stack([np.ones(3), small])])
    model = HMM([1, 0, 0, 0], transition, emission)
    assert_equals_brute_force(model, rng.integers(1, 3, size=(3, 3)))


def test_underflow_of_a_prompt_is_rescued():
    model = HMM([0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]], [[0.25, 0.75], [0.5, 0.5]])
    assert_equals_brute_force(model, [[0, 1], [1, 1]], prompt=np.array([[TINY, 2 * TINY], [TINY, TINY]]))


def test_underflow_of_the_message_to_the_silent_state_is_rescued():
    # Two chains that never meet; state 0 pays 1e-100 a token and state 1 nothing, but only state 0 can start.
    assert_equals_brute_force(HMM([1, 0], np.eye(2), [[1e-100, 1], [1, 0]]), [[0, 0, 0, 0]])


def test_underflow_of_some_states_only_is_rescued():
    # After the first token state 1 weighs 1e-400 beside state 0; then state 0 pays 1e-200 a token and state 1 nothing.
    model = HMM([1 - TINY, TINY], np.eye(2), [[1, TINY], [TINY, 1]])
    assert_equals_brute_force(model, [[0, 1, 1, 1, 1]])


def test_totals_below_the_smallest_normal_float_keep_their_precision():
    # 1e-160 · 1e-155 = 1e-315 is subnormal: four significant digits are left.
    model = HMM([1, 0], [[1, 1e-160], [0, 1]], [[1, 0], [1, 1e-155]])
    assert_equals_brute_force(model, [[1, 0]])


def test_gradients_survive_underflow():
    model = HMM([1, 0], [[1, TINY], [0.5, 0.5]], [[1, 0, 0], [1, TINY, 3 * TINY]])
    table = model.emission.mT[None].clone().requires_grad_()
    ids = torch.tensor([[[1, 1, 2]]])
    chain.log_evidence(Chain(model.initial[None], model.transition[None], table, ids)).sum().backward()
    assert table.grad.isfinite().all()
    counts = (table.grad * table.detach())[0]  # expected number of times each (row, state) is used
    assert_equal(counts.sum(-1), [0, 2, 1])


def test_gradients_survive_subnormal_totals():
    table = torch.tensor([[[0.0, 1e-155]]], dtype=torch.float64, requires_grad=True)
    initial = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    transition = torch.tensor([[[1.0, 1e-160], [0.0, 1.0]]], dtype=torch.float64)
    chain.log_evidence(Chain(initial, transition, table, torch.zeros(1, 1, 1).long())).sum().backward()
    assert_equal((table.grad * table.detach())[0, 0, 1], 1)
    assert table.grad[0, 0, 0] == torch.inf  # 1e315


def test_draws_survive_underflow():
    # Hidden from the scaled route: both next states weigh about 1e-400 beside one that cannot be reached.
    transition = np.array([[0.0, 0.5, 0.5, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    model = HMM([1, 0, 0, 0], transition, [[1, 0], [1, TINY], [1, 3 * TINY], [0, 1]])
    tokens = np.array([[1, 1]])
    share = posterior(model, tokens).smoothed[0, 0, 2].item()
    assert_equal(share, 0.9)
    draws = sample_posterior(model, tokens, 10_000, seed=0).states[0, :, 0]
    assert abs((draws == 2).double().mean().item() - share) < 4 * (share * (1 - share) / 10_000) ** 0.5


# Gradients.


def softmax_model(initial, transition, emission):
    return HMM(initial.softmax(-1), transition.softmax(-1), emission.softmax(-1))


@pytest.mark.parametrize("seed", range(5))
def test_log_likelihood_is_differentiable_in_parameters_and_prompt(seed):
    stream = torch.Generator().manual_seed(seed)
    logits = [
        torch.randn(*shape, dtype=torch.float64, generator=stream, requires_grad=True)
        for shape in [(3,), (3, 3), (3, 4), (2, 3)]
    ]
    tokens = np.random.default_rng(seed).integers(-1, 4, size=(3, 4))

    def function(initial, transition, emission, prompt):
        model = softmax_model(initial, transition, emission)
        return log_likelihood(model, tokens, prompt=prompt.exp(), lengths=[4, 2, 0])

    assert torch.autograd.gradcheck(function, logits)


def test_log_likelihood_is_differentiable_where_a_probability_is_zero():
    rows = torch.tensor([[0.0, 1.0], [0.5, 0.0]], dtype=torch.float64, requires_grad=True)
    model = HMM([0.5, 0.5], [[0.25, 0.75], [0.5, 0.5]], [[0.5, 0.5], [0.25, 0.75]])
    log_likelihood(model, [[0, 1]], prompt=rows).sum().backward()
    step = 1e-6
    for index in np.ndindex(2, 2):  # one-sided: a likelihood cannot be negative
        moved = rows.detach().clone()
        moved[index] += step
        change = log_likelihood(model, [[0, 1]], prompt=moved) - log_likelihood(model, [[0, 1]], prompt=rows.detach())
        assert abs(change.item() / step - rows.grad[index].item()) < 1e-4 * (1 + abs(rows.grad[index].item()))


def test_impossible_text_has_no_evidence_and_gradient_zero():
    emission = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    initial = torch.tensor([0.5, 0.5], dtype=torch.float64, requires_grad=True)
    transition = torch.full((2, 2), 0.5, dtype=torch.float64, requires_grad=True)
    model = HMM(initial, transition, emission)
    evidence = log_likelihood(model, [[0, 1, 0]], prompt=[[1.0, 2.0]])
    assert evidence.tolist() == [-torch.inf]
    for gradient in torch.autograd.grad(evidence.sum(), (initial, transition, emission)):
        assert (gradient == 0).all()
    # Beside possible text it changes nothing.
    mixed = torch.autograd.grad(log_likelihood(model, [[0, 1, 0], [0, 0, 0]])[1], emission)[0]
    alone = torch.autograd.grad(log_likelihood(model, [[0, 0, 0]])[0], emission)[0]
    assert torch.equal(mixed, alone)
    assert mixed.isfinite().all()


# Draws from the posterior.


@pytest.mark.parametrize("prompt", [None, np.array([[1.0, 0.5, 0.0]])])
def test_draws_follow_the_posterior_of_whole_paths(prompt):
    rng = np.random.default_rng(0)
    model, n_draws, n_prompt = oracle.random_model(rng, 3, 3), 40_000, 0 if prompt is None else 1
    tokens = np.array([[0, 1], [MASK, 2], [2, 2]])
    draws = sample_posterior(model, tokens, n_draws, seed=1, prompt=prompt)
    paths = torch.cat([draws.initial_state[..., None], draws.states], -1).numpy()
    for b, text in enumerate(tokens):
        law = np.exp(oracle.log_joint(model, text, prompt) - oracle.log_evidence(model, text, prompt))
        law = law.reshape((3,) * (3 + n_prompt))
        law = law.sum(1) if n_prompt else law  # the prompt's state is not reported
        count = np.zeros((3, 3, 3))
        np.add.at(count, tuple(paths[b].T), 1)
        standard_error = np.sqrt(law * (1 - law) / n_draws)
        assert (np.abs(count / n_draws - law) <= 4 * standard_error + 1e-12).all()
        assert (count[law == 0] == 0).all()


def test_the_same_seed_gives_the_same_draws():
    model, tokens = random_texts(0)
    one, same, other = (sample_posterior(model, tokens, 50, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.states, same.states)
    assert torch.equal(one.initial_state, same.initial_state)
    assert not torch.equal(one.states, other.states)
    assert one.states.shape == (6, 50, 7)
    assert one.initial_state.shape == (6, 50)


# Long text.


def test_long_text_neither_underflows_nor_drifts():
    model, tokens = random_texts(0, shape=(2, 2000))
    result = posterior(model, tokens)
    assert_equal(result.smoothed.sum(-1), torch.ones(2, 2000))
    assert_equal(result.log_evidence, [model.to_hmmlearn().score(text[:, None]) for text in tokens], 1e-7)


# In a process of its own: the shape checks of this one would take ten times longer than the work.
MILLION = """
import torch
from ppl_hmm.inference.queries import posterior
from ppl_hmm.regimes import random_hmm

text = torch.randint(10, (1, 1_000_000), generator=torch.Generator().manual_seed(0))
result = posterior(random_hmm("dirichlet", 8, 10, seed=0), text)
assert result.smoothed.shape == (1, 1_000_000, 8)
print(result.log_evidence.item(), (result.smoothed.sum(-1) - 1).abs().max().item())
"""


@pytest.mark.slow
def test_a_million_tokens():
    done = subprocess.run([sys.executable, "-c", MILLION], capture_output=True, text=True, check=True)
    log_evidence, worst_sum = map(float, done.stdout.split())
    # Uniform tokens cost a model of ten tokens at least log 10 each on average, and this one not ten times that.
    assert -10 < log_evidence / 1_000_000 / np.log(10) < -1
    assert worst_sum < TOLERANCE
