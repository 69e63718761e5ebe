"""Prompts found for given texts: right by formulas of the tests' own, and never claimed where there are none."""

import dataclasses
import itertools
import time
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
import torch
from by_hand import conditionals, margins

from ppl_hmm.errors import ImpossibleText, InvalidInput
from ppl_hmm.inference.queries import posterior
from ppl_hmm.inference.sampling import sample
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.models import HMM
from ppl_hmm.prompts.fitted import fit_prompt
from ppl_hmm.recoverability import search
from ppl_hmm.recoverability.bilinear import BilinearForm
from ppl_hmm.recoverability.decision import FAINT
from ppl_hmm.recoverability.prompt import prompt_certificate
from ppl_hmm.recoverability.search import Start, find_prompt
from ppl_hmm.regimes import random_hmm, random_task
from ppl_hmm.regimes.examples import example
from ppl_hmm.schema import Cause, Verdict
from ppl_hmm.tasks import PosteriorTask


def problem(seed, n_states=6, n_tokens=3, length=4):
    """Return a random dense model, a contrast, its task, and all texts of a length."""
    rng = np.random.default_rng(seed)
    arrays = (oracle.random_rows(rng, *shape) for shape in ((n_states,), (n_states, n_states), (n_states, n_tokens)))
    contrast = rng.normal(size=n_states)
    task = PosteriorTask([np.zeros(n_states), contrast])
    return HMM(*arrays), contrast, task, oracle.all_texts(n_tokens, length)


def stripes():
    """Return a model that no prompt helps: coins of one of four biases, the label every other of them.

    The share of heads orders G whatever the prompt (its likelihood ratios are monotone), and the label changes thrice.
    """
    heads = np.array([0.05, 0.3, 0.7, 0.95])
    model = HMM(np.full(4, 0.25), np.eye(4), np.stack([1 - heads, heads], 1))
    texts = np.tril(np.ones((13, 12), int), -1)
    return model, PosteriorTask([[0, 0, 0, 0], [1, -1, 1, -1]]), texts


@pytest.mark.parametrize(("seed", "separable"), [(0, True), (1, True), (2, True), (6, True), (4, False)])
def test_what_is_found_is_right_on_the_texts_that_it_claims(seed, separable):
    model, contrast, task, texts = problem(seed)
    found = find_prompt(BilinearForm.of(model, task, texts), restarts=3 if separable else 1)
    margin = margins(model, contrast, texts)
    scores = conditionals(model, texts, found.prompt) @ found.head
    right = (scores >= 0) == (margin >= 0)
    claimed = np.abs(margin) > (1 + 1e-9) * found.resolution + 1e-12
    assert right[claimed].all()
    assert set(np.flatnonzero(~right & (np.abs(margin) > 1e-9))) <= set(found.wrong)
    np.testing.assert_allclose(found.resolution, np.abs(margin)[found.wrong].max(initial=0), rtol=1e-9)
    assert found.separates == (found.resolution == 0) == separable


def test_a_given_start_is_tried_as_it_is_before_anything_else():
    model, task = example("aliased")
    texts = oracle.all_texts(model.vocabulary_size, 3)
    certificate = prompt_certificate(model, task)
    form = BilinearForm.of(model, task, texts)
    found = find_prompt(form, starts=[Start(certificate.prompt, certificate.weights.numpy())], seconds=0)
    assert found.separates
    assert torch.equal(found.prompt.rows, certificate.prompt.rows)
    with_head_of_its_own = find_prompt(form, starts=[Start(certificate.prompt)], seconds=0)
    assert torch.equal(with_head_of_its_own.prompt.rows, certificate.prompt.rows)


def test_a_prompt_that_no_state_emits_is_a_start_like_any_other():
    model, _, task, texts = problem(1)
    form = BilinearForm.of(model, task, texts)
    found = find_prompt(form, starts=[Start(np.zeros((1, model.n_states)))], seconds=0)
    assert np.isfinite(found.head).all()
    assert (found.prompt.rows > 0).all()


def test_the_same_seed_finds_the_same_prompt():
    model, _, task, texts = problem(4)
    form = BilinearForm.of(model, task, texts)
    first, again, other = (find_prompt(form, restarts=1, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.prompt.rows, again.prompt.rows)
    np.testing.assert_array_equal(first.head, again.head)
    assert not torch.equal(first.prompt.rows, other.prompt.rows)


def test_the_search_ends_in_time_and_says_how_far_it_came():
    model = random_hmm("wei2021", 25, 10, seed=0)
    texts = sample(model, 500, 20, seed=0).tokens
    form = BilinearForm.of(model, random_task(model, 0, texts), texts)
    start = time.monotonic()
    found = find_prompt(form, seconds=0.2, restarts=10**6)
    assert time.monotonic() - start < 2
    assert found.resolution == form.margins[np.isin(form.texts, found.wrong)].max(initial=0)
    coarse = find_prompt(form, resolution=0.1 * form.scale)
    assert coarse.resolution <= 0.1 * form.scale


def test_prompts_of_every_length_are_searched():
    """States in a cycle, from two of them: prompts of each length reach another pair."""
    emission = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.9, 0.05, 0.05], [0.05, 0.9, 0.05]])
    model = HMM([0.5, 0.5, 0, 0], np.roll(np.eye(4), 1, 1), emission)
    task = PosteriorTask([[0, 0, 0, 0], [1, -1, 0, 0]])
    texts = list(itertools.product(range(3), repeat=3))
    possible = posterior(model, texts, impossible="mask").possible.numpy()
    form = BilinearForm.of(model, task, np.array(texts)[possible])
    assert [support.prompt_length for support in form.supports] == [1, 2, 3, 4]
    best = find_prompt(form, restarts=4)
    assert best.resolution <= min(alone(length, model, task, np.array(texts)[possible]) for length in (1, 2, 3, 4))


def alone(length, model, task, texts):
    """Return the resolution of prompts of one length."""
    found = find_prompt(BilinearForm.of(model, task, texts, prompt_length=length), restarts=1)
    assert found.prompt.rows.shape == (length, model.n_states)
    return found.resolution


def test_certificates_tell_all_texts_from_these():
    model, task = example("aliased")
    texts = [[0, 1], [0, 2], [2, 2]]
    of_all = prompt_certificate(model, task, texts)
    assert (of_all.verdict, of_all.found) == (Verdict.RECOVERABLE, None)
    model, _, task, texts = problem(1)
    without, of_these = prompt_certificate(model, task), prompt_certificate(model, task, texts)
    assert without.verdict is Verdict.UNDECIDED
    assert (of_these.verdict, of_these.cause) == (Verdict.SEPARATES, Cause.SEARCH)
    assert not of_these.recoverable
    assert of_these.reasons[0].startswith("a prompt was found that is right, with its head, on all")
    assert of_these.reasons[1:] == without.reasons
    assert torch.equal(of_these.prompt.rows, without.prompt.rows)  # that of the theorem
    none = prompt_certificate(*stripes(), seconds=0.01)
    assert (none.verdict, none.cause) == (Verdict.UNDECIDED, Cause.CONDITION_FAILS)
    assert none.found.resolution > 0
    assert none.reasons[0].startswith(f"the best prompt found leaves {len(none.found.wrong)} of ")
    later = prompt_certificate(*stripes(), seconds=4)
    assert (later.verdict, later.refutation.margin) == (Verdict.NOT_RECOVERABLE, FAINT)
    assert later.refutation.holds_exactly()


def test_lengths_of_texts_count():
    model, _, task, texts = problem(2)
    lengths = np.arange(len(texts)) % 4 + 1
    padded = np.where(np.arange(4) < lengths[:, None], texts, -1)
    by_lengths, by_masks = (BilinearForm.of(model, task, *each) for each in ((texts, lengths), (padded,)))
    np.testing.assert_array_equal(by_lengths.messages, by_masks.messages)
    np.testing.assert_array_equal(by_lengths.labels, by_masks.labels)


BAD = {
    "no time": ({"seconds": -1}, InvalidInput, "seconds: expected a non-negative number"),
    "resolution": ({"resolution": float("nan")}, InvalidInput, "resolution: expected a non-negative number"),
    "tokens": ({"tokens": [[0, 9]]}, InvalidInput, "token out of range"),
    "impossible": ({"tokens": [[0, 1], [2, 2]]}, ImpossibleText, "sequence 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_searched_is_refused(case):
    options, error, message = BAD[case]
    model = HMM([0.5, 0.3, 0.2], np.eye(3), [[0.5, 0.5, 0], [0.5, 0.5, 0], [0.4, 0.6, 0]])
    task = PosteriorTask([[0, 0, 0], [1, -1, 0]])
    with pytest.raises(error, match=message):
        prompt_certificate(model, task, **{"tokens": [[0, 1]], **options})


def test_training_starts_from_what_was_found():
    model, _, task, texts = problem(3)
    found = find_prompt(BilinearForm.of(model, task, texts))
    labels = task.labels(posterior(model, texts))
    other = model.emission.new_ones(1, model.n_states)
    fit = fit_prompt(
        OracleLM(model),
        texts,
        labels,
        validation=(texts, labels),
        restarts=2,
        seed=0,
        start=[found.prompt, type(found.prompt)(other)],
    )
    random = fit_prompt(OracleLM(model), texts, labels, validation=(texts, labels), restarts=2, seed=0)
    assert (fit.history[0] != random.history[0]).all()
    assert fit.history[0, 0] < random.history[0].min()
    with pytest.raises(InvalidInput, match="start: expected at most 1 prompts, got 2"):
        fit_prompt(
            OracleLM(model), texts, labels, validation=(texts, labels), restarts=1, seed=0, start=[found.prompt] * 2
        )


def test_a_start_without_errors_is_kept():
    """Training would leave a prompt that has all text right for one that has nearly all right."""
    model, _, task, texts = problem(3)
    found = find_prompt(BilinearForm.of(model, task, texts))
    assert found.separates
    lm, labels = OracleLM(model), np.array(["no", "yes"])[task.labels(posterior(model, texts))]
    options = {"validation": (texts, labels), "restarts": 1, "seed": 0}
    fit = fit_prompt(lm, texts, labels, start=found, **options)
    torch.testing.assert_close(fit.prompt.rows, found.prompt.rows, rtol=0, atol=0)
    np.testing.assert_array_equal(fit.head.coef_[0], found.head)
    assert fit.validation_score == 1
    # A start that is wrong everywhere is left.
    reverse = dataclasses.replace(found, head=-found.head)
    assert fit_prompt(lm, texts, labels, start=[reverse], **options).validation_score > 0.9
    with pytest.raises(InvalidInput, match="start: expected a prompt for 3 classes, got one found for two"):
        fit_prompt(lm, texts, np.arange(len(texts)) % 3, start=found, **{**options, "validation": (texts, labels)})


@pytest.mark.slow
@pytest.mark.parametrize("n_states", [10, 15, 25, 30])
def test_training_keeps_what_was_found(n_states, monkeypatch):
    """No error on text whose |margin| exceeds 1e-3·‖μ‖_∞, the text that a prompt was found for."""
    monkeypatch.setattr(search, "time", SimpleNamespace(monotonic=time.process_time))
    n_found = 0
    for seed in range(20):
        model = random_hmm("wei2021", n_states, 10, seed)
        texts, new = (sample(model, n, 80, of).tokens for n, of in ((5000, seed), (1000, 1000 + seed)))
        task = random_task(model, seed, texts)
        (texts, labels), validation = (beyond(1e-3, model, task, each) for each in (texts, new))
        form = BilinearForm.of(model, task, texts)
        found = find_prompt(form, seconds=12, restarts=10**6)
        if found.separates:
            n_found += 1
            lm = OracleLM(model)
            fit = fit_prompt(lm, texts, labels, validation=validation, restarts=4, seed=seed, start=found)
            assert fit.head.score(probe_features(lm, texts, prompt=fit.prompt, impossible="mask"), labels) == 1
    assert n_found >= 19


def beyond(share, model, task, texts):
    """Return the texts whose |margin| exceeds this share of ‖μ‖_∞, and their labels."""
    law = posterior(model, texts)
    kept = task.margins(law).abs() > share * task.scale
    return texts[kept], task.labels(law)[kept]


@pytest.mark.slow
@pytest.mark.parametrize(("share", "least"), [(1e-3, 78), (1e-6, 60)])
def test_prompts_of_the_papers_models_are_found(share, least, monkeypatch):
    """20 models at each of K = 10, 15, 25, 30: all texts of larger margins than this share of ‖μ‖_∞, in 12 s of CPU."""
    monkeypatch.setattr(search, "time", SimpleNamespace(monotonic=time.process_time))
    took, n_found = [], dict.fromkeys((10, 15, 25, 30), 0)
    for n_states, seed in itertools.product(n_found, range(20)):
        model = random_hmm("wei2021", n_states, 10, seed)
        texts = sample(model, 5000, 80, seed).tokens
        form = BilinearForm.of(model, random_task(model, seed, texts), texts)
        start = time.process_time()
        found = find_prompt(form, resolution=share * form.scale, seconds=12, restarts=10**6)
        took.append(time.process_time() - start)
        n_found[n_states] += found.resolution <= share * form.scale
    assert sum(n_found.values()) >= least
    assert share < 1e-3 or np.median(took) < 0.2
