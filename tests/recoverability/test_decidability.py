"""Which margins rounding decides: by precision, by length, and by differences of weights alone."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from ppl_hmm import HMM, MemoryHMM, MemoryTask, PosteriorTask, audit, posterior
from ppl_hmm.inference.queries import initial_posterior

TELL_APART = PosteriorTask([[1.0, 0.0], [0.0, 1.0]])
FORGETS_NOTHING = HMM([0.5, 0.5], np.eye(2), [[0.501, 0.499], [0.499, 0.501]])


def in_dtype(model, task, dtype):
    return model.to(dtype), task.to(dtype)


def ties(n_texts, n_tokens):
    """Return texts with as many zeros as ones, in random order: a symmetric model is exactly undecided."""
    rng = np.random.default_rng(0)
    return rng.permuted(np.tile([0, 1], (n_texts, n_tokens // 2)), axis=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("n_tokens", [2, 20, 200])
def test_exact_ties_are_undecidable_in_every_precision(dtype, n_tokens):
    model, task = in_dtype(HMM([0.5, 0.5], np.eye(2), [[0.7, 0.3], [0.3, 0.7]]), TELL_APART, dtype)
    text = ties(100, n_tokens)
    exact, law = posterior(model, text), initial_posterior(model, text)
    for given in (exact, law, law.numpy()):
        assert not task.decidable(given).any()
    assert not TELL_APART.decidable(law).any()  # the law's precision counts, too
    assert not task.decidable(law.double()).any() or dtype == torch.float64  # and the task's


def test_a_long_exact_tie_is_undecidable_in_float64():
    text = np.r_[np.zeros(50_000, int), np.ones(50_000, int)][None]
    exact = posterior(FORGETS_NOTHING, text)
    assert abs(TELL_APART.margins(exact).item()) > float(TELL_APART.tolerance)  # rounding alone
    assert not TELL_APART.decidable(exact).item()
    one_more = np.r_[text[0], 1][None]  # margin about 1e-3
    assert TELL_APART.decidable(posterior(FORGETS_NOTHING, one_more)).item()
    assert TELL_APART.labels(posterior(FORGETS_NOTHING, one_more)).item() == 1


def test_a_long_tie_is_undecidable_with_a_memory():
    """One cell of two values that emit in mirror image; the chain forgets, the memory does not."""
    rows = [[[0.501, 0.499]] * 2, [[0.499, 0.501]] * 2]
    model = MemoryHMM([[0.5, 0.5]], [0.5, 0.5], [[0.6, 0.4], [0.4, 0.6]], [0, 0], rows)
    task = MemoryTask([[1.0, 0.0], [0.0, 1.0]], 0)
    text = np.r_[np.zeros(10_000, int), np.ones(10_000, int)][None]
    assert not task.decidable(posterior(model, text)).item()
    assert task.decidable(posterior(model, text[:, :-1])).item()


def test_audits_of_long_text_leave_ties_out():
    tree = audit(FORGETS_NOTHING, TELL_APART, ties(4, 2000), seed=0, n_sequences=4)
    assert tree["exact_posterior"]["decidable"].sum() == 0
    tolerance = tree["diagnostics/margins"].attrs["tolerance"]
    assert tolerance == float(TELL_APART.tolerance_after(2000, 2)) > float(TELL_APART.tolerance)
    assert set(tree["recoverability"]["decidable"].values) == {0}


def test_text_of_usual_length_keeps_its_tolerance():
    task = PosteriorTask([[0.0, 3.0], [1.0, 0.0]])
    assert float(task.tolerance) == float(task.tolerance_after(80, 30)) == pytest.approx(3e-12, rel=1e-12, abs=0)
    assert float(task.tolerance_after(1000, 30)) > float(task.tolerance)
    assert float(task.to(torch.float32).tolerance) == pytest.approx(3e-12 * 2**29, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", range(3))
def test_no_margin_is_off_by_more_than_the_tolerance(dtype, seed):
    rng = np.random.default_rng(seed)
    n_states, n_tokens = 3, 60
    arrays = [rng.dirichlet(np.ones(n), size=rows) for rows, n in ((1, 3), (3, 3), (3, 4))]
    model = HMM(arrays[0][0], arrays[1] * 0.1 + 0.9 * np.eye(3), arrays[2]).to(dtype)
    task = PosteriorTask(rng.normal(size=(2, 3))).to(dtype)
    text = rng.integers(4, size=(5, n_tokens))
    margins = task.margins(posterior(model, text)).double().numpy()
    initial, transition, emission, contrast = (
        [[Fraction(float(x)) for x in row] for row in np.atleast_2d(array.numpy())]
        for array in (model.initial, model.transition, model.emission, task.contrast)
    )
    for tokens, margin in zip(text, margins, strict=True):
        message = [Fraction(1)] * n_states
        for token in reversed(tokens):
            message = [sum(a * emission[k][token] * message[k] for k, a in enumerate(row)) for row in transition]
        joint = [p * f for p, f in zip(initial[0], message, strict=True)]
        exact = sum(mu * p for mu, p in zip(contrast[0], joint, strict=True)) / sum(joint)
        assert abs(float(exact) - margin) <= float(task.tolerance_after(n_tokens, n_states, dtype))


# Only differences of weights count.


def tasks_of_equal_meaning(weights):
    """Return a task's weights with offsets that all classes share, and scaled."""
    states = np.arange(weights.shape[1])
    yield from (weights + offset for offset in (1.0, -3.0, 1024.0))
    yield weights + 2.0**states
    yield from (weights * scale for scale in (2.0**-300, 0.5, 2.0**300))


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_offsets_and_scales_of_weights_change_nothing(n_classes):
    rng = np.random.default_rng(n_classes)
    weights = np.round(rng.normal(size=(n_classes, 3)) * 2**20) / 2**20  # sums with the offsets are exact
    law = rng.dirichlet(np.ones(3), size=50)
    task = PosteriorTask(weights)
    for other in map(PosteriorTask, tasks_of_equal_meaning(weights)):
        assert torch.equal(other.labels(law), task.labels(law))
        assert torch.equal(other.decidable(law), task.decidable(law))
        torch.testing.assert_close(other.margins(law) / other.scale, task.margins(law) / task.scale, rtol=0, atol=1e-14)


def test_a_large_common_offset_does_not_round_three_classes():
    """The weights differ by 2^-20 at an offset of 1e8: scores with the offset would be equal up to rounding."""
    weights = np.array([[0.0, 1.0], [1.0, 0.0], [0.25, 0.25]]) * 2.0**-20
    law = np.array([[0.5 + 1e-9, 0.5 - 1e-9], [0.5 - 1e-9, 0.5 + 1e-9]])
    task = PosteriorTask(weights + 2.0**26)
    assert task.labels(law).tolist() == PosteriorTask(weights).labels(law).tolist() == [1, 0]
    assert torch.equal(task.margins(law), PosteriorTask(weights).margins(law))
