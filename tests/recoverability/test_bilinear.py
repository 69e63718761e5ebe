"""The bilinear form of prompts with a head: the scores, products and prompts that it promises, on sparse models."""

from fractions import Fraction

import numpy as np
import oracle
import pytest
import torch
from by_hand import arrays, margins, messages

from ppl_hmm.errors import InvalidInput
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.bilinear import BilinearForm
from ppl_hmm.tasks import PosteriorTask

N_STATES, N_TOKENS = 5, 3


def sparse(seed):
    """Return a random model with zeros, a contrast, and all possible texts of four tokens."""
    rng = np.random.default_rng(seed)
    model = HMM(
        oracle.random_rows(rng, N_STATES, zeros=0.3),
        oracle.random_rows(rng, N_STATES, N_STATES, zeros=0.4),
        oracle.random_rows(rng, N_STATES, N_TOKENS, zeros=0.2),
    )
    texts = oracle.all_texts(N_TOKENS, 4)
    return model, rng.normal(size=N_STATES), texts[messages(model, texts) @ model.initial.numpy() > 0], rng


def form_of(model, contrast, texts):
    return BilinearForm.of(model, PosteriorTask([np.zeros(len(contrast)), contrast]), texts)


def forms_by_hand(model, texts):
    """F_i = A diag(f_i) W: (n,K,V)."""
    _, transition, emission = arrays(model)
    return np.stack([transition @ np.diag(message) @ emission for message in messages(model, texts)])


@pytest.mark.parametrize("seed", range(12))
def test_scores_are_those_of_features_behind_the_prompt(seed):
    model, contrast, texts, rng = sparse(seed)
    form = form_of(model, contrast, texts)
    texts, lm = texts[form.texts], OracleLM(model)
    np.testing.assert_allclose(form.labels * form.margins, margins(model, contrast, texts), rtol=0, atol=1e-13)
    reached = model.initial.numpy()
    for length in (1, 2, 3):
        reached = reached @ model.transition.numpy()
        weights = rng.exponential(size=N_STATES) ** 4 * (reached > 0)
        weights[rng.integers(N_STATES)] = 0
        if not weights.any():
            continue
        head = rng.normal(size=N_TOKENS)
        prompt = form.prompt(weights, length)
        assert prompt.rows.shape == (length, N_STATES)
        features = probe_features(lm, texts, prompt=prompt, impossible="mask").numpy()
        np.testing.assert_allclose(form.scores(weights, head), form.labels * (features @ head), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_products_are_those_of_the_matrices(seed):
    model, contrast, texts, rng = sparse(seed)
    form = form_of(model, contrast, texts)
    by_hand = forms_by_hand(model, texts[form.texts])
    scale = form.likelihoods.max(1) / by_hand.sum(2).max(1)
    by_hand = by_hand * scale[:, None, None]
    heads, shares = rng.normal(size=(N_TOKENS, 2)), rng.exponential(size=len(form))
    np.testing.assert_allclose(form.likelihoods, by_hand.sum(2), rtol=1e-12)
    np.testing.assert_allclose(form.reads(heads[:, 0]), by_hand @ heads[:, 0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(form.reads(heads), by_hand @ heads, rtol=0, atol=1e-13)
    combined = np.einsum("i,ikv->kv", shares * form.labels, by_hand)
    np.testing.assert_allclose(form.combined(shares), combined, rtol=0, atol=1e-12)
    few = form.select(np.array([2, 0]))
    np.testing.assert_array_equal(few.messages, form.messages[[2, 0]])
    np.testing.assert_array_equal(few.texts, form.texts[[2, 0]])


@pytest.mark.parametrize("seed", range(4))
def test_gradients_are_those_of_the_scores(seed):
    model, contrast, texts, rng = sparse(seed)
    form = form_of(model, contrast, texts)
    logarithms, head = rng.normal(size=N_STATES), rng.normal(size=N_TOKENS)

    def differences(scores_at, n):
        steps = 1e-6 * np.eye(n)
        return np.stack([(scores_at(step) - scores_at(-step)) / 2e-6 for step in steps], axis=1)

    of_weights = differences(lambda step: form.scores(np.exp(logarithms + step), head), N_STATES)
    of_head = differences(lambda step: form.scores(np.exp(logarithms), head + step), N_TOKENS)
    np.testing.assert_allclose(form.gradients(np.exp(logarithms), head), of_weights, rtol=0, atol=1e-8)
    np.testing.assert_allclose(form.signed_features(np.exp(logarithms)), of_head, rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_rounding_moves_no_score_by_more_than_the_bound(seed):
    model, contrast, texts, rng = sparse(seed)
    form = form_of(model, contrast, texts)
    weights, head = (
        rng.exponential(size=N_STATES) ** 8,
        rng.normal(size=N_TOKENS) * 10.0 ** rng.integers(-8, 1, N_TOKENS),
    )
    errors = form.score_errors(weights, head)
    exact = rational_scores(model, texts[form.texts], weights, head) * form.labels
    assert (np.abs(form.scores(weights, head) - exact) <= errors).all()
    assert (errors < 1e-12 * np.abs(head).max()).all()


def rational_scores(model, texts, weights, head):
    """vᵀF_i b / vᵀF_i 1, in rationals, as floats."""
    transition, emission = (np.vectorize(Fraction, otypes=[object])(each) for each in arrays(model)[1:])
    entering = np.array([Fraction(v) for v in weights.tolist()]) @ transition
    read = emission @ np.array([Fraction(b) for b in head.tolist()])
    scores = []
    for text in texts:
        message = np.full(len(weights), Fraction(1))
        for token in reversed(text.tolist()):
            message = transition @ (emission[:, token] * message)
        total = message @ entering
        scores.append(float(message @ (entering * read) / total) if total else 0.0)
    return np.array(scores)


@pytest.mark.parametrize("length", [1, 2])
def test_weights_of_a_prompt_are_those_that_it_was_made_of(length):
    model, contrast, texts, rng = sparse(3)
    form = form_of(model, contrast, texts)
    reached = (model.initial @ torch.linalg.matrix_power(model.transition, length)).numpy() > 0
    weights = rng.exponential(size=N_STATES) * reached
    np.testing.assert_allclose(form.weights(form.prompt(weights, length)), weights / weights.max(), rtol=1e-14)


def cycle(n_states, starts):
    initial = torch.zeros(n_states, dtype=torch.float64)
    initial[starts] = 1 / len(starts)
    return initial, torch.eye(n_states, dtype=torch.float64).roll(1, 1)


def supports(initial, transition):
    emission = torch.full((len(initial), 2), 0.5, dtype=torch.float64)
    form = form_of(HMM(initial, transition, emission), np.ones(len(initial)), np.array([[0, 0]]))
    return {support.prompt_length: np.flatnonzero(support.states).tolist() for support in form.supports}


def test_supports_are_the_largest_sets_that_prompts_of_some_length_reach():
    positive = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    assert supports(torch.tensor([1.0, 0, 0], dtype=torch.float64), positive) == {1: [0, 1, 2]}
    assert supports(torch.tensor([0.5, 0.5, 0], dtype=torch.float64), torch.eye(3, dtype=torch.float64)) == {1: [0, 1]}
    assert supports(*cycle(4, [0, 1])) == {1: [1, 2], 2: [2, 3], 3: [0, 3], 4: [0, 1]}
    spreading = torch.tensor([[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1]], dtype=torch.float64)
    assert supports(torch.tensor([1.0, 0, 0], dtype=torch.float64), spreading) == {2: [0, 1, 2]}


def test_prompts_that_no_quotient_of_floats_holds():
    model = HMM([1.0, 0.0], [[1.0, 1e-320], [0.5, 0.5]], [[0.9, 0.1], [0.1, 0.9]])
    form = form_of(model, np.array([1.0, -1.0]), np.array([[0, 0], [1, 1]]))
    assert form.prompt(np.array([1.0, 0.0]), 1).rows.tolist() == [[1.0, 0.0]]
    rows = form.prompt(np.array([1.0, 1.0]), 1).rows
    assert rows[0, 1] == 1
    assert 0 < rows[0, 0] < 1e-300


def test_more_than_two_classes_and_undecidable_texts_are_refused():
    model, contrast, texts, _ = sparse(0)
    with pytest.raises(InvalidInput, match="two classes"):
        BilinearForm.of(model, PosteriorTask(np.eye(3, N_STATES)), texts)
    with pytest.raises(InvalidInput, match="decidable"):
        form_of(model, 0 * contrast, texts)
