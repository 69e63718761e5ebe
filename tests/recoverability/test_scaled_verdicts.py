"""Verdicts do not depend on how small the part of G is that tells texts apart, nor on weights that no text reads."""

from fractions import Fraction

import numpy as np
import pytest
import rational
import torch
from comparisons import assert_equal

from ppl_hmm import (
    HMM,
    InvalidInput,
    MemoryTask,
    OracleLM,
    PosteriorTask,
    audit,
    find_witness,
    head_certificate,
    position_certificate,
    posterior,
    probe_features,
    smallest_half_range,
)
from ppl_hmm.audits import questions
from ppl_hmm.recoverability.certificate import SignAgreement
from ppl_hmm.tasks import on_possible_values

SIGNS = np.array([1.0, -1, -1, 1])


def faint_pair(exponent):
    """Return a model whose first two tokens tell its classes apart by 2^-exponent alone, and the task on them."""
    rare, faint = np.array([0.125, 0.5, 0.25, 0.75]), SIGNS * 2.0**-exponent
    emission = np.stack([(1 - rare) / 2 + faint, (1 - rare) / 2 - faint, rare], 1)
    return HMM([0.25] * 4, np.full((4, 4), 0.125) + 0.5 * np.eye(4), emission), PosteriorTask([[0] * 4, SIGNS])


def told_texts(model, task, seed):
    """Return features and labels of the decidable ones of 200 texts: rounded truth, as rounding could hide a head."""
    tokens = np.random.default_rng(seed).integers(3, size=(200, 6))
    answers = task.answers(posterior(model, tokens))
    exact = rational.ExactModel(model)
    features = np.array([exact.of(text).conditionals for text in tokens.tolist()], float)
    assert_equal(probe_features(OracleLM(model), tokens), features, 1e-14)
    told = answers.decidable.numpy()
    return features[told], answers.labels.numpy()[told]


def right_in_rationals(features, labels, head):
    scores = [sum(Fraction(g) * Fraction(b) for g, b in zip(row, head, strict=True)) for row in features.tolist()]
    return all(score > 0 if label else score < 0 for score, label in zip(scores, labels, strict=True))


@pytest.mark.parametrize("exponent", [38, 40, 42, 43, 44])
def test_a_head_that_reads_a_faint_difference_leaves_no_witness(exponent):
    features, labels = told_texts(*faint_pair(exponent), exponent)
    assert set(labels) == {0, 1}
    assert right_in_rationals(features, labels, [1.0, -1.0, 0.0])
    assert find_witness(features, labels) is None
    # A third class that (−20, −20, 2) finds, where heads ±(1, −1, 0) score 0.
    assert features[:, 2].max() < 0.9
    assert find_witness(np.r_[features, [[0.0, 0.0, 1.0]]], np.r_[labels, 2]) is None


@pytest.mark.parametrize("exponent", [40, 42, 44])
def test_a_faint_difference_does_not_hide_a_witness(exponent):
    features, labels = told_texts(*faint_pair(exponent), exponent)
    assert find_witness(np.r_[features, features[:1]], np.r_[labels, 1 - labels[:1]]) is not None


def test_an_audit_does_not_refute_a_head_that_exists():
    tree = audit(*faint_pair(42), length=6, n_sequences=300, seed=0)
    assert tree["recoverability"]["verdict"].values[0] == "undecided"


def chains(weight):
    """Return a model that enters states 2 and 3 only after the first, which tokens cannot tell, and a task on it."""
    moves = np.zeros((7, 7))
    for state, successor in ((0, 2), (1, 3), (2, 4), (3, 5), (4, 4), (5, 5), (6, 6)):
        moves[state, successor] = 1
    emission = [[0.5, 0.5]] * 4 + [[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]]
    return HMM([0.5, 0.5] + [0] * 5, moves, emission), PosteriorTask([[0] * 7, [1, -1, 0, 0, 0, 0, weight]])


@pytest.mark.parametrize("weight", [0.0, 1.0, -1e10, 1e10, 1e300])
def test_weights_on_impossible_states_change_no_certificate(weight):
    model, task = chains(weight)
    certificate, plain = head_certificate(model, task), head_certificate(*chains(0.0))
    assert certificate.verdict == plain.verdict == "undecided"
    assert certificate.residual == pytest.approx(1)  # no head reads the margin, which is ±1
    assert certificate.margin_error == plain.margin_error
    assert smallest_half_range(model, task).half_range == float("inf")


@pytest.mark.parametrize("weight", [0.0, 1e10])
def test_weights_on_impossible_states_change_no_verdict_of_an_audit(weight):
    tree = audit(*chains(weight), length=8, n_sequences=60, seed=0)
    assert tree["recoverability"]["verdict"].values[0] == "not recoverable"
    np.testing.assert_array_equal(tree["exact_posterior"]["decidable"], 1)
    assert tree["task"]["weights"].values[1, 6] == weight  # as it was given


@pytest.mark.parametrize("given", ["text", "prefix", "context"])
def test_weights_on_states_that_a_position_cannot_have_change_no_certificate(given):
    moves = [[0.5, 0.3, 0.2, 0], [0.1, 0.6, 0.3, 0], [0.3, 0.3, 0.4, 0], [0, 0, 0, 1]]
    model = HMM([0.5, 0.3, 0.2, 0], moves, [[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.4, 0.6]])
    plain, heavy = (
        position_certificate(model, PosteriorTask([[0] * 4, [1, -2, 1.5, weight]], position=-1, given=given))
        for weight in (0.0, 1e12)
    )
    assert plain.verdict == heavy.verdict == "undecided"
    assert plain.residual == heavy.residual > 1e-3


def test_margins_do_not_read_impossible_values():
    model, task = chains(1e10)
    restricted = on_possible_values(model, task)
    law = posterior(model, [[0, 1, 0, 0], [0, 0, 1, 1]])
    torch.testing.assert_close(restricted.margins(law), task.margins(law), rtol=0, atol=0)
    assert restricted.scale == 1


def test_a_verdict_that_claims_nothing_is_withdrawn(monkeypatch):
    model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.2, 0.8]])
    task = PosteriorTask([[1, 0], [0, 1]])
    monkeypatch.setattr(
        questions.head_certificate(model, task).__class__, "agreement_on", lambda *_: SignAgreement(0, 0, 40)
    )
    with pytest.warns(RuntimeWarning, match="claims none of 40 decidable texts"):
        tree = audit(model, task, length=6, n_sequences=40, seed=0)
    assert (tree["recoverability"]["verdict"] == "undecided").all()


@pytest.mark.parametrize(
    "weights",
    [
        [[1e308, 0, -1e308], [-1e308, 0, 1e308]],
        [[0, 0], [1.0, -1e308], [0, 1e308]],
        torch.tensor([[3e38, 0], [-3e38, 0]], dtype=torch.float32),
    ],
)
def test_differences_of_weights_that_overflow_are_refused(weights):
    for kind in (PosteriorTask, lambda each: MemoryTask(each, 0)):
        with pytest.raises(InvalidInput, match="weights of a task: expected differences between classes of at most"):
            kind(weights)


def test_the_largest_differences_are_accepted():
    task = PosteriorTask([[0.5e308, 0], [-0.5e308, 0]])
    assert torch.isfinite(task.contrasts).all()
