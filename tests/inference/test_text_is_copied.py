"""A text once read is a text: filling its buffer anew changes nothing that was asked of it before."""

import numpy as np
import pytest
import torch

from ppl_hmm import log_likelihood, random_hmm, smoothed_segments

EVERY_BACKEND = True


def model_and_text(n_texts, masked):
    model = random_hmm("dirichlet", 4, 5, seed=0)
    buffer = np.random.default_rng(0).integers(-1 if masked else 0, 5, (n_texts, 30))
    return model, buffer, torch.from_numpy(buffer)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_of_the_text_that_was_read(masked):
    gradients = []
    for refilled in (False, True):
        model, buffer, text = model_and_text(20, masked)
        emission = model.emission.clone().requires_grad_()
        total = log_likelihood(type(model)(model.initial, model.transition, emission), text).sum()
        if refilled:
            buffer[:] = 10**9  # no row at all
        gradients.append(torch.autograd.grad(total, emission)[0])
    assert torch.equal(*gradients)


@pytest.mark.parametrize("masked", [False, True])
def test_segments_are_of_the_text_that_was_read(masked):
    laws = []
    for refilled in (False, True):
        model, buffer, text = model_and_text(1, masked)
        segments = smoothed_segments(model, text, 10)
        first = next(segments)
        if refilled:
            buffer[:] = 10**9
        laws.append(torch.cat([first.smoothed, *(segment.smoothed for segment in segments)], dim=-2))
    assert torch.equal(*laws)
