"""Expectation-maximisation of models with a memory: brute force over memories and paths, and the flattened model."""

import numpy as np
import oracle
import pytest
import torch
from comparisons import assert_equal, check

from ppl_hmm import MemoryHMM, fit_em, log_likelihood, random_memory_hmm, sample
from ppl_hmm.estimation.climb import Objective
from ppl_hmm.estimation.em import _given
from ppl_hmm.estimation.texts import WeightedTexts

NAMES = ("memory_prior", "initial", "transition", "emission")


def tiny(seed, *, zeros=0.2):
    """Return a model of two or one cells, with zeros, and possible texts of it, some shorter than others."""
    rng = np.random.default_rng(seed)
    model = oracle.random_memory_model(rng, 1 + seed % 2, 2, 2 + seed % 2, 3)
    return model, sample(model, 6, 3, seed).tokens, rng.integers(1, 4, size=6)


def counts_by_brute_force(model, texts, lengths):
    """Return expected uses of each parameter: every memory and every path of each text, one by one."""
    found = {name: np.zeros(getattr(model, name).shape) for name in NAMES}
    cells, evidence = model.cell_of_state.numpy(), 0.0
    for text, length in zip(texts.tolist(), lengths.tolist(), strict=True):
        joint = []
        for given in oracle.given_memories(model):
            logs = oracle.log_joint(given.model, np.array(text[:length]))
            joint.append((given, oracle.all_paths(model.n_states, length), np.exp(given.log_prior + logs)))
        total = sum(weights.sum() for *_, weights in joint)
        evidence += np.log(total)
        for given, paths, weights in joint:
            for path, weight in zip(paths, weights / total, strict=True):
                for cell, value in enumerate(given.memory):
                    found["memory_prior"][cell, value] += weight
                found["initial"][path[0]] += weight
                for before, after, token in zip(path[:-1], path[1:], text[:length], strict=True):
                    found["transition"][before, after] += weight
                    found["emission"][given.memory[cells[after]], after, token] += weight
    return evidence, found


def counted(model, texts, lengths):
    laws, _ = _given(model)
    objective = Objective(
        WeightedTexts.of(texts, lengths=lengths, vocabulary_size=model.vocabulary_size),
        None,
        frozenset(),
        None,
        getattr(model, "cell_of_state", None),
    )
    evidence, counts = objective.counts(laws, objective.texts.batches)
    named = counts._asdict() | {"emission": counts.emission.mT}
    return evidence.item(), {name: array[0].numpy() for name, array in named.items()}


@pytest.mark.parametrize("seed", range(6))
def test_counts_equal_brute_force(seed):
    model, texts, lengths = tiny(seed)
    evidence, counts = counted(model, texts, lengths)
    expected_evidence, expected = counts_by_brute_force(model, texts, lengths)
    assert evidence == pytest.approx(expected_evidence, abs=1e-10)
    for name in NAMES:
        assert_equal(counts[name], expected[name])


@pytest.mark.parametrize("seed", range(6))
def test_counts_are_those_of_the_flattened_model_summed(seed):
    """Two independent routes: pairs that share a parameter add up."""
    model, texts, lengths = tiny(seed)
    _, counts = counted(model, texts, lengths)
    _, flat = counted(model.flatten(), texts, lengths)
    n, m, k = model.n_cells, model.n_memory_values, model.n_states
    initial = flat["initial"].reshape(-1, k)
    assert_equal(counts["initial"], initial.sum(0))
    moves = flat["transition"].reshape(m**n, k, m**n, k)
    assert_equal(counts["transition"], np.einsum("ckcl->kl", moves))
    memories = np.array([np.unravel_index(c, n * (m,)) for c in range(m**n)])
    for cell in range(n):
        for value in range(m):
            own = memories[:, cell] == value
            assert_equal(counts["memory_prior"][cell, value], initial[own].sum())
            for state in np.flatnonzero(model.cell_of_state.numpy() == cell):
                rows = flat["emission"].reshape(m**n, k, -1)[own, state].sum(0)
                assert_equal(counts["emission"][value, state], rows)


@pytest.mark.parametrize("n_cells", [1, 2])
def test_evidence_never_falls_and_zeros_stay(n_cells):
    truth = random_memory_hmm("dirichlet", 3, 2, 5, 0, n_cells=n_cells)
    texts = sample(truth, 60, 12, 0).tokens
    starts = [random_memory_hmm("dirichlet", 3, 2, 5, seed, n_cells=n_cells) for seed in range(1, 5)]
    sparse = [with_zeros(each, truth.cell_of_state, seed) for seed, each in enumerate(starts)]
    fit = fit_em(texts, 3, start=MemoryHMM.stack(sparse), max_iterations=60, seed=0)
    assert fit.restarts.largest_decrease.max() < 1e-9
    assert len(fit.log_likelihood) > 5
    assert isinstance(fit.model, MemoryHMM)
    assert torch.equal(fit.model.cell_of_state, truth.cell_of_state)
    assert fit.log_likelihood[-1].item() == pytest.approx(log_likelihood(fit.model, texts).sum().item(), abs=1e-8)
    for name in NAMES:
        before = getattr(MemoryHMM.stack(sparse), name)
        after = getattr(fit.restarts.models, name)
        assert (before == 0).any() or name in ("memory_prior", "initial")
        assert (after[before == 0] == 0).all()


def with_zeros(model, cells, seed):
    """Return the model without a move and a token."""
    transition, emission = model.transition.clone(), model.emission.clone()
    transition[seed % 3, (seed + 1) % 3] = 0
    emission[seed % 2, seed % 3, seed] = 0
    return MemoryHMM(
        model.memory_prior,
        model.initial,
        transition / transition.sum(-1, keepdim=True),
        cells,
        emission / emission.sum(-1, keepdim=True),
    )


def test_a_memory_of_one_value_is_none():
    """Then the fit is that of the chain alone, step by step."""
    model = random_memory_hmm("dirichlet", 3, 1, 5, 1)
    texts = sample(model, 40, 10, 0).tokens
    ours = fit_em(texts, 3, start=model, max_iterations=20, seed=0)
    plain = fit_em(texts, 3, start=model.flatten(), max_iterations=20, seed=0)
    assert_equal(ours.log_likelihood, plain.log_likelihood, 1e-9)
    assert_equal(ours.model.emission[0], plain.model.emission, 1e-9)


def test_priors_masks_and_fixed_laws_have_the_names_of_the_model():
    model = random_memory_hmm("dirichlet", 2, 2, 4, 0)
    texts = sample(model, 50, 10, 0).tokens
    kept = {"memory_prior": [[1, 0]], "emission": np.ones((2, 2, 4))}
    fit = fit_em(texts, 2, start=model, allowed=kept, fixed=("transition",), prior=2.0, max_iterations=30, seed=0)
    assert fit.model.memory_prior.tolist() == [[1.0, 0.0]]
    assert torch.equal(fit.model.transition, model.transition)
    assert (fit.log_posterior.diff() > -1e-9).all()
    with pytest.raises(Exception, match="names in prior: expected only memory_prior, initial, transition, emission"):
        fit_em(texts, 2, start=model, prior={"cells": 2.0}, seed=0)


def test_float32_and_minibatches():
    model = random_memory_hmm("dirichlet", 2, 2, 4, 0)
    texts = sample(model, 60, 8, 0).tokens
    single = fit_em(texts, 2, start=model.to(torch.float32), max_iterations=20, seed=0)
    double = fit_em(texts, 2, start=model, max_iterations=20, seed=0)
    assert single.model.emission.dtype == torch.float32
    assert single.log_likelihood[-1].item() == pytest.approx(double.log_likelihood[-1].item(), abs=0.05)
    online = fit_em(texts, 2, start=model, batch_size=20, max_iterations=20, seed=0)
    assert online.log_likelihood[-1] > online.log_likelihood[0]


def test_models_whose_states_read_other_cells_are_refused():
    first = random_memory_hmm("dirichlet", 2, 2, 4, 0, n_cells=2)
    second = MemoryHMM(
        first.memory_prior, first.initial, first.transition, 1 - first.cell_of_state, first.emission
    )
    texts = sample(first, 5, 4, 0).tokens
    check(
        lambda: fit_em(texts, 2, start=MemoryHMM.stack([first, second]), seed=0),
        *("cell_of_state of start", "the same cells in all models", "others"),
    )
    check(lambda: fit_em(texts, 3, start=first, seed=0), "start", "K = 3", "K = 2")
