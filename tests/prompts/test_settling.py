"""Restarts of a prompt that have settled are trained no further, but for the one that leads."""

import numpy as np
import pytest
import torch

from ppl_hmm import (
    OracleLM,
    SoftPrompt,
    fit_prompt,
    latent_posterior,
    random_hmm,
    random_task,
    sample,
)
from ppl_hmm.prompts import training


@pytest.fixture(scope="module")
def given():
    """A model of ten states with labelled text to train and to validate on."""
    model = random_hmm("wei2021", 10, 10, 0)
    task = random_task(model, seed=0)
    text = sample(model, 500, 20, 0).tokens
    labels = task.labels(latent_posterior(model, task, text))
    return OracleLM(model), text[:400], labels[:400], (text[400:], labels[400:])


def fitted(given, **options):
    lm, text, labels, validation = given
    return fit_prompt(lm, text, labels, validation=validation, seed=0, **options)


def test_the_one_that_leads_is_trained_on_through_a_plateau(given):
    """A prompt that is nearly certain of a state: its loss stands still for a hundred steps, then falls to zero."""
    found = fitted(given, start=SoftPrompt(np.eye(10)[[4]]), restarts=1)
    loss = found.history[:, 0]
    assert (loss[30] - loss[120]).abs() < 1e-3 < 0.1 < loss[120]
    assert loss.min() < 0.01
    assert found.validation_score == 1.0


def test_settled_restarts_repeat_their_loss_and_keep_what_they_reached(given, monkeypatch):
    found = fitted(given, restarts=8)
    settled = (found.history[-20:] == found.history[-1]).all(0)
    assert settled.any()
    monkeypatch.setattr(training, "_PATIENCE", 1000)  # none settles
    every = fitted(given, restarts=8)
    for restart in range(8):
        same = (found.history[:, restart] - every.history[:, restart]).abs() < 1e-9
        stopped = len(same) if same.all() else int(same.long().argmin())
        assert stopped >= 20
        assert torch.equal(found.history[stopped:, restart], found.history[stopped - 1, restart].expand(150 - stopped))
    assert every.validation_score <= found.validation_score + 0.01
