"""Drawing from laws by number is drawing from copies of them."""

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, strategies as st

from ppl_hmm.base.randomness import Laws, categorical

seeds = st.integers(0, 10_000)


def draws(weights, chosen, seed):
    """Return draws by number, and by a copy of each law."""
    ours = Laws.of(weights).draw(chosen, torch.Generator().manual_seed(seed))
    return ours, categorical(weights[chosen], torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=seeds)
def test_the_same_numbers_come_out(dtype, seed):
    rng = np.random.default_rng(seed)
    n_laws, n_values = map(int, rng.integers(1, 40, size=2))
    weights = oracle.random_rows(rng, n_laws, n_values, zeros=rng.choice([0.0, 0.6])) * 10.0 ** rng.integers(-30, 30)
    weights[rng.random(n_laws) < 0.1] = 0
    chosen = torch.tensor(rng.integers(n_laws, size=(3, 17)))
    ours, expected = draws(torch.tensor(weights, dtype=dtype), chosen, seed)
    assert torch.equal(ours, expected)


def test_a_value_of_weight_zero_is_never_drawn():
    weights = torch.tensor([[0.0, 1e-3, 0.0, 1.0, 0.0]], dtype=torch.float32)
    ours, _ = draws(weights, torch.zeros(100_000, dtype=torch.int64), 0)
    assert ours.unique().tolist() == [1, 3]


def test_a_large_vocabulary():
    weights = torch.rand(3, 50_257, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chosen = torch.arange(300) % 3
    assert torch.equal(*draws(weights, chosen, 1))
