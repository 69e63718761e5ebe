"""Channel prompts: likelihoods that answer tasks on H₀."""

import by_hand
import numpy as np
import oracle
import pytest
from sweeps import sweep

from ppl_hmm import (
    HMM,
    InvalidInput,
    PosteriorTask,
    channel_prompts,
    latent_posterior,
    log_likelihood,
    random_hmm,
)


def pair(seed, n_classes=2):
    """A random model and task on states whose H_1 is possible, and all possible texts of four tokens."""
    rng = np.random.default_rng(seed)
    model = oracle.random_model(rng, int(rng.integers(2, 6)), int(rng.integers(2, 4)))
    weights = rng.normal(size=(n_classes, model.n_states)) * ((model.initial @ model.transition).numpy() > 0)
    texts = oracle.all_texts(model.vocabulary_size, 4)
    return model, PosteriorTask(weights), texts[by_hand.filtered(model, texts).sum(1) > 0]


def prompts_of(model, task):
    if (model.initial > 0).sum() == 1:
        pytest.skip("H₀ is certain")
    return channel_prompts(model, task)


@pytest.mark.parametrize("seed", sweep(20, quick=8))
def test_the_difference_of_likelihoods_is_the_margin(seed):
    model, task, texts = pair(seed)
    found = prompts_of(model, task)
    minus, plus = (log_likelihood(model, texts, prompt=prompt).exp() for prompt in found.prompts)
    expected = by_hand.messages(model, texts) @ (model.initial.numpy() * task.contrast.numpy())
    np.testing.assert_allclose(plus - minus, expected, rtol=0, atol=1e-12)
    initial, transition, _ = by_hand.arrays(model)
    for prompt, sign in zip(found.prompts, (-1, 1), strict=True):  # u = π₀∘μ±/π₀A
        part = (sign * task.contrast.numpy()).clip(0)
        np.testing.assert_allclose(prompt.rows[0].numpy() * (initial @ transition), initial * part, atol=1e-14)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_likeliest_prompt_is_the_label(seed, n_classes):
    model, task, texts = pair(seed, n_classes)
    found = prompts_of(model, task)
    answers, sure = task.answers(latent_posterior(model, task, texts)), found.sure(texts)
    assert (found.labels(texts) == answers.labels)[sure].all()
    assert sure[answers.margins.abs() > 1e-11].all()


def test_states_that_the_first_token_cannot_come_from():
    model = HMM([0.5, 0.5], [[0, 1], [0, 1]], [[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(InvalidInput, match=r"π₀A > 0, got π₀A = 0 at 0; give moves to them a small probability"):
        channel_prompts(model, PosteriorTask([[0, 0], [1, -1]]))
    assert channel_prompts(model, PosteriorTask([[0, 0], [0, 1]])).labels([[0, 1]]).tolist() == [1]


def test_other_states_have_heads():
    with pytest.raises(InvalidInput, match=r"expected a task on the silent H₀.*use causal_certificate"):
        channel_prompts(random_hmm("dirichlet", 3, 4, 0), PosteriorTask(np.eye(3)[:2], position=-1))
