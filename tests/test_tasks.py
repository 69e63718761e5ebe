"""Labels and margins as functions of the posterior."""

import numpy as np
import pytest
import torch

from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.queries import posterior
from ppl_hmm.inference.sampling import sample
from ppl_hmm.regimes import random_hmm
from ppl_hmm.tasks import PosteriorTask

# Eighths and small integers: scores are exact, so ties are ties.
EXACT = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.125, 0.375, 0.5]], dtype=torch.float64)


def test_binary_labels_and_margins():
    task = PosteriorTask([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert task.contrast.tolist() == [-1, 1, 0]
    assert task.margins(EXACT).tolist() == [-0.25, 0.25, 0.25]
    assert task.labels(EXACT).tolist() == [0, 1, 1]
    assert (task.n_classes, task.n_states) == (2, 3)


def test_a_contrast_is_told_how_to_be_a_task():
    mu = [1, 0, 0, 0, -1]
    with pytest.raises(InvalidInput, match=r"got shape \(5,\); .* for a contrast mu pass \[\[0\] \* len\(mu\), mu\]"):
        PosteriorTask(mu)
    assert PosteriorTask([[0] * len(mu), mu]).contrast.tolist() == mu


def test_binary_ties_go_to_the_higher_class():
    task = PosteriorTask([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    tied = [[0.25, 0.25, 0.5], [0.0, 0.0, 1.0]]
    assert task.margins(tied).tolist() == [0, 0]
    assert task.labels(tied).tolist() == [1, 1]


def test_many_classes_labels_and_margins():
    task = PosteriorTask([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0], [1.0, 1.0, 1.0]])
    assert task.labels(EXACT).tolist() == [0, 1, 2]
    assert task.margins(EXACT).tolist() == [1, 1, 0.5]  # top minus second: 2 − 1, 2 − 1, 2 − 1.5


@pytest.mark.parametrize(
    ("weights", "winner"),
    [
        ([[1, 1, 1], [1, 1, 1], [0, 0, 0]], 1),
        ([[1, 1, 1], [0, 0, 0], [1, 1, 1]], 2),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], 3),
        ([[2, 2, 2], [1, 1, 1], [1, 1, 1]], 0),
    ],
)
def test_ties_among_many_classes_go_to_the_highest(weights, winner):
    task = PosteriorTask(weights)
    assert task.labels(EXACT).tolist() == [winner] * 3
    assert task.margins(EXACT).tolist() == [1 if winner == 0 else 0] * 3


def test_labels_of_many_classes_reduce_to_two():
    weights = np.random.default_rng(0).normal(size=(2, 4))
    initial = torch.tensor(np.random.default_rng(1).dirichlet(np.ones(4), size=200))
    two, three = PosteriorTask(weights), PosteriorTask(np.vstack([weights, np.full(4, -100.0)]))
    assert torch.equal(two.labels(initial), three.labels(initial))
    assert torch.allclose(two.margins(initial).abs(), three.margins(initial), rtol=0, atol=1e-12)
    assert torch.equal(two.labels(initial), (two.margins(initial) >= 0).long())


def test_tolerance_follows_the_weights():
    assert PosteriorTask([[1.0, -3.0, 0.0], [0.0, 2.0, 0.0]]).tolerance.item() == pytest.approx(5e-12, rel=1e-12)
    assert PosteriorTask([[0.0, 7.0], [1.0, 0.0], [0.0, 3.0]]).tolerance.item() == pytest.approx(7e-12, rel=1e-12)
    assert PosteriorTask(np.ones((2, 3))).tolerance == 0


def test_decidable_is_beyond_the_tolerance():
    task = PosteriorTask([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    close = torch.tensor(
        [[0.5, 0.5, 0.0], [0.5, 0.5 + 0.5e-12, 0.0], [0.5, 0.5 + 2e-12, 0.0], [0.5, 0.25, 0.25]], dtype=torch.float64
    )
    assert task.decidable(close).tolist() == [False, False, True, True]
    assert task.decidable(close, tolerance=0.3).tolist() == [False, False, False, False]
    assert task.decidable(close, tolerance=0.25).tolist() == [False, False, False, False]  # must exceed it
    assert task.decidable(close, tolerance=0.2).tolist() == [False, False, False, True]
    assert task.decidable(close, tolerance=0.0).tolist() == [False, True, True, True]


def test_labels_take_posterior_records():
    model = random_hmm("dirichlet", 3, 4, seed=0)
    result = posterior(model, sample(model, 20, 6, seed=0).tokens)
    task = PosteriorTask(np.random.default_rng(0).normal(size=(3, 3)))
    assert torch.equal(task.labels(result), task.labels(result.initial))
    assert torch.equal(task.labels(result), (result.initial @ task.weights.T).argmax(-1))
    assert torch.equal(task.margins(result.initial.numpy()), task.margins(result))


@pytest.mark.parametrize("n_classes", [2, 4])
def test_stacked_tasks_equal_one_by_one(n_classes):
    rng = np.random.default_rng(0)
    tasks = [PosteriorTask(rng.normal(size=(n_classes, 3)) * 10.0**p) for p in range(5)]
    initial = torch.tensor(rng.dirichlet(np.ones(3), size=(5, 30)))
    batch = PosteriorTask.stack(tasks)
    assert batch.batch_shape == (5,)
    assert batch.tolerance.shape == (5,)
    assert batch.labels(initial).shape == (5, 30)
    for p, task in enumerate(tasks):
        assert torch.equal(batch.labels(initial)[p], task.labels(initial[p]))
        assert torch.allclose(batch.margins(initial)[p], task.margins(initial[p]), rtol=1e-12, atol=1e-12)
        assert torch.equal(batch.decidable(initial)[p], task.decidable(initial[p]))
        assert batch[p].identical(task)
    # One task serves a batch of posteriors.
    assert torch.equal(tasks[0].labels(initial)[3], tasks[0].labels(initial[3]))


def test_tasks_survive_a_dataset():
    task = PosteriorTask(np.random.default_rng(0).normal(size=(3, 4)))
    assert task.to_dataset()["weights"].dims == ("class", "state")
    assert PosteriorTask.from_dataset(task.to_dataset()).identical(task)


def test_contrast_needs_two_classes():
    with pytest.raises(InvalidInput, match=r"contrast.*expected two classes, got 3 classes"):
        _ = PosteriorTask(np.eye(3)).contrast
