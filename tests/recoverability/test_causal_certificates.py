"""Causal Theorems H and P: certified heads are exact on every text; elsewhere no head's score is the margin."""

import by_hand
import numpy as np
import oracle
import pytest
import torch
from sweeps import sweep

from ppl_hmm import (
    HMM,
    MASK,
    CausalOracleLM,
    InvalidInput,
    LinearHead,
    PosteriorTask,
    beliefs,
    causal_certificate,
    causal_prompt_certificate,
    example,
    find_witness,
    latent_posterior,
    next_token_features,
    position_certificate,
    process,
    random_hmm,
    random_memory_hmm,
)
from ppl_hmm.recoverability.flattened import flattened_pair
from ppl_hmm.schema import Cause, Reader

FAINT = 1e-9  # margins within it may have any sign


def binary(contrast, **options):
    return PosteriorTask(np.stack([0 * contrast, contrast]), **options)


def every_text(model, longest):
    """All possible texts of one to so many tokens, by length."""
    each = [oracle.all_texts(model.vocabulary_size, length) for length in range(1, longest + 1)]
    return [texts[by_hand.filtered(model, texts).sum(1) > 0] for texts in each]


def margins_and_laws(model, contrast, longest, rows=()):
    """Margins μᵀα, next-token laws, and probabilities of what stands after the text, of every text."""
    texts = every_text(model, longest)
    laws = np.concatenate([by_hand.filtered(model, each) for each in texts])
    features, probabilities = zip(*(by_hand.next_token(model, each, rows) for each in texts), strict=True)
    return laws @ contrast, np.concatenate(features), np.concatenate(probabilities)


def outcome(seed, longest=5):
    """One random model and task on the last state: whether a head is certified, and that this is right."""
    rng = np.random.default_rng(seed)
    model = oracle.random_model(rng, int(rng.integers(2, 7)), int(rng.integers(2, 5)))
    contrast = rng.normal(size=model.n_states)
    try:
        certificate = causal_certificate(model, binary(contrast, position=-1))
    except InvalidInput:
        return "certain state"
    margins, features, _ = margins_and_laws(model, contrast, longest)
    told, labels = np.abs(margins) > FAINT, (margins >= 0).astype(int)
    if certificate.recoverable:
        scores = features @ certificate.weights.numpy()
        np.testing.assert_allclose(scores, margins, rtol=0, atol=1e-11)
        assert ((scores >= 0) == labels)[told].all()
        return "exact"
    nearest = features @ np.linalg.lstsq(features, margins, rcond=1e-13)[0]
    assert np.abs(nearest - margins).max() > 1e-8  # no head's scores are the margins
    separable = not told.any() or find_witness(features[told], labels[told]) is None
    return "scores differ" if separable else "witness"


@pytest.mark.parametrize("seed", sweep(24, quick=8))
def test_certified_iff_some_score_is_the_margin_on_every_text(seed):
    outcome(seed)


@pytest.mark.slow
def test_certified_iff_some_score_is_the_margin_on_every_text_of_400_models():
    found = [outcome(seed) for seed in range(400)]
    assert found.count("exact") >= 100
    assert found.count("scores differ") + found.count("witness") >= 200
    assert found.count("witness") >= 80


def test_without_a_template_it_is_the_head_of_a_mask_after_the_text():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        model = oracle.random_model(rng, 4, 3)
        task = PosteriorTask(rng.normal(size=(2 + seed % 2, 4)), position=-1, given="prefix")
        try:
            masked = position_certificate(model, task)
        except InvalidInput:
            continue
        causal = causal_certificate(model, task)
        assert causal.verdict == masked.verdict
        assert causal.residual == pytest.approx(masked.residual, rel=2, abs=1e-12)
        assert causal.reader is Reader.CAUSAL


@pytest.mark.parametrize("given", ["prefix", "text"])
def test_a_position_from_the_front(given):
    model = random_hmm("dirichlet", 3, 4, 0)
    task = PosteriorTask([[0, 0, 0], [1, -1, 0.2]], position=1, given=given)
    texts = oracle.all_texts(4, 3)
    certificate = causal_certificate(model, task, tokens=texts)
    if given == "prefix":  # the head reads the law of the third token
        assert certificate.sign_agreement(texts).share == 1
        features = next_token_features(CausalOracleLM(model), texts[:, :2])
        np.testing.assert_allclose(certificate.features(torch.from_numpy(texts)), features, atol=1e-15)
    else:  # the third token told more of the second state
        assert certificate.cause is Cause.WITNESS
        assert "no function of the law of the last state" in " ".join(certificate.reasons)


def test_trailing_masks_are_no_text():
    model, contrast = random_hmm("dirichlet", 3, 4, 0), np.array([1, -1, 0.2])
    task = binary(contrast, position=-1)
    certificate = causal_certificate(model, task)
    padded = np.c_[oracle.all_texts(4, 2), np.full((16, 2), MASK)]
    assert certificate.sign_agreement(padded) == certificate.sign_agreement(padded[:, :2])


# Templates and prompts after the text.


@pytest.mark.parametrize("seed", range(8))
def test_after_a_template_the_score_is_the_margin_over_its_probability(seed):
    rng = np.random.default_rng(seed)
    model = random_hmm("dirichlet", 3, 4, seed)
    template, contrast = rng.integers(4, size=int(rng.integers(1, 3))), rng.normal(size=3)
    certificate = causal_certificate(model, binary(contrast, position=-1), template, tolerance=1e-6)
    rows = model.emission.numpy().T[template]
    margins, features, probabilities = margins_and_laws(model, contrast, 4, rows)
    assert certificate.recoverable
    scores = features @ certificate.weights.numpy() * probabilities
    share = scores[np.abs(margins).argmax()] / margins[np.abs(margins).argmax()]
    assert share > 0
    np.testing.assert_allclose(scores / share, margins, atol=1e-6)
    texts = oracle.all_texts(4, 3)
    read = next_token_features(CausalOracleLM(model), texts, template)
    head = LinearHead.from_weights(certificate.weights.numpy())
    expected = by_hand.filtered(model, texts) @ contrast
    told = np.abs(expected) > 1e-6
    assert (head.predict(read) == (expected >= 0))[told].all()


@pytest.mark.parametrize("seed", range(6))
def test_where_a_template_does_not_do_no_score_is_the_margin(seed):
    rng = np.random.default_rng(seed)
    model, template = random_hmm("dirichlet", 6, 3, seed), rng.integers(3, size=2)
    contrast = rng.normal(size=6)
    rows = model.emission.numpy().T[template]
    margins, features, probabilities = margins_and_laws(model, contrast, 5, rows)
    texts = oracle.all_texts(3, 5)
    certificate = causal_certificate(model, binary(contrast, position=-1), template, tokens=texts)
    assert not certificate.recoverable
    forms = features * probabilities[:, None]
    nearest = forms @ np.linalg.lstsq(forms, margins, rcond=1e-13)[0]
    assert np.abs(nearest - margins).max() > 1e-6
    if certificate.witness is not None:  # two means of laws after the template are equal, of texts of two labels
        found = certificate.witness
        np.testing.assert_allclose(found.features, by_hand.next_token(model, texts[found.texts], rows)[0], atol=1e-14)
        assert (found.labels == (by_hand.filtered(model, texts[found.texts]) @ contrast >= 0)).all()
        assert found.relative_residual < 1e-14


def prompt_outcome(seed, aliased):
    """A task on four states of the next token, V = 4 and K = 8: a prompt is certified and right on every text."""
    rng = np.random.default_rng(seed)
    initial, transition, emission = (oracle.random_rows(rng, *shape) for shape in ((8,), (8, 8), (8, 4)))
    contrast = np.zeros(8)
    if aliased:  # states 0 and 4 cannot be told by any head, and need different weights
        transition[4] = transition[0]
        contrast[[0, 4]] = rng.normal() * rng.uniform(0.2, 2, size=2)
        contrast[[1, 2]] = rng.normal(size=2)
    else:
        contrast[rng.choice(8, 4, replace=False)] = rng.normal(size=4)
    model = HMM(initial, transition, emission)
    task = PosteriorTask.of_next_state(np.stack([0 * contrast, contrast]), model)
    assert not causal_certificate(model, task).recoverable
    certificate = causal_prompt_certificate(model, task)
    assert certificate.recoverable
    (row,) = certificate.prompt.rows.numpy()
    margins, features, _ = margins_and_laws(model, transition @ contrast, 5, [row])
    told = np.abs(margins) > FAINT
    assert ((features @ certificate.weights.numpy() >= 0) == (margins >= 0))[told].all()
    return set(np.unique(row)) <= {0, 1}


@pytest.mark.parametrize("aliased", [False, True])
def test_a_prompt_after_the_text_recovers_a_task_on_few_states(aliased):
    assert {prompt_outcome(seed, aliased) for seed in range(3)} == {not aliased}


@pytest.mark.slow
def test_a_prompt_after_the_text_is_right_on_every_text_of_51_models():
    assert all(prompt_outcome(seed, False) for seed in range(51))
    assert not any(prompt_outcome(seed, True) for seed in range(51))


def test_prompts_for_three_classes():
    model = random_hmm("dirichlet", 6, 5, 1)
    weights = np.zeros((3, 6))
    weights[:, :3] = np.random.default_rng(1).normal(size=(3, 3))
    task = PosteriorTask.of_next_state(weights, model)
    certificate = causal_prompt_certificate(model, task)
    assert certificate.recoverable
    agreement = certificate.sign_agreement(oracle.all_texts(5, 4))
    assert agreement.share == 1
    assert agreement.decidable > 600


@pytest.mark.parametrize("model", [process("even"), random_memory_hmm("dirichlet", 2, 2, 3, 0), "model.nc"])
def test_the_next_state_is_that_of_an_hmm(model):
    with pytest.raises(InvalidInput, match=r"of_next_state: expected an HMM, got"):
        PosteriorTask.of_next_state([[0, 0], [1, -1]], model)


def test_no_prompt_where_signs_cannot_agree():
    """Aliased states with weights of opposite sign: no score tells them apart, at any weight."""
    model = HMM([0.5, 0.3, 0.2], [[0.6, 0.1, 0.3], [0.1, 0.6, 0.3], [0.1, 0.2, 0.7]], np.eye(3)[[0, 0, 1]])
    task = PosteriorTask.of_next_state([[0, 0, 0], [1, -1, 0]], model)
    assert not causal_prompt_certificate(model, task).recoverable


# The state before the text.


@pytest.mark.parametrize("seed", range(10))
def test_tasks_on_the_first_state_are_out_of_reach(seed):
    rng = np.random.default_rng(seed)
    model, contrast = random_hmm("dirichlet", 3, 4, seed), rng.normal(size=3)
    texts = oracle.all_texts(4, 4)
    certificate = causal_certificate(model, binary(contrast), tokens=texts)
    assert not certificate.recoverable
    assert certificate.cause in (Cause.CONDITION_FAILS, Cause.WITNESS)
    assert "the silent state H₀ given the text is no function" in " ".join(certificate.reasons)
    assert not causal_prompt_certificate(model, binary(contrast)).recoverable
    margins = by_hand.margins(model, contrast, texts)
    features, _ = by_hand.next_token(model, texts)
    nearest = features @ np.linalg.lstsq(features, margins, rcond=1e-13)[0]
    assert np.abs(nearest - margins).max() > 1e-6


def test_but_for_blocks_and_constants():
    rng = np.random.default_rng(0)
    transition = np.zeros((4, 4))
    transition[:2, :2], transition[2:, 2:] = oracle.random_rows(rng, 2, 2), oracle.random_rows(rng, 2, 2)
    model = HMM(oracle.random_rows(rng, 4), transition, oracle.random_rows(rng, 4, 5))
    texts = oracle.all_texts(5, 4)
    blocks, constant, within = (binary(np.array(each)) for each in ([1, 1, -2, -2.0], [1.0] * 4, [1, -1, 0, 0.0]))
    certificate = causal_certificate(model, blocks)
    assert certificate.recoverable
    assert certificate.sign_agreement(texts).share == 1
    scores = by_hand.next_token(model, texts)[0] @ certificate.weights.numpy()
    np.testing.assert_allclose(scores, by_hand.margins(model, np.array([1, 1, -2, -2.0]), texts), atol=1e-12)
    assert causal_certificate(model, constant).recoverable
    assert not causal_certificate(model, within).recoverable


def test_memory_cells_are_blocks():
    """What a cell holds never changes: a causal head reads it off, as a masked one does, where tokens tell it."""
    model, task = flattened_pair(*example("memory"))
    texts = oracle.all_texts(model.vocabulary_size, 3)
    certificate = causal_certificate(model, task, tokens=texts)
    answers = task.answers(latent_posterior(model, task, texts))
    assert certificate.verdict in ("recoverable", "not recoverable", "undecided")
    if certificate.recoverable:
        assert certificate.sign_agreement(texts).agreeing == int(answers.decidable.sum())


def test_the_task_on_the_next_state():
    model, weights = random_hmm("dirichlet", 3, 4, 0), np.random.default_rng(0).normal(size=(3, 3))
    texts = oracle.all_texts(4, 3)
    task = PosteriorTask.of_next_state(weights, model)
    predicted = beliefs(model, texts).predicted[:, -1].numpy()
    np.testing.assert_array_equal(task.labels(latent_posterior(model, task, texts)), (predicted @ weights.T).argmax(1))
    with pytest.raises(InvalidInput, match=r"weights of a task: expected shape \(C, 3\), got \(2, 2\)"):
        PosteriorTask.of_next_state(np.eye(2), model)


def test_what_is_refused():
    model, weights = random_hmm("dirichlet", 3, 4, 0), np.eye(3)[:2]
    with pytest.raises(InvalidInput, match=r"given='context': expected given='prefix' or 'text'.*which needs a mask"):
        causal_certificate(model, PosteriorTask(weights, position=-1, given="context"))
    task = PosteriorTask(weights, position=-1)
    with pytest.raises(InvalidInput, match=r"token 1 of template: expected an id in 0\.\.3.*got 7"):
        causal_certificate(model, task, [0, 7])
    never = HMM(np.ones(2) / 2, [[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5, 0], [0.2, 0.8, 0]])
    with pytest.raises(InvalidInput, match="token 0 of the template: expected one that some state allows"):
        causal_certificate(never, PosteriorTask(np.eye(2), position=-1), [2])
