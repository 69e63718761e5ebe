"""Beliefs after each prefix of text: brute force, Pyro's enumeration, masked conditionals, on every backend."""

import functools

import numpy as np
import oracle
import pytest
import torch
from comparisons import assert_equal
from sweeps import sweep

from ppl_hmm import HMM, MASK, SoftPrompt, beliefs, masked_conditionals, posterior
from ppl_hmm.programs import enumeration

EVERY_BACKEND = True
SEEDS = range(60)

each_case = pytest.mark.parametrize("seed", sweep(SEEDS, quick=20))


@functools.cache
def case_and_truth(seed):
    """A random case; its longest paths are one step shorter than those of posteriors, as the next token is tried."""
    case = oracle.random_case(seed)
    length = case.tokens.shape[1] - (case.model.n_states > 1 and case.tokens.shape[1] > 1)
    case = case._replace(
        tokens=case.tokens[:, :length], lengths=None if case.lengths is None else np.minimum(case.lengths, length)
    )
    return case, oracle.beliefs(case.model, case.masked_tokens, case.prompt)


def beliefs_of(case, **options):
    return beliefs(case.model, case.tokens, prompt=case.prompt, lengths=case.lengths, impossible="mask", **options)


@each_case
def test_beliefs_equal_brute_force(seed):
    case, expected = case_and_truth(seed)
    found = beliefs_of(case)
    assert_equal(found.filtered, expected.filtered)
    assert_equal(found.next_token, expected.next_token)
    assert_equal(found.log_prefix, expected.log_prefix)
    assert_equal(found.predicted, expected.filtered @ case.model.transition.numpy())
    assert found.memory is found.after_suffix is found.next_token_after_suffix is None


@pytest.mark.parametrize("seed", sweep(20, quick=8))
def test_beliefs_equal_masked_conditionals_and_posteriors(seed):
    case, _ = case_and_truth(seed)
    found, options = beliefs_of(case), {"prompt": case.prompt, "impossible": "mask"}
    for t in range(case.tokens.shape[1] + 1):
        prefix = np.pad(case.masked_tokens[:, :t], ((0, 0), (0, 1)), constant_values=MASK)
        next_token = masked_conditionals(case.model, prefix, positions=[-1], **options)[:, 0]
        assert_equal(found.next_token[:, t], next_token)
        of_prefix = posterior(case.model, prefix, **options)
        assert_equal(found.predicted[:, t], of_prefix.smoothed[:, -1])
        assert_equal(found.log_prefix[:, t], of_prefix.log_evidence)


def test_enumeration_by_pyro_agrees():
    compared = 0
    for seed in range(0, 24, 3):
        case, expected = case_and_truth(seed)
        possible = expected.log_prefix[:, -1] > -np.inf
        if not possible.any():  # enumeration refuses impossible text
            continue
        tokens, t = case.masked_tokens[possible], case.tokens.shape[1]
        found = beliefs(case.model, tokens, prompt=case.prompt)
        other = enumeration.posterior(case.model, tokens, prompt=case.prompt)
        assert_equal(found.filtered[:, t], other.smoothed[:, -1])
        assert_equal(found.log_prefix[:, t], other.log_evidence)
        extended = np.pad(tokens, ((0, 0), (0, 1)), constant_values=MASK)
        next_token = enumeration.masked_conditionals(case.model, extended, prompt=case.prompt, positions=[t])[:, 0]
        assert_equal(found.next_token[:, t], next_token)
        compared += len(tokens)
    assert compared >= 12


@functools.cache
def suffixes_and_truth(seed):
    """A template and a soft suffix, and the law of the last state after each text and either of them."""
    case, _ = case_and_truth(seed)
    rng, model = np.random.default_rng(seed), case.model
    before = [oracle.likelihood_rows(model, text, case.prompt) for text in case.ended_texts]
    template = rng.integers(-1, model.vocabulary_size, size=int(rng.integers(1, 3)))
    soft = oracle.random_prompt(rng, int(rng.integers(1, 3)), model.n_states)
    return [
        (suffix, np.array([oracle.after_rows(model, [*each, *rows]) for each in before]))
        for suffix, rows in ((template, oracle.likelihood_rows(model, template)), (SoftPrompt(soft), list(soft)))
    ]


@each_case
def test_a_suffix_follows_each_text_at_its_end(seed):
    case, _ = case_and_truth(seed)
    for suffix, expected in suffixes_and_truth(seed):
        found = beliefs_of(case, suffix=suffix)
        assert_equal(found.after_suffix, expected)
        law = expected @ case.model.transition.numpy() @ case.model.emission.numpy()
        assert_equal(found.next_token_after_suffix, law)
        assert_equal(found.filtered, beliefs_of(case).filtered)  # past its end text is predicted without the suffix


def test_models_in_a_batch_are_read_one_by_one():
    rng = np.random.default_rng(0)
    models = [oracle.random_model(rng, 3, 4) for _ in range(6)]
    batch = HMM.stack(models)[torch.arange(6).view(2, 3)]
    tokens, lengths = rng.integers(-1, 4, size=(2, 3, 5, 4)), rng.integers(5, size=(2, 3, 5))
    prompt, suffix = rng.random((2, 3, 2, 3)), rng.random((2, 3, 1, 3))
    found = beliefs(batch, tokens, prompt=prompt, suffix=suffix, lengths=lengths, impossible="mask")
    shared = beliefs(batch, tokens[0, 0], suffix=[0], lengths=lengths[0, 0], impossible="mask")
    for number, model in enumerate(models):
        p = divmod(number, 3)
        options = {"prompt": prompt[p], "suffix": suffix[p], "lengths": lengths[p], "impossible": "mask"}
        one = beliefs(model, tokens[p], **options)
        other = beliefs(model, tokens[0, 0], suffix=[0], lengths=lengths[0, 0], impossible="mask")
        for name in ("filtered", "predicted", "next_token", "log_prefix", "after_suffix", "next_token_after_suffix"):
            assert_equal(getattr(found, name)[p], getattr(one, name), 1e-14)
            assert_equal(getattr(shared, name)[p], getattr(other, name), 1e-14)


@pytest.mark.parametrize("tokens", [[[], []], np.zeros((2, 0), int), torch.zeros(2, 0, dtype=torch.int64)])
def test_text_may_be_empty(tokens):
    model = oracle.random_model(np.random.default_rng(1), 3, 4)
    found = beliefs(model, tokens)
    assert_equal(found.filtered, model.initial.expand(2, 1, 3))
    assert_equal(found.next_token, (model.initial @ model.transition @ model.emission).expand(2, 1, 4))
    assert (found.log_prefix == 0).all()
    prompt, suffix = np.array([[0.5, 0.2, 0.3]]), np.array([[0.1, 2.0, 1.0], [1.0, 0.0, 3.0]])
    assert_equal(beliefs(model, tokens, prompt=prompt).filtered[0, 0], oracle.after_rows(model, list(prompt)))
    last = beliefs(model, tokens, prompt=prompt, suffix=suffix).after_suffix
    assert_equal(last[1], oracle.after_rows(model, [*prompt, *suffix]))
    ragged = beliefs(model, [[], [0, 1]], suffix=[2], impossible="mask").after_suffix
    rows = oracle.likelihood_rows(model, [0, 1, 2])
    assert_equal(ragged, [oracle.after_rows(model, rows[2:]), oracle.after_rows(model, rows)])


def test_beliefs_far_below_the_smallest_float_come_back():
    tiny = 1e-200
    model = HMM([1, 0], [[1 - tiny, tiny], [0, 1]], [[1, 0], [1 - tiny, tiny]])
    found = beliefs(model, [[0, 1, 0], [1, 1, 1]], suffix=[1])
    expected = oracle.beliefs(model, np.array([[0, 1, 0], [1, 1, 1]]))
    assert_equal(found.filtered, expected.filtered)
    assert_equal(found.log_prefix, expected.log_prefix)
    assert_equal(found.after_suffix, [[0, 1], [0, 1]])


def test_rows_past_an_impossible_token_are_zeros():
    model = HMM([1, 0], [[1, 0], [0.5, 0.5]], [[0.5, 0.5, 0], [0.25, 0.25, 0.5]])
    found = beliefs(model, [[0, 2, 0], [0, 1, 1]], suffix=[1], impossible="mask")
    assert_equal(found.filtered, [[[1, 0], [1, 0], [0, 0], [0, 0]], [[1, 0]] * 4])
    assert_equal(found.log_prefix, [[0, np.log(0.5), -np.inf, -np.inf], np.log(0.5) * np.arange(4)])
    assert (found.next_token[0, 2:] == 0).all()
    assert (found.after_suffix[0] == 0).all()
