"""Counts of drawn paths: those of the paths that are drawn with the same numbers, on every backend."""

import numpy as np
import oracle
import pytest
import torch
from chains import TINY, arrays
from hypothesis import given, strategies as st

from ppl_hmm.exact import chain as chains, mixture, paths
from ppl_hmm.exact.augmentation import draw_memory_counts, draw_path_counts
from ppl_hmm.exact.mixture import MemoryText
from ppl_hmm.exact.recursion import Chain

BACKENDS = ("torch", "numba")
seeds = st.integers(0, 10_000)


def stream(seed):
    return torch.Generator().manual_seed(seed)


def by_hand(states, ids, lengths, n_rows, n_states):
    """Count paths (P,B,T+1) one use at a time."""
    n_models, n_texts, _ = ids.shape
    initial, table = np.zeros((n_models, n_states)), np.zeros((n_models, n_rows, n_states))
    transition = np.zeros((n_models, n_states, n_states))
    for model in range(n_models):
        for text in range(n_texts):
            path = states[model, text].tolist()
            initial[model, path[0]] += 1
            for t in range(lengths[model, text]):
                transition[model, path[t], path[t + 1]] += 1
                table[model, ids[model, text, t], path[t + 1]] += 1
    return initial, transition, table


def ended(parameters, ids, seed):
    """Return a chain whose texts end at random, and where: the mask's row of ones comes last in the table."""
    initial, transition, table = parameters
    table = torch.cat([table, torch.ones_like(table[:, :1])], 1)
    rng = np.random.default_rng(seed)
    lengths = torch.tensor(rng.integers(ids.shape[-1] + 1, size=ids.shape[:2]))
    past = torch.arange(ids.shape[-1]) >= lengths[..., None]
    return Chain(initial, transition, table, torch.where(past, table.shape[1] - 1, ids)), lengths


@given(seeds)
def test_counts_are_those_of_the_paths(seed):
    rng = np.random.default_rng(seed)
    shape = {"n_states": int(rng.integers(1, 20)), "n_sequences": int(rng.integers(1, 12))}
    *parameters, ids = arrays(seed, length=int(rng.integers(1, 8)), zeros=float(rng.choice([0, 0.3])), **shape)
    chain, lengths = ended(parameters, ids, seed)
    possible = (chains.log_evidence(chain) > -torch.inf).all(0)
    if not possible.any():
        return
    chain, lengths = chain.sequences(possible), lengths[:, possible]
    for backend in BACKENDS:
        log_evidence, counts = draw_path_counts(chain, lengths, stream(seed), backend=backend)
        drawn = paths.sample_paths(chain, 1, stream(seed), backend=backend)[:, :, 0]
        for found, wanted in zip(counts, by_hand(drawn, chain.ids, lengths, *chain.table.shape[1:]), strict=True):
            assert np.array_equal(found, wanted)
        torch.testing.assert_close(log_evidence, chains.log_evidence(chain), rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_texts_near_underflow_are_counted(backend):
    initial, transition, table, ids = arrays(0, n_models=1, n_sequences=4)
    transition[:, :, 0] = torch.where(transition[:, :, 0] > 0, TINY, 0.0)
    table[:, :, 0] *= TINY
    chain, lengths = Chain(initial, transition, table, ids), torch.full((1, 4), ids.shape[-1])
    log_evidence, counts = draw_path_counts(chain, lengths, stream(0), backend=backend)
    torch.testing.assert_close(log_evidence, chains.log_evidence(chain), rtol=0, atol=1e-9)
    assert [int(each.sum()) for each in counts] == [4, lengths.sum(), lengths.sum()]


def test_threads_change_nothing(monkeypatch):
    from ppl_hmm.exact.backends.compiled import groups

    chain = Chain(*arrays(1, n_models=3, n_sequences=50))
    lengths = torch.full((3, 50), 9)
    alone = draw_path_counts(chain, lengths, stream(0), backend="numba")
    monkeypatch.setattr(groups, "WORK_OF_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    again = draw_path_counts(chain, lengths, stream(0), backend="numba")
    assert torch.equal(alone[0], again[0])
    assert all(map(torch.equal, alone[1], again[1]))


def memory_text(seed, n_cells=2, n_values=2, n_states=3, n_rows=4, n_texts=5, length=6):
    rng = np.random.default_rng(seed)
    table = torch.tensor(oracle.random_rows(rng, 2, n_values, n_states, n_rows)).mT
    table = torch.cat([table, torch.ones_like(table[:, :, :1])], 2)
    return MemoryText(
        torch.tensor(oracle.random_rows(rng, 2, n_cells, n_values)),
        torch.tensor(rng.integers(n_cells, size=(2, n_states))),
        torch.tensor(oracle.random_rows(rng, 2, n_states)),
        torch.tensor(oracle.random_rows(rng, 2, n_states, n_states)),
        table,
        torch.tensor(rng.integers(n_rows + 1, size=(2, n_texts, length))),
    )


@pytest.mark.parametrize("seed", range(3))
def test_memories_are_counted_with_the_paths(seed):
    text = memory_text(seed)
    lengths = torch.full(text.ids.shape[:2], text.ids.shape[-1])
    log_evidence, counts = draw_memory_counts(text, lengths, stream(seed))
    states, memory = (each[:, :, 0] for each in mixture.sample_paths(text, 1, stream(seed)))
    held, table = np.zeros(text.memory_prior.shape), np.zeros(text.table.shape)
    for model, b in np.ndindex(*states.shape[:2]):
        for cell, value in enumerate(memory[model, b].tolist()):
            held[model, cell, value] += 1
        for token, h in zip(text.ids[model, b].tolist(), states[model, b, 1:].tolist(), strict=True):
            table[model, memory[model, b, text.cell_of_state[model, h]], token, h] += 1
    assert np.array_equal(counts.memory_prior, held)
    assert np.array_equal(counts.emission, table)
    for found, wanted in zip(counts[1:3], by_hand(states, text.ids, lengths, 5, 3)[:2], strict=True):
        assert np.array_equal(found, wanted)
    torch.testing.assert_close(log_evidence, mixture.forward_backward(text, [0]).log_evidence, rtol=0, atol=1e-10)
