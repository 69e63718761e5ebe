"""Regimes of one's own, and the temperatures of the paper's."""

import numpy as np
import pytest
import torch

from ppl_hmm import HMM, InvalidInput, random_hmm, random_memory_hmm
from ppl_hmm.regimes import register, register_memory, registry
from ppl_hmm.regimes.draws import softmax_rows

OF_THE_PACKAGE = ("degenerate", "dirichlet", "ginc", "recoverable", "wei2021", "wei2021-memory")


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """What is registered elsewhere is not there, and what a test registers is gone after it."""
    for regimes in (registry.HMM_REGIMES, registry.MEMORY_REGIMES):
        own = {name: function for name, function in regimes._functions.items() if name in OF_THE_PACKAGE}
        monkeypatch.setattr(regimes, "_functions", own)


def sticky(n_states, vocabulary_size, stream, *, stay=0.9, scale=1.0):
    rows = (scale * torch.rand(n_states, vocabulary_size, generator=stream)).softmax(-1)
    moves = stay * torch.eye(n_states) + (1 - stay) / n_states
    return HMM(torch.ones(n_states) / n_states, moves, rows)


def test_a_registered_regime_is_found():
    assert register("sticky")(sticky) is sticky
    model = random_hmm("sticky", 2, 3, 0, stay=0.5)
    np.testing.assert_allclose(model.transition, [[0.75, 0.25], [0.25, 0.75]])
    assert model.identical(random_hmm("sticky", 2, 3, 0, stay=0.5))
    assert not model.allclose(random_hmm("sticky", 2, 3, 1, stay=0.5))


def test_its_options_are_those_of_its_signature():
    register("sticky")(sticky)
    with pytest.raises(InvalidInput, match="options of regime 'sticky': expected only stay, scale, got colour, size;"):
        random_hmm("sticky", 2, 3, 0, size=1, colour="red")
    with pytest.raises(InvalidInput, match="unknown regime: expected one of degenerate, dirichlet, ginc, sticky, wei"):
        random_hmm("slippery", 2, 3, 0)


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (lambda: torch.ones(2), "Tensor"),
        (lambda: random_memory_hmm("dirichlet", 2, 2, 3, 0), "MemoryHMM"),
        (lambda: random_hmm("dirichlet", 3, 2, 0), r"n_states = 3, vocabulary_size = 2 and batch dimensions \(\)"),
        (lambda: HMM.stack([random_hmm("dirichlet", 2, 3, 0)]), r"vocabulary_size = 3 and batch dimensions \(1,\)"),
    ],
)
def test_a_wrong_result_is_named(returned, got):
    register("wrong")(lambda *_: returned())
    expected = "model of regime 'wrong': expected one HMM with n_states = 2, vocabulary_size = 3, got "
    with pytest.raises(InvalidInput, match=f"{expected}.*{got}; mend"):
        random_hmm("wrong", 2, 3, 0)


def test_memory_regimes():
    @register_memory("same")
    def same(n_states, n_values, vocabulary_size, n_cells, stream):
        return random_memory_hmm("dirichlet", n_states, n_values, vocabulary_size, stream, n_cells=n_cells)

    assert random_memory_hmm("same", 3, 2, 4, 0, n_cells=2).n_cells == 2
    register_memory("plain")(lambda *sizes: sticky(2, 2, sizes[-1]))
    expected = (
        "expected one MemoryHMM with n_states = 2, n_memory_values = 2, vocabulary_size = 2, n_cells = 1, got HMM"
    )
    with pytest.raises(InvalidInput, match=expected):
        random_memory_hmm("plain", 2, 2, 2, 0)


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("dirichlet", sticky, "regime 'dirichlet': expected a name of its own, got that of ppl_hmm.regimes.hmm"),
        (3, sticky, "name of a regime: expected a string, got 3"),
        ("few", abs, r"regime 'few': expected a function of \(n_states, vocabulary_size, stream, \*"),
        ("none", None, "regime 'none': expected a function"),
    ],
)
def test_what_cannot_be_registered(name, function, message):
    with pytest.raises(InvalidInput, match=message):
        register(name)(function)


def test_the_papers_temperatures_are_the_defaults():
    assert random_hmm("wei2021", 4, 5, 0).identical(
        random_hmm("wei2021", 4, 5, 0, temperature=0.01, initial_temperature=10.0)
    )
    with_memory = [
        random_memory_hmm("wei2021-memory", 4, 2, 5, 0, **options) for options in ({}, {"temperature": 0.01})
    ]
    assert with_memory[0].identical(with_memory[1])


def test_temperatures_go_from_one_hot_to_uniform():
    cold = random_hmm("wei2021", 4, 5, 0, temperature=1e-320, initial_temperature=1e-5)
    assert set(cold.transition.unique().tolist()) == set(cold.emission.unique().tolist()) == {0.0, 1.0}
    assert cold.initial.max() == 1
    warm = random_hmm("wei2021", 4, 5, 0, temperature=1e6)
    np.testing.assert_allclose(warm.emission, 1 / 5, rtol=1e-5)
    # The logits of one seed are those of every temperature.
    logits = [random_hmm("wei2021", 4, 5, 0, temperature=t).emission.log() * t for t in (0.5, 2.0)]
    np.testing.assert_allclose(*(own - own[:, :1] for own in logits), atol=1e-14)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), "hot"])
def test_bad_temperatures(temperature):
    with pytest.raises(InvalidInput, match="temperature: expected a positive finite number, got"):
        random_hmm("wei2021", 2, 2, 0, temperature=temperature)
    with pytest.raises(InvalidInput, match="temperature: expected a positive finite number, got"):
        softmax_rows(2, temperature=temperature, stream=torch.Generator())
