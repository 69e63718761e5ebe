"""The law of the next tokens given a belief, against paths that are listed."""

import itertools

import numpy as np
import pytest
import torch
from oracle import random_model

from ppl_hmm.exact.futures import future_laws


@pytest.mark.parametrize("seed", range(10))
def test_sums_over_all_paths(seed):
    rng = np.random.default_rng(seed)
    n_states, n_tokens, length = rng.integers(1, 4), rng.integers(1, 4), rng.integers(1, 4)
    model = random_model(rng, n_states, n_tokens)
    transition, emission = model.transition.numpy(), model.emission.numpy()
    belief = rng.dirichlet(np.ones(n_states))
    expected = np.zeros((n_tokens,) * length)
    for text in itertools.product(range(n_tokens), repeat=length):
        for path in itertools.product(range(n_states), repeat=length + 1):
            steps = zip(path, path[1:], text, strict=False)
            expected[text] += belief[path[0]] * np.prod([transition[h, g] * emission[g, x] for h, g, x in steps])
    found = future_laws(torch.tensor(belief)[None], model.transition, model.emission, int(length))
    np.testing.assert_allclose(found[0], expected.reshape(-1), atol=1e-14)
