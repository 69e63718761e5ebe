"""Beliefs over a memory and the state: brute force, the flattened model, Pyro's enumeration, on every backend."""

import functools

import numpy as np
import oracle
import pytest
import torch
from comparisons import assert_equal
from sweeps import sweep

from ppl_hmm import (
    MASK,
    MemoryHMM,
    MemoryPrompt,
    beliefs,
    masked_conditionals,
    posterior,
)
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact import mixture
from ppl_hmm.inference import beliefs as of_beliefs
from ppl_hmm.programs import enumeration

EVERY_BACKEND = True
each_case = pytest.mark.parametrize("seed", sweep(40, quick=13))


@functools.cache
def case_and_truth(seed):
    case = oracle.random_memory_case(seed)
    length = case.tokens.shape[1] - (case.tokens.shape[1] > 1)
    case = case._replace(
        tokens=case.tokens[:, :length], lengths=None if case.lengths is None else np.minimum(case.lengths, length)
    )
    return case, oracle.memory_beliefs(case.model, case.masked_tokens, case.prompt)


def beliefs_of(case, **options):
    return beliefs(case.model, case.tokens, prompt=case.prompt, lengths=case.lengths, impossible="mask", **options)


@each_case
def test_joint_beliefs_equal_brute_force(seed):
    case, expected = case_and_truth(seed)
    found = beliefs_of(case)
    assert_equal(found.joint, expected.joint)
    assert_equal(found.log_prefix, expected.log_prefix)
    assert_equal(found.next_token, expected.next_token)
    cells = tuple(range(2, 2 + case.model.n_cells))
    assert_equal(found.filtered, expected.joint.sum(cells))
    assert_equal(found.predicted, expected.joint.sum(cells) @ case.model.transition.numpy())
    of_memory = expected.joint.sum(-1)
    marginals = [of_memory.sum(tuple(other for other in cells if other != cell)) for cell in cells]
    assert_equal(found.memory, np.stack(marginals, axis=2))


@pytest.mark.parametrize("seed", range(15))
def test_beliefs_equal_posteriors_of_each_prefix(seed):
    case, _ = case_and_truth(seed)
    found, options = beliefs_of(case), {"prompt": case.prompt, "impossible": "mask"}
    for t in range(case.tokens.shape[1] + 1):
        prefix = np.pad(case.masked_tokens[:, :t], ((0, 0), (0, 1)), constant_values=MASK)
        of_prefix = posterior(case.model, prefix, **options)
        assert_equal(found.memory[:, t], of_prefix.memory)
        assert_equal(found.predicted[:, t], of_prefix.smoothed[:, -1])
        assert_equal(found.log_prefix[:, t], of_prefix.log_evidence)
        next_token = masked_conditionals(case.model, prefix, positions=[-1], **options)[:, 0]
        assert_equal(found.next_token[:, t], next_token)


def test_enumeration_by_pyro_agrees():
    compared = 0
    for seed in (0, 4, 8):
        case, expected = case_and_truth(seed)
        possible = expected.log_prefix[:, -1] > -np.inf
        if possible.any():
            tokens = case.masked_tokens[possible]
            found, other = (f(case.model, tokens, prompt=case.prompt) for f in (beliefs, enumeration.posterior))
            assert_equal(found.filtered[:, -1], other.smoothed[:, -1])
            assert_equal(found.memory[:, -1], other.memory)
            compared += len(tokens)
    assert compared >= 4


@each_case
def test_a_suffix_says_more_of_the_memory(seed):
    case, _ = case_and_truth(seed)
    model, rng = case.model, np.random.default_rng(seed)
    soft = oracle.random_prompt(rng, 1, model.n_memory_values * model.n_states)
    soft = soft.reshape(1, model.n_memory_values, model.n_states)
    token = int(rng.integers(model.vocabulary_size))
    hard = model.emission[:, :, token].numpy()[None]
    for suffix, rows in ((MemoryPrompt(soft), soft), ([token], hard)):
        found = beliefs_of(case, suffix=suffix)
        for b, text in enumerate(case.ended_texts):
            # Text and suffix as the rows of a prompt: the rows of a token are its emissions.
            emission = np.pad(model.emission.numpy(), ((0, 0), (0, 0), (0, 1)), constant_values=1)  # MASK is the last
            of_text = emission[:, :, text].transpose(2, 0, 1)
            prompt = np.concatenate([*([] if case.prompt is None else [case.prompt]), of_text, rows])
            expected = beliefs(model, np.zeros((1, 0), int), prompt=prompt, impossible="mask")
            assert_equal(found.joint_after_suffix[b], expected.joint[0, 0])
            assert_equal(found.next_token_after_suffix[b], expected.next_token[0, 0])
            assert_equal(found.memory_after_suffix[b], expected.memory[0, 0])


def test_memories_in_blocks_and_models_in_batches_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    models = [oracle.random_memory_model(rng, 2, 3, 3, 4) for _ in range(2)]
    tokens = rng.integers(-1, 4, size=(5, 3))
    options = {"lengths": [3, 2, 0, 1, 3], "suffix": [2], "impossible": "mask"}
    found = beliefs(MemoryHMM.stack(models), tokens, **options)
    monkeypatch.setattr(mixture, "BLOCK_BYTES", 1)
    for number, model in enumerate(models):
        one = beliefs(model, tokens, **options)
        for name in ("joint", "memory", "next_token", "log_prefix", "joint_after_suffix", "next_token_after_suffix"):
            assert_equal(getattr(found, name)[number], getattr(one, name), 1e-13)


def test_the_flattened_model_has_the_same_beliefs():
    model = oracle.random_memory_model(np.random.default_rng(3), 2, 2, 3, 4)
    tokens = torch.randint(4, (6, 5), generator=torch.Generator().manual_seed(0))
    found, flat = (beliefs(each, tokens, impossible="mask") for each in (model, model.flatten()))
    assert_equal(found.joint.flatten(2), flat.filtered)
    assert_equal(found.next_token, flat.next_token)


def test_empty_text_leaves_the_prior():
    model = oracle.random_memory_model(np.random.default_rng(5), 2, 2, 3, 4)
    found = beliefs(model, [[]])
    assert_equal(found.memory[0, 0], model.memory_prior)
    assert_equal(found.filtered[0, 0], model.initial)


def test_joint_laws_that_take_too_much_are_refused(monkeypatch):
    monkeypatch.setattr(of_beliefs, "JOINT_LIMIT", 1000)
    model = oracle.random_memory_model(np.random.default_rng(5), 2, 2, 3, 4)
    with pytest.raises(InvalidInput, match=r"joint beliefs over memories and states: .* m\^N = 4 memories"):
        beliefs(model, [[0, 1]] * 5)
