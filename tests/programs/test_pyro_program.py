"""The Pyro program is the model, and Pyro's own enumeration of it gives the same numbers as ours."""

import functools
import itertools

import numpy as np
import oracle
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, infer_discrete
from sweeps import sweep

from ppl_hmm.errors import ImpossibleText, InvalidInput
from ppl_hmm.inference import queries
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.programs import enumeration
from ppl_hmm.programs.hmm import hmm_program
from ppl_hmm.programs.memory import memory_program

N_DRAWS = 20_000

agree = functools.partial(torch.testing.assert_close, rtol=0, atol=1e-10)


def evidence(model, tokens, program=hmm_program, **arguments):
    """Return the log-evidence of the whole plate."""
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    return -elbo.loss(program, lambda *_, **__: None, model, tokens, **arguments)


def toggling():
    """Return a model whose state stays and shows itself: text that changes is impossible."""
    return HMM([0.5, 0.5], [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]])


def telling():
    """Return a model whose state stays and tells the value of its own cell."""
    return MemoryHMM([[0.5, 0.5]] * 2, [0.5, 0.5], [[1.0, 0.0], [0.0, 1.0]], [0, 1], [[[1, 0]] * 2, [[0, 1]] * 2])


@pytest.mark.parametrize("seed", sweep(100, quick=33))
def test_evidence_of_the_plate_is_the_sum_of_log_likelihoods(seed):
    case = oracle.random_case(seed)
    ours = queries.log_likelihood(case.model, case.tokens, lengths=case.lengths, prompt=case.prompt).sum()
    assert evidence(case.model, case.tokens, lengths=case.lengths, prompt=case.prompt) == pytest.approx(
        ours.item(), rel=0, abs=1e-10
    )


@pytest.mark.parametrize("seed", sweep(60, quick=20))
def test_evidence_of_the_plate_is_the_sum_of_log_likelihoods_with_a_memory(seed):
    case = oracle.random_memory_case(seed)
    options = {"lengths": case.lengths, "prompt": case.prompt}
    ours = queries.log_likelihood(case.model, case.tokens, **options).sum()
    assert evidence(case.model, case.tokens, memory_program, **options) == pytest.approx(ours.item(), rel=0, abs=1e-10)


def test_evidence_of_a_predicted_position_is_that_of_the_masked_text():
    model = oracle.random_model(np.random.default_rng(0), 3, 4)
    assert evidence(model, [[0, 3, 1]], predict=(1,)) == pytest.approx(
        queries.log_likelihood(model, [[0, -1, 1]]).item(), abs=1e-10
    )


def test_sites():
    trace = poutine.trace(hmm_program).get_trace(toggling(), [[0, -1]], prompt=[[1.0, 2.0]], predict=(1,))
    samples = {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}
    assert [name for name in samples if name != "sequence"] == [
        "state_0",
        "prompt_state_1",
        "prompt_1",
        "state_1",
        "token_1",
        "state_2",
        "token_2",
    ]
    assert samples["token_1"]["is_observed"]
    assert not samples["token_2"]["is_observed"]


def test_sites_with_a_memory():
    arguments = {"prompt": [[[1.0, 2.0], [3.0, 4.0]]], "predict": (1,)}
    trace = poutine.trace(memory_program).get_trace(telling(), [[0, -1]], **arguments)
    names = [
        "memory_1",
        "memory_2",
        "state_0",
        "prompt_state_1",
        "prompt_1",
        "state_1",
        "token_1",
        "state_2",
        "token_2",
    ]
    samples = {name: site for name, site in trace.nodes.items() if site["type"] == "sample" and name != "sequence"}
    assert list(samples) == names
    assert [name for name in names if samples[name]["is_observed"]] == ["prompt_1", "token_1"]


def test_every_sequence_has_a_memory_of_its_own():
    nodes = poutine.trace(memory_program).get_trace(telling(), np.full((1000, 3), -1)).nodes
    assert nodes["memory_1"]["value"].shape == (1000,)
    assert nodes["memory_1"]["value"].unique().tolist() == [0, 1]


def test_enumeration_recycles_the_dimensions_of_states_and_keeps_those_of_the_memory():
    enumerated = poutine.trace(poutine.enum(memory_program, first_available_dim=-2))
    nodes = enumerated.get_trace(telling(), np.zeros((2, 30), int)).nodes
    # Innermost the plate, then two cells, the silent state, and two states of the chain in turn.
    assert [nodes[f"memory_{j}"]["value"].ndim for j in (1, 2)] == [2, 3]
    assert max(nodes[f"state_{t}"]["value"].ndim for t in range(31)) == 6


@pytest.mark.parametrize("seed", range(4))
def test_infer_discrete_draws_paths_from_the_posterior(seed):
    rng = np.random.default_rng(seed)
    model, prompt = oracle.random_model(rng, 3, 3), rng.gamma(1.0, size=(1, 3))
    text = np.array([0, -1, 2, 0])
    logs = oracle.log_joint(model, text, prompt)
    paths, law = oracle.all_paths(3, 5), np.exp(logs - np.logaddexp.reduce(logs))

    sampler = poutine.trace(infer_discrete(hmm_program, first_available_dim=-2, temperature=1))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        nodes = sampler.get_trace(model, np.tile(text, (N_DRAWS, 1)), prompt=prompt).nodes
    draws = np.stack(
        [nodes[site]["value"] for site in ("state_0", "prompt_state_1", "state_1", "state_2", "state_3", "state_4")],
        axis=1,
    )

    for s, t in itertools.combinations(range(6), 2):
        expected = np.zeros((3, 3))
        np.add.at(expected, (paths[:, s], paths[:, t]), law)
        frequency = np.zeros((3, 3))
        np.add.at(frequency, (draws[:, s], draws[:, t]), 1 / N_DRAWS)
        standard_error = np.sqrt(expected * (1 - expected).clip(min=0) / N_DRAWS)
        # 1e-10: probability zero or one has no standard error, only rounding.
        assert (np.abs(frequency - expected) <= 4 * standard_error + 1e-10).all()


@pytest.mark.parametrize("seed", range(2))
def test_infer_discrete_draws_memories_and_states_from_the_posterior(seed):
    rng = np.random.default_rng(seed)
    model, prompt = oracle.random_memory_model(rng, 2, 2, 2, 3), rng.gamma(1.0, size=(1, 2, 2))
    text = np.array([-1, 0])
    law = oracle.normalised(oracle.memory_log_joint(oracle.given_memories(model, prompt), text)).reshape((2,) * 6)

    sampler = poutine.trace(infer_discrete(memory_program, first_available_dim=-2, temperature=1))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        nodes = sampler.get_trace(model, np.tile(text, (N_DRAWS, 1)), prompt=prompt).nodes
    sites = ("memory_1", "memory_2", "state_0", "prompt_state_1", "state_1", "state_2")
    frequency = np.zeros((2,) * 6)
    np.add.at(frequency, tuple(nodes[site]["value"] for site in sites), 1 / N_DRAWS)
    standard_error = np.sqrt(law * (1 - law).clip(min=0) / N_DRAWS)
    assert (np.abs(frequency - law) <= 4 * standard_error + 1e-10).all()


@pytest.mark.parametrize("seed", sweep(60, quick=20))
def test_posterior_is_ours(seed):
    case = oracle.random_case(seed)
    ours = queries.posterior(case.model, case.masked_tokens, prompt=case.prompt, impossible="mask")
    possible = ours.possible.numpy()
    if not possible.all():
        with pytest.raises(ImpossibleText, match=f"sequence {possible.argmin()}"):
            enumeration.posterior(case.model, case.masked_tokens, prompt=case.prompt)
    if possible.any():
        lengths = None if case.lengths is None else case.lengths[possible]
        theirs = enumeration.posterior(case.model, case.tokens[possible], prompt=case.prompt, lengths=lengths)
        for field in ("log_evidence", "initial", "smoothed", "possible"):
            agree(getattr(theirs, field), getattr(ours, field)[possible])


@pytest.mark.parametrize("seed", sweep(40, quick=13))
def test_masked_conditionals_are_ours(seed):
    case = oracle.random_case(seed)
    ours = queries.masked_conditionals(case.model, case.masked_tokens, prompt=case.prompt, impossible="mask")
    possible = (ours.sum(-1) > 0).all(-1).numpy()
    if not possible.all():
        with pytest.raises(ImpossibleText, match="context of position"):
            enumeration.masked_conditionals(case.model, case.masked_tokens, prompt=case.prompt)
    if possible.any():
        lengths = None if case.lengths is None else case.lengths[possible]
        agree(
            enumeration.masked_conditionals(case.model, case.tokens[possible], prompt=case.prompt, lengths=lengths),
            ours[possible],
        )


def test_positions_are_those_of_the_public_function():
    model = oracle.random_model(np.random.default_rng(1), 3, 4)
    tokens = [[0, 1, 2, -1], [3, 3, 0, 0]]
    agree(
        enumeration.masked_conditionals(model, tokens, positions=[-1, 1]),
        queries.masked_conditionals(model, tokens, positions=[3, 1]),
    )


def test_float32_parameters_give_float32_results():
    model = toggling().to(torch.float32)
    result = enumeration.posterior(model, [[0, 0]])
    assert {result.log_evidence.dtype, result.initial.dtype, result.smoothed.dtype} == {torch.float32}
    assert enumeration.masked_conditionals(model, [[0, 0]]).dtype == torch.float32


@pytest.mark.parametrize("function", [hmm_program, enumeration.posterior, enumeration.masked_conditionals])
@pytest.mark.parametrize(
    ("model", "tokens", "arguments", "message"),
    [
        (HMM.stack([toggling()] * 2), [[0]], {}, "expected a single HMM, got batch dimensions (2,)"),
        (toggling(), [[0, 2]], {}, "token out of range at sequence 0, position 1: expected an id in 0..1"),
        (toggling(), [[0]], {"lengths": [2]}, "length of sequence 0: expected 0..1"),
        (toggling(), [[0]], {"prompt": [[1.0, -1.0]]}, "prompt row entry [0, 1]: expected a non-negative likelihood"),
        (toggling(), [[0]], {"prompt": [[1.0]]}, "prompt: expected shape ('L', 2), got shape (1, 1)"),
    ],
)
def test_bad_arguments_are_named(function, model, tokens, arguments, message):
    with pytest.raises(InvalidInput) as caught:
        function(model, tokens, **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("function", [memory_program, enumeration.posterior, enumeration.masked_conditionals])
@pytest.mark.parametrize(
    ("model", "tokens", "arguments", "message"),
    [
        (MemoryHMM.stack([telling()] * 2), [[0]], {}, "expected a single MemoryHMM, got batch dimensions (2,)"),
        (telling(), [[0, 2]], {}, "token out of range at sequence 0, position 1: expected an id in 0..1"),
        (telling(), [[0]], {"lengths": [2]}, "length of sequence 0: expected 0..1"),
        (telling(), [[0]], {"prompt": [[[1.0, 1.0], [1.0, -1.0]]]}, "prompt row entry [0, 1, 1]: expected a non-neg"),
        (telling(), [[0]], {"prompt": [[1.0, 1.0]]}, "prompt: expected shape ('L', 2, 2), got shape (1, 2)"),
    ],
)
def test_bad_arguments_are_named_with_a_memory(function, model, tokens, arguments, message):
    with pytest.raises(InvalidInput) as caught:
        function(model, tokens, **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(("program", "model"), [(hmm_program, toggling()), (memory_program, telling())])
def test_a_position_outside_the_text_is_named(program, model):
    with pytest.raises(InvalidInput, match=r"positions: expected -2\.\.1, got 2"):
        program(model, [[0, 1]], predict=(2,))


def test_impossible_text_is_named():
    with pytest.raises(ImpossibleText, match="sequence 1: expected text of positive probability"):
        enumeration.posterior(toggling(), [[0, 0], [0, 1]])
    with pytest.raises(ImpossibleText, match="context of position 2 in sequence 0: expected text of positive"):
        enumeration.masked_conditionals(toggling(), [[0, 1, 0]], positions=[2])
    with pytest.raises(ImpossibleText, match="sequence 1: expected text of positive probability"):
        enumeration.posterior(telling(), [[0, 0], [0, 1]])
