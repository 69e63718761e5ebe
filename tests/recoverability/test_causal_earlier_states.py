"""Tasks on states before the last one, asked of a causal reader: which of them the filtered law answers."""

import by_hand
import numpy as np
import oracle
import pytest

from ppl_hmm import HMM, InvalidInput, PosteriorTask, causal_certificate, latent_posterior

PLACES = [(None, "text"), (0, "text"), (1, "text"), (-2, "text"), (-1, "text")]


def random_pair(seed):
    """A random model, every other one of two blocks of states, and a contrast, every fourth one of the blocks."""
    rng = np.random.default_rng(seed)
    n_states = int(rng.integers(2, 5))
    model = oracle.random_model(rng, n_states, int(rng.integers(2, 5)))
    if seed % 2 and n_states > 2:
        first = np.arange(n_states) < 2
        moves = np.where(first[:, None] == first, model.transition.numpy(), 0)
        moves[moves.sum(1) == 0] = np.eye(n_states)[moves.sum(1) == 0]
        model = HMM(model.initial, moves / moves.sum(1, keepdims=True), model.emission)
    contrast = rng.normal(size=n_states)
    return model, np.where(np.arange(n_states) < 2, 1, -0.7) if seed % 4 == 1 else contrast


def read(model, task, longest=5):
    """Next-token laws and margins of every text that has the task's position."""
    features, margins = [], []
    for length in range(1, longest + 1):
        if task.place.within(length):
            texts = oracle.all_texts(model.vocabulary_size, length)
            texts = texts[by_hand.filtered(model, texts).sum(1) > 0]
            features.append(by_hand.next_token(model, texts)[0])
            margins.append(task.margins(latent_posterior(model, task, texts)).numpy())
    return np.concatenate(features), np.concatenate(margins)


def check(seed, place):
    """Certified iff some score is the margin on every text, but where the certificate says that it cannot tell."""
    model, contrast = random_pair(seed)
    task = PosteriorTask(np.stack([0 * contrast, contrast]), *place)
    try:
        certificate = causal_certificate(model, task)
    except InvalidInput:
        return None
    features, margins = read(model, task)
    if certificate.recoverable:
        scores = features @ certificate.weights.numpy()
        np.testing.assert_allclose(scores, margins, rtol=0, atol=certificate.margin_error + 1e-11)
    elif "float64 does not tell" not in certificate.reasons[-1]:
        nearest = features @ np.linalg.lstsq(features, margins, rcond=1e-13)[0]
        assert np.abs(nearest - margins).max() > 1e-8
    return certificate.recoverable


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_certified_iff_some_score_is_the_margin(place):
    found = [check(seed, place) for seed in range(14)]
    assert {True, False} <= set(found)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_certified_iff_some_score_is_the_margin_in_100_models(place):
    found = [check(seed, place) for seed in range(100)]
    assert found.count(True) >= 15
    assert found.count(False) >= 40
