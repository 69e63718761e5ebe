"""Expected counts of few states, as columns of many texts, against the pass that takes laws as rows."""

import numpy as np
import pytest
import torch
from chains import arrays
from comparisons import assert_equal

from ppl_hmm.exact import chain
from ppl_hmm.exact.backends.compiled import Compiled, groups
from ppl_hmm.exact.recursion import Chain


def texts(seed, n_sequences, n_states, dtype):
    """Return chains and ragged texts, the last row of whose tables is the mask's; some weigh nothing."""
    sizes = {"n_models": 2, "n_sequences": n_sequences, "length": 150, "n_states": n_states, "n_rows": 5}
    initial, transition, table, ids = arrays(seed, **sizes, zeros=0.2 if seed % 2 else 0.0)
    stream = np.random.default_rng(seed)
    lengths = torch.tensor(stream.integers(151, size=ids.shape[:2]))
    table = torch.cat([table, torch.ones_like(table[:, :1])], 1)
    ids = torch.where(torch.arange(150) < lengths[..., None], ids, 5)
    weights = torch.tensor(stream.normal(size=ids.shape[:2]) * (stream.random(ids.shape[:2]) < 0.8), dtype=dtype)
    found = Chain(initial.to(dtype), transition.to(dtype), table.to(dtype), ids)
    impossible = chain.evidence_of(found) == -torch.inf
    return found, torch.where(impossible, 0, weights), lengths


def both_ways(monkeypatch, *given):
    """Return what each of the passes finds."""
    monkeypatch.setattr(groups.Groups, "are_columns", True)
    ours = Compiled().gradient(*given)
    monkeypatch.setattr(groups.Groups, "are_columns", False)
    return ours, Compiled().gradient(*given)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("segment_bytes", [1, 1 << 19])
@pytest.mark.parametrize(("n_states", "n_sequences"), [(1, 3), (2, 8), (3, 11), (4, 17), (5, 40), (8, 9)])
def test_columns_count_as_rows_do(n_states, n_sequences, segment_bytes, dtype, monkeypatch):
    monkeypatch.setattr(groups, "SEGMENT_BYTES", segment_bytes)
    given = texts(n_states, n_sequences, n_states, dtype)
    ours, rows = both_ways(monkeypatch, *given)
    counted, tolerance = given[1] != 0, 1e-11 if dtype == torch.float64 else 1e-3
    kept = counted & ~ours[2]
    np.testing.assert_allclose(ours[1][kept], rows[1][kept], rtol=tolerance)
    assert torch.equal(ours[2], rows[2])
    assert not ours[2][~counted].any()
    if not ours[2].any():
        for one, other in zip(ours[0], rows[0], strict=True):
            assert_equal(one, other, tolerance * (1 + float(other.abs().max())))


def test_columns_are_for_laws_of_half_a_vector():
    found, _, _ = texts(1, 3, 1, torch.float64)
    assert groups.Groups.of(found).are_columns
    assert not groups.Groups.of(found.sequences(slice(2))).are_columns
    assert not groups.Groups.of(texts(9, 3, 9, torch.float64)[0]).are_columns


def test_evidence_of_long_texts_leaves_the_range_of_floats(monkeypatch):
    found, _, _ = texts(2, 5, 4, torch.float64)
    stream = torch.Generator().manual_seed(0)
    long = found.with_ids(torch.randint(5, (2, 5, 3000), generator=stream))
    ours, rows = both_ways(monkeypatch, long, torch.ones(2, 5).double())
    assert (ours[1] < -1000).all()
    np.testing.assert_allclose(ours[1], rows[1], rtol=1e-12)


def test_what_comes_near_underflow_is_lost(monkeypatch):
    """A law that stays in its state sees the other state's share fall below any float."""
    still = torch.eye(2).double()[None]
    table = torch.tensor([[[0.9, 0.1], [0.1, 0.9]]]).double()
    ids = torch.zeros(1, 4, 400, dtype=torch.int64)
    ids[0, 1:, ::2] = 1
    given = Chain(torch.tensor([[0.25, 0.75]]).double(), still, table, ids), torch.ones(1, 4).double()
    ours, rows = both_ways(monkeypatch, *given)
    assert ours[2].tolist() == rows[2].tolist() == [[True, False, False, False]]
