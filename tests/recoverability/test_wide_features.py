"""Features of heads that see the token at their mask: how many bytes are too many."""

import re

import pytest
import torch

from ppl_hmm import HMM, InvalidInput, OracleLM, PosteriorTask, audit, probe_features
from ppl_hmm.base import positions


def model_of(n_tokens):
    """Two states that emit the lower and the upper half of the tokens more often."""
    low = torch.linspace(2, 1, n_tokens, dtype=torch.float64)
    emission = torch.stack([low, low.flip(0)]) / low.sum()
    return HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], emission)


def test_an_audit_of_many_tokens_is_refused_in_numbers():
    """100 texts of 2000 tokens: 100 · 2001 · 2000 · 8 bytes."""
    model, texts = model_of(2000), torch.arange(300).reshape(100, 3)
    got = re.escape("got 3.2 GB: 100 texts of (V+1)·V = 2001·2000 numbers; pass given='context'")
    with pytest.raises(InvalidInput, match="expected at most 2 GB, " + got):
        audit(model, PosteriorTask([[1.0, 0.0], [0.0, 1.0]], position=-1), texts, seed=0)


def test_context_and_fewer_texts_are_ways_out():
    lm, texts = OracleLM(model_of(2000)), torch.arange(300).reshape(100, 3)
    with pytest.raises(InvalidInput, match="fewer texts"):
        probe_features(lm, texts, position=1)
    assert probe_features(lm, texts, position=1, given="context").shape == (100, 2000)
    assert probe_features(lm, texts[:2], position=1).shape == (2, 2001 * 2000)


@pytest.mark.parametrize(("shape", "dtype"), [((5, 3), torch.float64), ((2, 5, 3), torch.float32)])
def test_the_limit_is_the_size_of_the_answer(shape, dtype, monkeypatch):
    tokens, conditionals = torch.tensor([0, 1, 2, 0, 1]), torch.rand(shape, dtype=dtype)
    found = positions.in_block_of(tokens, conditionals)
    n_bytes = found.numel() * found.element_size()
    monkeypatch.setattr(positions, "FEATURES_LIMIT", n_bytes)
    assert positions.in_block_of(tokens, conditionals).equal(found)
    monkeypatch.setattr(positions, "FEATURES_LIMIT", n_bytes - 1)
    with pytest.raises(InvalidInput, match=f"{found[..., 0].numel()} texts"):
        positions.in_block_of(tokens, conditionals)
