"""Questions to many models: the task of a model goes with its states, and is of what the question says."""

import numpy as np
import pytest
import torch
from fits_of_draws import dirichlet
from oracle import all_texts

from ppl_hmm import HMM, InvalidInput, document_class, latent_posterior, next_token_class, posterior, state_of_word

TEXTS, CLASSES = [[0, 0, 1], [2, 3, 3], [3, 2, 2], [0, 1, 1]], [0, 1, 1, 0]
QUESTIONS = [next_token_class([0, 2]), state_of_word(3), document_class(TEXTS, CLASSES)]
NAMES = ["next_token_class", "state_of_word", "document_class"]


@pytest.mark.parametrize("question", QUESTIONS, ids=NAMES)
def test_weights_go_with_the_states(question):
    model, order = dirichlet(1)[0], torch.tensor([2, 0, 1])
    other = HMM(model.initial[order], model.transition[order][:, order], model.emission[order])
    torch.testing.assert_close(question(other).contrast, question(model).contrast[order])


@pytest.mark.parametrize("question", QUESTIONS[:2], ids=NAMES[:2])
def test_no_text_is_on_the_boundary(question):
    model = dirichlet(1)[0]
    assert model.initial @ question(model).contrast == pytest.approx(0, abs=1e-12)


def test_the_next_token_is_likelier_than_before_the_text():
    model = dirichlet(1)[0]
    texts = torch.from_numpy(all_texts(4, 2))
    law = posterior(model, texts).initial  # P(H_0 | x)
    after = law @ model.transition @ model.emission[:, [0, 2]].sum(-1)
    before = model.initial @ model.transition @ model.emission[:, [0, 2]].sum(-1)
    task = next_token_class([0, 2])(model)
    assert task.labels(latent_posterior(model, task, texts)).tolist() == (after >= before).long().tolist()


def test_the_state_of_a_word_is_likelier_than_before_the_text():
    model = dirichlet(1)[0]
    state = int(model.emission[:, 3].argmax())
    law = posterior(model, torch.from_numpy(all_texts(4, 2))).initial
    task = state_of_word(3)(model)
    assert task.labels(law).tolist() == (law[:, state] >= model.initial[state]).long().tolist()


def test_a_document_is_of_the_class_with_the_nearest_mean():
    model = dirichlet(1)[0]
    law, classes = posterior(model, TEXTS).initial, torch.tensor(CLASSES)
    means = torch.stack([law[classes == c].mean(0) for c in (0, 1)])
    others = posterior(model, all_texts(4, 2)).initial
    nearest = torch.cdist(others, means).argmin(-1)
    task = document_class(TEXTS, CLASSES)(model)
    assert task.labels(others).tolist() == nearest.tolist()


FLAT = HMM([0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]], [[0.25] * 4] * 2)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: next_token_class([]), "different integers"),
        (lambda: next_token_class([0, 0]), "different integers"),
        (lambda: next_token_class(["a"]), "tokens of next_token_class"),
        (lambda: state_of_word(0.5), "token of state_of_word"),
        (lambda: state_of_word(-1), "different integers"),
        (lambda: document_class(TEXTS, [0, 0, 0, 0]), "labels of document_class"),
        (lambda: document_class(TEXTS, [0, 2, 2, 0]), "labels of document_class"),
        (lambda: document_class(TEXTS, [0, 1])(FLAT), "4 labels"),
        (lambda: document_class(TEXTS, CLASSES)(FLAT), "the same for all"),
        (lambda: document_class([[9]], [0])(FLAT), "labels"),
        (lambda: next_token_class([1])(FLAT), "the same for all"),
        (lambda: state_of_word(1)(FLAT), "the same for all"),
        (lambda: next_token_class([4])(FLAT), "0..3"),
        (lambda: next_token_class([1])(dirichlet(2)), "single HMM"),
        (lambda: next_token_class([1])(np.eye(2)), "an HMM"),
    ],
)
def test_bad_input(made, message):
    with pytest.raises(InvalidInput, match=message):
        made()
