"""Tasks with one label for every text: proved for all texts of any length, claimed of no other task."""

import itertools

import numpy as np
import oracle
import pytest
import torch
from sweeps import sweep

from ppl_hmm import (
    HMM,
    InvalidInput,
    OracleLM,
    PosteriorTask,
    constant_certificate,
    posterior,
    probe_features,
    random_hmm,
    random_task,
    sample,
)


def case(seed):
    """Return a random model and task; zeros, repeated rows, one possible state and three classes are among them."""
    rng = np.random.default_rng(seed)
    n_states, n_tokens = map(int, rng.integers(1, 6, size=2))
    model = oracle.random_model(rng, n_states, n_tokens)
    return model, PosteriorTask(rng.normal(size=(2 + seed % 2, n_states)) + rng.normal(size=(2 + seed % 2, 1)) / 2)


def labels_of(model, task, texts):
    exact = posterior(model, texts, impossible="mask")
    kept = exact.possible & task.decidable(exact)
    return set(task.labels(exact)[kept].tolist())


@pytest.mark.parametrize("block", sweep(8, quick=3))
def test_what_is_proved_holds_for_all_texts(block):
    proved = varied = 0
    for seed in range(50 * block, 50 * block + 50):
        model, task = case(seed)
        if (model.initial > 0).sum() == 1:
            with pytest.raises(InvalidInput, match="expected more than one possible state"):
                constant_certificate(model, task)
            continue
        certificate = constant_certificate(model, task)
        texts = [np.array(oracle.all_texts(model.vocabulary_size, length)) for length in (1, 2, 3, 4)]
        texts.append(sample(model, 50, 30, seed).tokens.numpy())
        found = set().union(*(labels_of(model, task, each) for each in texts))
        if certificate is None:
            varied += len(found) > 1
            continue
        proved += 1
        assert len(found) <= 1
        if found:
            assert certificate.reasons == (f"every text has class {found.pop()}: the head is constant",)
        agreement = certificate.sign_agreement(texts[0][posterior(model, texts[0], impossible="mask").possible.numpy()])
        assert agreement.agreeing == agreement.decidable
    assert proved >= 5
    assert varied >= 1


@pytest.mark.parametrize("seed", range(10))
def test_what_mixes_is_settled(seed):
    # Weights of one sign leave nothing to decide, whatever the model.
    model = random_hmm("dirichlet", 4, 3, seed)
    rng = np.random.default_rng(seed)
    positive = PosteriorTask(np.stack([np.zeros(4), rng.random(4)]))
    certificate = constant_certificate(model, positive)
    assert certificate.recoverable
    torch.testing.assert_close(certificate.weights, torch.ones(3, dtype=torch.float64))
    assert constant_certificate(model, PosteriorTask(-positive.weights)).weights.tolist() == [-1, -1, -1]


def test_a_label_that_only_long_texts_change_is_not_constant():
    # State 1 is told from state 0 by many tokens 1 only: short texts are of class 0 whatever they say.
    model = HMM([0.9999, 0.0001], [[1, 0], [0, 1]], [[0.5, 0.5], [0.4, 0.6]])
    task = PosteriorTask([[1, 0], [0, 1]])
    short = np.array([*itertools.product(range(2), repeat=5)])
    assert labels_of(model, task, short) == {0}
    assert labels_of(model, task, np.ones((1, 80), dtype=int)) == {1}
    assert constant_certificate(model, task) is None


def test_three_classes_choose_one_row():
    model = random_hmm("dirichlet", 3, 4, 0)
    task = PosteriorTask([[0, 0, 0], [2, 3, 4], [1, 1, 1]])
    certificate = constant_certificate(model, task)
    text = sample(model, 20, 5, 0).tokens
    scores = probe_features(OracleLM(model), text) @ certificate.weights.mT
    assert (scores.argmax(-1) == 1).all()
    assert (task.labels(posterior(model, text)) == 1).all()


def test_ties_go_to_the_higher_class():
    model = random_hmm("dirichlet", 2, 2, 0)
    assert constant_certificate(model, PosteriorTask([[1, 1], [1, 1]])).weights.tolist() == [1, 1]


def test_balanced_tasks_are_refused_at_once():
    model = random_hmm("wei2021", 30, 10, 0)
    assert constant_certificate(model, random_task(model, 0, sample(model, 200, 20, 0).tokens)) is None


def test_bad_input():
    model = random_hmm("dirichlet", 2, 2, 0)
    with pytest.raises(InvalidInput, match="task: expected one PosteriorTask on 2 states"):
        constant_certificate(model, PosteriorTask(np.eye(3)))
    with pytest.raises(InvalidInput, match="constant_certificate: expected a single HMM"):
        constant_certificate(HMM.stack([model, model]), PosteriorTask(np.eye(2)))
