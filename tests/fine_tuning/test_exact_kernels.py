"""Kernels of an exact model against automatic differentiation of the sum over all paths."""

import itertools

import pytest
import torch

from ppl_hmm import (
    HMM,
    ImpossibleText,
    InvalidInput,
    OracleLM,
    example,
    fisher_kernel,
    latent_posterior,
    log_likelihood,
    posterior,
    posterior_kernel,
    random_hmm,
    sample,
)


def by_enumeration(model, tokens):
    """The oracle: derivatives by logits of log Σ_paths Π p, one text at a time."""
    laws = [model.initial, model.transition, model.emission]
    rows = []
    for text in tokens:
        logits = [torch.where(law > 0, law, 1.0).log().requires_grad_() for law in laws]
        p0, A, W = (
            torch.where(law > 0, each.exp(), 0.0) / torch.where(law > 0, each.exp(), 0.0).sum(-1, keepdim=True)
            for law, each in zip(laws, logits, strict=True)
        )
        total = 0.0
        for path in itertools.product(range(model.n_states), repeat=len(text) + 1):
            p = p0[path[0]]
            for before, state, token in zip(path, path[1:], text.tolist(), strict=False):
                p = p * A[before, state] * (W[state, token] if token >= 0 else 1.0)
            total = total + p
        gradients = torch.autograd.grad(total.log(), logits, materialize_grads=True)
        rows.append(torch.cat([each.flatten() for each in gradients]))
    return torch.stack(rows)


SPARSE = HMM([0.5, 0.5, 0.0], [[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [0.0, 0.4, 0.6]], [[0.7, 0.3], [0.0, 1.0], [0.5, 0.5]])
MODELS = {
    "dense": random_hmm("dirichlet", 3, 3, seed=0),
    "zeros": SPARSE,
    "one state": HMM([1.0], [[1.0]], [[0.2, 0.8]]),
    "equal rows": HMM([0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]], [[0.3, 0.7], [0.3, 0.7]]),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("length", [1, 3])
def test_the_fisher_kernel_is_that_of_enumeration(name, length):
    model = MODELS[name]
    tokens = sample(model, 3, length, seed=1).tokens
    tokens[0, 0] = -1
    scores = by_enumeration(model, tokens)
    torch.testing.assert_close(fisher_kernel(model, tokens), scores @ scores.mT, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(
        fisher_kernel(model, tokens[:2], tokens[1:]), scores[:2] @ scores[1:].mT, rtol=1e-8, atol=1e-10
    )
    emission = scores[:, -model.emission.numel() :]
    found = fisher_kernel(model, tokens, parameters=("emission",))
    torch.testing.assert_close(found, emission @ emission.mT, rtol=1e-8, atol=1e-10)


def test_ends_of_texts_are_masks():
    tokens = sample(SPARSE, 4, 5, seed=0).tokens
    ended = torch.where(torch.arange(5) < 3, tokens, -1)
    found = fisher_kernel(SPARSE, tokens, lengths=[3] * 4)
    torch.testing.assert_close(found, fisher_kernel(SPARSE, ended, tokens[:, :3]))


def test_scores_have_mean_zero():
    model = MODELS["dense"]
    texts = torch.tensor(list(itertools.product(range(3), repeat=3)))
    p = log_likelihood(model, texts).exp()
    assert (p @ fisher_kernel(model, texts)).abs().max() < 1e-12


def test_the_posterior_kernel_is_an_inner_product():
    model, _ = example("aliased")
    tokens = sample(model, 6, 5, seed=0).tokens
    law = posterior(model, tokens).initial
    torch.testing.assert_close(posterior_kernel(model, tokens), law @ law.mT)
    remembering, of_memory = example("memory")
    text = sample(remembering, 6, 5, seed=0).tokens
    law = latent_posterior(remembering, of_memory, text)
    torch.testing.assert_close(posterior_kernel(remembering, text, text[:2], task=of_memory), law @ law[:2].mT)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fisher_kernel(OracleLM(SPARSE), [[0]]), InvalidInput, "HMM"),
        (lambda: fisher_kernel(HMM.stack([SPARSE, SPARSE]), [[0]]), InvalidInput, "fisher_kernel"),
        (lambda: fisher_kernel(SPARSE, [[0]], parameters="emission"), InvalidInput, "laws among initial"),
        (lambda: fisher_kernel(SPARSE, [[0]], parameters=()), InvalidInput, "laws among initial"),
        (lambda: fisher_kernel(HMM([1.0], [[1.0]], [[1.0, 0.0]]), [[0], [1]]), ImpossibleText, "sequence 1"),
        (lambda: posterior_kernel(OracleLM(SPARSE), [[0]]), InvalidInput, "model of posterior_kernel"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
