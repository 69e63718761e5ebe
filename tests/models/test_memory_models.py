"""Memory models, their tasks, prompts and text: records, regimes, sampling, bad input."""

import itertools

import numpy as np
import oracle
import pytest
import torch
from comparisons import assert_shares, case, check

from ppl_hmm.base.tokens import MASK
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.configurations import configurations
from ppl_hmm.inference.queries import memory_posterior, posterior
from ppl_hmm.inference.sampling import as_tree, sample
from ppl_hmm.models import HMM, MemoryHMM, MemoryPrompt
from ppl_hmm.recoverability.memory import memory_certificate
from ppl_hmm.regimes import random_memory_hmm, random_task
from ppl_hmm.tasks import MemoryTask, PosteriorTask

HALVES = [[0.5, 0.5]] * 2
MODEL = MemoryHMM(HALVES, [0.5, 0.5], HALVES, [0, 1], [HALVES, HALVES])
DATASET = MODEL.to_dataset()


def build(**changes):
    fields = {"memory_prior": HALVES, "initial": [0.5, 0.5], "transition": HALVES, "cell_of_state": [0, 1]}
    return MemoryHMM(**{**fields, "emission": [HALVES, HALVES], **changes})


# Records.


def test_sizes():
    model = random_memory_hmm("dirichlet", 5, 3, 7, seed=0, n_cells=2)
    assert (model.n_states, model.n_memory_values, model.vocabulary_size, model.n_cells) == (5, 3, 7, 2)
    flat = model.flatten()
    assert isinstance(flat, HMM)
    assert (flat.n_states, flat.vocabulary_size) == (45, 7)
    assert MemoryHMM.stack([model, model]).flatten().batch_shape == (2,)


def test_a_model_too_large_to_write_out_is_refused_with_its_size():
    model = random_memory_hmm("dirichlet", 4, 4, 5, 0, n_cells=12)
    with pytest.raises(
        InvalidInput, match=r"flatten: expected at most 16384 pairs .*, got m\^N·K = 4\^12·4 = 67108864"
    ):
        model.flatten()


def test_the_cells_stay_integers():
    model = MODEL.to(torch.float32)
    assert model.emission.dtype == torch.float32
    assert model.cell_of_state.dtype == torch.int64
    assert MODEL.identical(MemoryHMM.from_dataset(DATASET))
    assert DATASET["emission"].dims == ("memory_value", "state", "token")
    assert DATASET["memory_prior"].dims == ("cell", "memory_value")


def test_configurations_count_with_the_last_cell_fastest():
    assert configurations(2, 3).tolist() == [list(values) for values in itertools.product(range(3), repeat=2)]
    assert configurations(2, 3, range(4, 6)).tolist() == [[1, 1], [1, 2]]


@pytest.mark.parametrize(
    ("call", "what", "expected", "got", "error"),
    [
        case("prior", lambda: build(memory_prior=[[0.5, 0.4], [1, 0]]), "memory_prior row 0", "sum to 1", "0.9"),
        case("emission", lambda: build(emission=[HALVES, [[1, 1], [1, 0]]]), "emission row", "sum to 1", "2"),
        case("negative", lambda: build(memory_prior=[[-1.0, 2.0], [1, 0]]), "memory_prior", "non-negative", "-1"),
        case("cell", lambda: build(cell_of_state=[0, 2]), "cell_of_state[1]", "a cell in 0..1", "2"),
        case("negative cell", lambda: build(cell_of_state=[-1, 0]), "cell_of_state[0]", "a cell in 0..1", "-1"),
        case("float cell", lambda: build(cell_of_state=[0.0, 1.0]), "cell_of_state", "integers", "float64"),
        case("values", lambda: build(memory_prior=[[1.0], [1.0]]), "sizes of MemoryHMM", "(m, K, V)", "(2, 1)"),
        case("states", lambda: build(cell_of_state=[0]), "sizes of MemoryHMM", "cell_of_state (K,)", "(1,)"),
        case("rank", lambda: build(emission=HALVES), "emission", "at least 3 dimensions", "(2, 2)"),
        case("variable", lambda: MemoryHMM.from_dataset(DATASET.drop_vars("emission")), "emission", "initial", ""),
        case("task classes", lambda: MemoryTask([[1.0, 0]], 0), "weights of a task", "at least two classes", "(1, 2)"),
        case("task cell", lambda: MemoryTask(HALVES, -1), "target_cell", "counted from 0", "-1"),
        case("task float", lambda: MemoryTask(HALVES, 0.5), "target_cell", "integers", "float"),
        case(
            "cell of the task",
            lambda: MemoryTask(HALVES, 2).labels(posterior(MODEL, [[0]])),
            "target_cell",
            "a cell in 0..1",
            "2",
        ),
        case(
            "posterior without memory",
            lambda: MemoryTask(HALVES, 0).labels(posterior(MODEL.flatten(), [[0]])),
            "posterior of a MemoryTask",
            "that of a MemoryHMM",
            "Posterior",
        ),
        case("empty prompt", lambda: MemoryPrompt(np.ones((0, 2, 2))), "prompt", "at least one prompt token", "(0,"),
        case("prompt", lambda: posterior(MODEL, [[0]], prompt=np.ones((1, 2))), "prompt", "('L', 2, 2)", "(1, 2)"),
        case("regime", lambda: random_memory_hmm("x", 2, 2, 2, 0), "regime", "wei2021-memory", "'x'"),
        case("option", lambda: random_memory_hmm("dirichlet", 2, 2, 2, 0, a=1.0), "option", "concentration", "a"),
        case("size", lambda: random_memory_hmm("dirichlet", 2, 0, 2, 0), "n_memory_values", "1", "0"),
        case("cells", lambda: random_memory_hmm("wei2021-memory", 2, 2, 2, 0, n_cells=2), "n_cells", "1", "2"),
        case(
            "room",
            lambda: random_memory_hmm("recoverable", 2, 2, 2, 0),
            "sizes of regime",
            "m·n_recoverable < V",
            "V=2",
        ),
        case(
            "breaks", lambda: random_memory_hmm("recoverable", 2, 2, 5, 0, breaks="x"), "breaks", "independence", "'x'"
        ),
        case(
            "one value",
            lambda: random_task(random_memory_hmm("dirichlet", 2, 1, 2, 0), 0, [[0]]),
            "memory cell 0",
            "more than one possible value",
            "value 0 only",
        ),
    ],
)
def test_bad_input(call, what, expected, got, error):
    check(call, what, expected, got, error)


# Regimes.


@pytest.mark.parametrize(
    ("regime", "n_cells"), [("wei2021-memory", 1), ("dirichlet", 1), ("dirichlet", 3), ("recoverable", 2)]
)
def test_the_same_seed_gives_the_same_model(regime, n_cells):
    one, same, other = (random_memory_hmm(regime, 4, 2, 10, seed, n_cells=n_cells) for seed in (3, 3, 4))
    assert one.identical(same)
    assert not one.allclose(other)


def test_wei2021_memory_is_nearly_deterministic():
    model = random_memory_hmm("wei2021-memory", 4, 5, 10, seed=0)
    assert model.cell_of_state.tolist() == [0] * 4
    assert (model.transition.max(-1).values > 0.5).double().mean() >= 0.5
    assert (model.emission.max(-1).values > 0.5).double().mean() >= 0.5
    assert (model.memory_prior.max() < 0.5).all()


@pytest.mark.parametrize("n_recoverable", [1, 2, 3])
@pytest.mark.parametrize("n_cells", [1, 2])
def test_recoverable_models_are_so_for_a_sure_token(n_recoverable, n_cells):
    model = random_memory_hmm("recoverable", 5, 2, 9, seed=0, n_cells=n_cells, n_recoverable=n_recoverable)
    assert (model.emission[:, n_recoverable:, 0] == 0).all()
    assert (model.emission[:, :n_recoverable, 0] > 0).all()
    states = range(n_recoverable)
    assert memory_certificate(model, MemoryTask(np.eye(2), 0), recoverable_states=states).recoverable


def test_random_tasks_ask_for_any_cell_and_are_balanced():
    model = random_memory_hmm("dirichlet", 3, 3, 4, seed=0, n_cells=2)
    text = sample(model, 300, 10, seed=0).tokens
    tasks = [random_task(model, seed, text) for seed in range(12)]
    assert {int(task.target_cell) for task in tasks} == {0, 1}
    for task in tasks:
        assert isinstance(task, MemoryTask)
        share = task.labels(posterior(model, text)).double().mean()
        assert 0.05 <= share <= 0.95
    assert tasks[0].identical(random_task(model, 0, text))


# Tasks.


@pytest.mark.parametrize("n_classes", [2, 3])
def test_labels_come_from_the_posterior_of_the_target_cell(n_classes):
    model = random_memory_hmm("dirichlet", 3, 3, 4, seed=1, n_cells=2)
    text, weights = sample(model, 50, 6, seed=0).tokens, np.random.default_rng(0).normal(size=(n_classes, 3))
    exact = posterior(model, text)
    for cell in (0, 1):
        task = MemoryTask(weights, cell)
        law = memory_posterior(model, text)[:, cell].numpy()
        scores = law @ weights.T
        assert task.labels(exact).tolist() == scores.argmax(1).tolist()
        top = np.sort(scores, axis=1)
        margin = scores[:, 1] - scores[:, 0] if n_classes == 2 else top[:, -1] - top[:, -2]
        np.testing.assert_allclose(task.margins(exact), margin, rtol=0, atol=1e-12)
        assert torch.equal(task.labels(law), task.labels(exact))


def test_tasks_of_two_kinds_are_not_mixed():
    with pytest.raises(InvalidInput, match=r"posterior of a task: expected laws of shape"):
        MemoryTask(np.eye(2, 3), 0).labels(posterior(MODEL, [[0]]))
    assert not PosteriorTask(HALVES).identical(MemoryTask(HALVES, 0))


# Sampling.


@pytest.mark.parametrize("seed", range(2))
def test_samples_follow_the_joint_law(seed):
    model = oracle.random_memory_model(np.random.default_rng(seed), 2, 2, 2, 2)
    drawn = sample(model, 40_000, 2, seed=seed)
    law = np.zeros((2,) * 7)  # memory, H₀ H₁ H₂, X₁ X₂
    for x in itertools.product(range(2), repeat=2):
        law[..., x[0], x[1]] = np.exp(oracle.memory_log_joint(oracle.given_memories(model), np.array(x))).reshape(
            (2,) * 5
        )
    count = np.zeros_like(law)
    columns = torch.cat([drawn.memory, drawn.initial_state[:, None], drawn.states, drawn.tokens], dim=1)
    np.add.at(count, tuple(columns.numpy().T), 1)
    assert_shares(count, law)


def test_samples_of_batches_and_lengths():
    models = MemoryHMM.stack([random_memory_hmm("dirichlet", 2, 3, 4, seed, n_cells=2) for seed in range(2)])
    drawn = sample(models, 3, 5, seed=0, lengths=[5, 0, 2])
    assert drawn.memory.shape == (2, 3, 2)
    assert drawn.states.shape == (2, 3, 5)
    assert (drawn.tokens == MASK).sum(-1).tolist() == [[0, 5, 3]] * 2
    assert torch.equal(drawn.memory, sample(models, 3, 5, seed=0).memory)


def test_a_sample_as_a_tree_has_its_memory():
    tree = as_tree(MODEL, sample(MODEL, 4, 3, seed=0), seed=0)
    assert tree["latent/memory"].dims == ("sequence", "cell")
    assert MODEL.identical(MemoryHMM.from_dataset(tree["model"].to_dataset()))
