"""Beliefs are differentiable in parameters, prompts and suffixes, also at exact zeros and near underflow."""

import numpy as np
import oracle
import pytest
import torch
from comparisons import assert_equal
from sweeps import sweep

from ppl_hmm import HMM, MASK, CausalOracleLM, MemoryHMM, SoftPrompt, beliefs, log_likelihood, next_token_features


def by_hand(parameters, text, prompt, suffix):
    """Return beliefs and probabilities after each prefix of one text, and the belief after the suffix: no scaling."""
    initial, transition, emission = parameters
    law, found = initial, [(initial, torch.ones_like(initial[0]))]
    tokens = [torch.ones_like(initial) if x == MASK else emission[:, x] for x in text]
    for row in (*prompt, *tokens, *suffix):
        law = (law @ transition) * row
        total = law.sum()
        found.append((torch.where(total > 0, law / torch.where(total > 0, total, 1), 0), total))
    kept = found[len(prompt) : len(prompt) + len(text) + 1]
    return torch.stack([each for each, _ in kept]), torch.stack([total for _, total in kept]), found[-1][0]


def leaves(*arrays):
    return [torch.tensor(np.asarray(array)).requires_grad_() for array in arrays]


def gradients(value, arguments):
    return torch.autograd.grad(value, arguments, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("seed", sweep(24, quick=8))
def test_gradients_equal_those_of_the_plain_recursion(seed):
    rng = np.random.default_rng(seed)
    model = oracle.random_model(rng, 3, 4)
    text = np.append(rng.integers(-1, 4, size=3), rng.integers(4))  # the suffix follows the last token
    prompt, suffix = oracle.random_prompt(rng, 1, 3), oracle.random_prompt(rng, 2, 3)
    arguments = leaves(model.initial, model.transition, model.emission, prompt, suffix)
    found = beliefs(HMM(*arguments[:3]), text[None], prompt=arguments[3], suffix=arguments[4], impossible="mask")
    weights = [torch.tensor(rng.normal(size=shape)) for shape in ((5, 3), (5, 4), 5, 3)]
    others = leaves(model.initial, model.transition, model.emission, prompt, suffix)
    filtered, totals, last = by_hand(others[:3], text, others[3], others[4])
    possible = totals > 0
    logs = torch.where(possible, torch.where(possible, totals, 1).log(), 0)
    expected = (filtered, filtered @ others[1] @ others[2], logs, last)
    log_prefix = torch.where(found.log_prefix[0] > -torch.inf, found.log_prefix[0], 0)
    ours = (found.filtered[0], found.next_token[0], log_prefix, found.after_suffix[0])
    for a, b in zip(ours, expected, strict=True):
        assert_equal(a.detach(), b.detach())
    of_ours = gradients(sum((w * a).sum() for w, a in zip(weights, ours, strict=True)), arguments)
    of_others = gradients(sum((w * a).sum() for w, a in zip(weights, expected, strict=True)), others)
    for a, b in zip(of_ours, of_others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_gradients_pass_through_logarithms():
    transition = [[0.7, 0.3 - 1e-200, 1e-200], [0.2, 0.3, 0.5], [0.4, 0.3, 0.3]]
    emission = [[0.5, 0.5 - 1e-150, 1e-150], [0.1, 0.4, 0.5], [0.3, 0.3, 0.4]]  # any law comes near underflow
    tokens = [[0, 2, 1, 0], [1, 1, 2, 2]]
    ours, others = leaves([0.2, 0.3, 0.5], transition, emission), leaves([0.2, 0.3, 0.5], transition, emission)
    weights = torch.arange(30.0, dtype=torch.float64).view(2, 5, 3).cos()
    value = (beliefs(HMM(*ours), tokens).filtered * weights).sum()
    expected = sum((by_hand(others, text, [], [])[0] * w).sum() for text, w in zip(tokens, weights, strict=True))
    assert_equal(value.detach(), expected.detach())
    for a, b in zip(gradients(value, ours), gradients(expected, others), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_gradients_of_memory_models_are_differences(seed):
    rng = np.random.default_rng(seed)
    model, tokens = oracle.random_memory_model(rng, 2, 2, 3, 4), torch.tensor(rng.integers(4, size=(2, 3)))
    positive = [getattr(model, name).clamp(min=0.05) for name in ("memory_prior", "initial", "transition", "emission")]
    arguments = [each.log().requires_grad_() for each in positive]
    weights = torch.tensor(rng.normal(size=(2, 4, 2, 2, 3)))

    def value(prior, initial, transition, emission):
        laws = [each.softmax(-1) for each in (prior, initial, transition)]
        found = beliefs(MemoryHMM(*laws, model.cell_of_state, emission.softmax(-1)), tokens, suffix=[1])
        return (found.joint * weights).sum() + found.next_token_after_suffix[:, 0].sum() + found.log_prefix.sum()

    assert torch.autograd.gradcheck(value, arguments, fast_mode=True)


def test_impossible_prefixes_have_gradient_zero():
    arguments = leaves([1.0, 0.0], [[1.0, 0.0], [0.5, 0.5]], [[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])
    found = beliefs(HMM(*arguments), [[2, 0]], suffix=[0], impossible="mask")
    value = found.filtered[:, 1:].sum() + found.next_token[:, 1:].sum() + found.after_suffix.sum()
    assert all((each == 0).all() for each in gradients(value, arguments))
    assert found.log_prefix.tolist() == [[0, -np.inf, -np.inf]]


def test_the_prefix_has_the_gradient_of_the_likelihood():
    model, tokens = oracle.random_model(np.random.default_rng(2), 3, 4), [[0, 1, 2], [3, 3, 0]]
    ours, others = (leaves(model.initial, model.transition, model.emission) for _ in range(2))
    found, expected = beliefs(HMM(*ours), tokens, impossible="mask"), log_likelihood(HMM(*others), tokens)
    for a, b in zip(
        gradients(found.log_prefix[:, -1].sum(), ours), gradients(expected.sum(), others), strict=True
    ):
        assert_equal(a, b, 1e-9)


def test_a_soft_template_is_learned_through_the_features():
    model = oracle.random_model(np.random.default_rng(4), 3, 4)
    rows = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    features = next_token_features(CausalOracleLM(model), [[0, 1], [2, 2]], SoftPrompt(rows), impossible="mask")
    (gradient,) = gradients(features[:, 0].sum(), [rows])
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).any()
