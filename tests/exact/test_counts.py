"""Expected counts and the evidence from one pass, of texts that end at their lengths."""

import numpy as np
import pytest
import torch
from chains import arrays
from comparisons import assert_equal
from hypothesis import given, settings, strategies as st

from ppl_hmm.exact import chain
from ppl_hmm.exact.backends.compiled import Compiled, groups
from ppl_hmm.exact.baum_welch import NEGLIGIBLE, most_likely_law
from ppl_hmm.exact.recursion import Chain

BACKENDS = ("torch", "numba")


def ragged(seed, **sizes):
    """Return chains whose last row is the mask's, read from random lengths on."""
    initial, transition, table, ids = arrays(seed, **sizes)
    stream = np.random.default_rng(seed)
    lengths = torch.tensor(stream.integers(ids.shape[-1] + 1, size=ids.shape[:2]))
    table = torch.cat([table, torch.ones_like(table[:, :1])], 1)
    ids = torch.where(torch.arange(ids.shape[-1]) < lengths[..., None], ids, table.shape[1] - 1)
    weights = torch.tensor(stream.normal(size=ids.shape[:2]), dtype=table.dtype)
    impossible = chain.log_evidence(Chain(initial, transition, table, ids)) == -torch.inf
    return Chain(initial, transition, table, ids), torch.where(impossible, 0, weights), lengths


def one_by_one(texts, weights, lengths, backend):
    """Return the same of each text alone, cut at its end."""
    evidence = torch.zeros_like(weights)
    total = [torch.zeros_like(each) for each in texts.parameters]
    for model, sequence in weights.nonzero().tolist():
        own = [each[model : model + 1] for each in texts.parameters]
        end = int(lengths[model, sequence])
        weight = weights[model, sequence]
        if end == 0:
            total[0][model] += weight
            continue
        alone = Chain(*own, texts.ids[model : model + 1, sequence : sequence + 1, :end])
        evidence[model, sequence] = chain.log_evidence(alone, backend=backend)
        counts = chain.log_evidence_gradient(alone, weight.view(1, 1), backend=backend)
        for whole, part in zip(total, counts, strict=True):
            whole[model] += part[0]
    return evidence, total


@pytest.mark.parametrize("backend", BACKENDS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_ragged_texts_count_as_each_alone_does(backend, seed):
    stream = np.random.default_rng(seed)
    sizes = {"n_models": 2, "n_sequences": 11, "length": 7, "n_states": 9, "n_rows": 5}
    sizes = {name: int(stream.integers(1, most + 1)) for name, most in sizes.items()}
    texts, weights, lengths = ragged(seed, **sizes, zeros=stream.choice([0.0, 0.4]))
    evidence, counts = chain.evidence_and_gradient(texts, weights, lengths=lengths, backend=backend)
    expected_evidence, expected = one_by_one(texts, weights, lengths, backend)
    counted = weights != 0
    assert_equal(evidence[counted], expected_evidence[counted])
    for ours, alone in zip((counts.initial, counts.transition), expected, strict=False):
        assert_equal(ours, alone, 1e-10 * (1 + alone.abs().max()))
    assert_equal(counts.table[:, :-1], expected[2][:, :-1], 1e-10 * (1 + expected[2].abs().max()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_texts_near_underflow_leave_the_others_to_the_fast_pass(backend, monkeypatch):
    """Of three texts and two models, what one pair loses is computed again alone, up to its end."""
    still = torch.eye(2).double().expand(2, -1, -1)
    table = torch.tensor([[[0.9, 0.1], [0.1, 0.9], [1, 1]], [[0.6, 0.4], [0.4, 0.6], [1, 1]]]).double()
    ids = torch.full((2, 3, 400), 2)
    ids[:, 0, :340], ids[:, 1, :340:2], ids[:, 1, 1:340:2], ids[:, 2, :40] = 0, 0, 1, 1
    texts = Chain(torch.tensor([[0.25, 0.75]] * 2).double(), still, table, ids)
    weights, lengths = torch.tensor([[2.0, 0.5, 1.0]] * 2).double(), torch.tensor([[340, 340, 40]] * 2)
    in_logarithms = []
    exact = chain.counts_in_logarithms

    def watched(picked, *given):
        in_logarithms.append(len(picked.ids))
        return exact(picked, *given)

    monkeypatch.setattr(chain, "counts_in_logarithms", watched)
    evidence, counts = chain.evidence_and_gradient(texts, weights, lengths=lengths, backend=backend)
    assert in_logarithms == [1]
    log_evidence, expected = one_by_one(texts, weights, lengths, backend)
    np.testing.assert_allclose(evidence, log_evidence, rtol=1e-12)
    for ours, alone in zip((counts.initial, counts.transition, counts.table[:, :2]), expected, strict=False):
        np.testing.assert_allclose(ours, alone[:, : ours.shape[1]], rtol=1e-9)


@pytest.mark.parametrize("dtype", NEGLIGIBLE)
def test_negligible_shares_become_zeros_and_what_is_never_used_stays(dtype):
    least = NEGLIGIBLE[dtype]
    counts = torch.tensor([[[4.0, 4 * least / 2, 0.0], [0.0, 0.0, 0.0]]], dtype=dtype)
    otherwise = torch.full_like(counts, 1 / 3)
    law = most_likely_law(counts, otherwise, -1)
    assert law.tolist() == [[[1.0, 0.0, 0.0], otherwise[0, 1].tolist()]]


@pytest.mark.parametrize("dtype", NEGLIGIBLE)
@pytest.mark.parametrize("n_states", [1, 2, 5, 8])
def test_few_texts_of_few_states_count_as_many_do(n_states, dtype, monkeypatch):
    """One by one in registers, in segments whose lengths do not divide the text's; the others give them to a group."""
    monkeypatch.setattr(groups, "SEGMENT_BYTES", 1)
    texts, weights, lengths = ragged(n_states, n_models=3, n_sequences=2, length=150, n_states=n_states, dtype=dtype)
    assert groups.Groups.of(texts).is_narrow
    together = texts.with_ids(texts.ids.repeat(1, 2, 1)), weights.repeat(1, 2) / 2, lengths.repeat(1, 2)
    assert not groups.Groups.of(together[0]).is_narrow
    ours, wide = (Compiled().gradient(*given) for given in ((texts, weights, lengths), together))
    tolerance = 1e-11 if dtype == torch.float64 else 1e-3
    np.testing.assert_allclose(ours[1], wide[1][:, :2], rtol=tolerance)
    for one, other in zip(ours[0], wide[0], strict=True):
        assert_equal(one, other, tolerance * (1 + float(other.abs().max())))
    assert not ours[2].any()
