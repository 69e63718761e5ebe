"""Heads on a chain of masks in the paper's regimes: how many masks are enough, and how stable their heads are."""

import numpy as np
import pytest

from ppl_hmm import chain_certificate, random_hmm, random_memory_hmm, random_task, sample
from ppl_hmm.recoverability.flattened import flattened_pair

N_MODELS = 20
#: Masks that are enough for all models, and the largest median of half-ranges over ‖μ‖_∞ there and with one mask more.
ENOUGH = {10: (2, 2.0, 1.0), 15: (2, 12.0, 1.0), 20: (3, 2.0, 1.0), 25: (3, 4.0, 1.0), 30: (4, 2.0, 1.0)}


@pytest.mark.slow
@pytest.mark.parametrize("n_states", ENOUGH)
def test_as_many_masks_are_enough_and_no_fewer(n_states):
    n_masks, there, beyond = ENOUGH[n_states]
    half_ranges, fewer = [], 0
    for seed in range(N_MODELS):
        model = random_hmm("wei2021", n_states, 10, seed)
        tokens = sample(model, 1500, 80, seed).tokens
        task = random_task(model, seed, tokens)
        fewer += chain_certificate(model, task, n_masks - 1).recoverable
        found = [chain_certificate(model, task, number) for number in (n_masks, n_masks + 1)]
        assert all(certificate.residual <= 1e-9 for certificate in found)
        agreement = found[0].sign_agreement(tokens)
        assert agreement.agreeing == agreement.decidable > 0
        half_ranges.append([certificate.half_range / float(task.contrasts.abs().max()) for certificate in found])
    assert fewer == 0 or n_states < 15
    assert (np.median(half_ranges, axis=0) <= (there, beyond)).all()


@pytest.mark.slow
@pytest.mark.parametrize(("n_values", "n_masks"), [(2, 2), (3, 2), (5, 3), (7, 3)])
def test_flattened_memories_need_few_masks(n_values, n_masks):
    certified = 0
    for seed in range(8):
        model = random_memory_hmm("wei2021-memory", 4, n_values, 10, seed)
        task = random_task(model, seed, sample(model, 1000, 80, seed).tokens)
        certified += chain_certificate(*flattened_pair(model, task), n_masks).recoverable
    assert certified >= 7
