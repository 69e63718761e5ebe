"""Smoothing in segments is smoothing."""

import oracle
import pytest
import torch
from comparisons import assert_equal
from sweeps import sweep

from ppl_hmm import HMM, log_likelihood, posterior, random_hmm, random_memory_hmm, sample, smoothed_segments
from ppl_hmm.errors import ImpossibleText, InvalidInput

EVERY_BACKEND = True


def put_together(segments):
    segments = list(segments)[::-1]
    starts = [segment.start for segment in segments]
    ends = [segment.start + segment.smoothed.shape[-2] for segment in segments]
    assert starts == [0, *ends[:-1]]
    return torch.cat([segment.smoothed for segment in segments], dim=-2)


@pytest.mark.parametrize("seed", sweep(60, quick=20))
@pytest.mark.parametrize("segment_length", [1, 2, 3, 100])
def test_segments_are_the_smoothed_law(seed, segment_length):
    case = oracle.random_case(seed)
    arguments = {"prompt": case.prompt, "lengths": case.lengths}
    possible = log_likelihood(case.model, case.tokens, **arguments) > -torch.inf
    if not possible.all():
        with pytest.raises(ImpossibleText, match="is impossible from"):
            smoothed_segments(case.model, case.tokens, segment_length, **arguments)
        return
    expected = posterior(case.model, case.tokens, **arguments).smoothed
    assert_equal(put_together(smoothed_segments(case.model, case.tokens, segment_length, **arguments)), expected)


@pytest.mark.parametrize("segment_length", [1, 4, 7])
def test_segments_average_over_memories(segment_length):
    model = random_memory_hmm("dirichlet", 4, 2, 5, seed=0, n_cells=2)
    text = sample(model, 3, 15, seed=1).tokens
    found = put_together(smoothed_segments(model, text, segment_length))
    assert_equal(found, posterior(model, text).smoothed)


def test_segments_of_models_in_a_batch():
    models = HMM.stack([random_hmm("dirichlet", 3, 4, seed=seed) for seed in range(2)])
    text = torch.arange(24).reshape(2, 12) % 4
    assert_equal(put_together(smoothed_segments(models, text, 5)), posterior(models, text).smoothed)


def test_a_text_near_underflow_is_refused():
    """The two chains never meet, and each token all but rules out one of them."""
    faint = 1e-200
    model = HMM(initial=[0.5, 0.5], transition=[[1, 0], [0, 1]], emission=[[1 - faint, faint], [faint, 1 - faint]])
    text = torch.tensor([[0, 0, 0, 1, 1, 1]])
    assert_equal(posterior(model, text).smoothed[0, 0], torch.tensor([0.5, 0.5]))
    with pytest.raises(InvalidInput, match=r"near underflow.*use posterior"):
        list(smoothed_segments(model, text, 2))


def test_a_bad_length_is_refused():
    model = random_hmm("dirichlet", 3, 4, seed=0)
    with pytest.raises(InvalidInput, match="segment_length: expected an integer of at least 1, got 0"):
        smoothed_segments(model, [[0, 1]], 0)
