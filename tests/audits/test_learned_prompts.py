"""Where no prompt is constructed an audit learns one; what it says of it is true of new texts."""

import functools

import numpy as np
import pytest
import xarray as xr

from ppl_hmm import (
    HMM,
    InvalidInput,
    LinearHead,
    OracleLM,
    PosteriorTask,
    SoftPrompt,
    audit,
    example,
    posterior,
    probe_features,
    random_hmm,
    random_task,
    sample,
    separability,
)
from ppl_hmm.audits.figures import answers_data
from ppl_hmm.audits.report import answers

LITTLE = {"length": 12, "n_sequences": 400, "seed": 0}


@functools.cache
def undecided():
    """More states than tokens, where the search for prompts finds none."""
    model = random_hmm("wei2021", 12, 5, 0)
    return model, random_task(model, 0, sample(model, 500, 12, 0).tokens)


@functools.cache
def audited(n_prompt_tokens=1):
    return audit(*undecided(), **LITTLE, n_prompt_tokens=n_prompt_tokens)


def parts(tree):
    """Return the learned prompt and its head, from the tree."""
    return (
        SoftPrompt.from_dataset(tree["prompt/prompt-learned"].to_dataset()),
        LinearHead.from_dataset(tree["head/prompt-learned"].to_dataset()),
    )


def row_of(tree):
    return tree["recoverability"].to_dataset().sel(question="prompt")


@pytest.mark.parametrize("n_prompt_tokens", [1, 2])
def test_the_accuracy_is_that_of_new_text(n_prompt_tokens):
    model, task = undecided()
    tree = audited(n_prompt_tokens)
    prompt, head = parts(tree)
    assert tuple(prompt.rows.shape) == (n_prompt_tokens, 12)
    text = sample(model, 20_000, 12, 99).tokens
    answer = task.answers(posterior(model, text), float(task.tolerance_after(12, 12)))
    clear = answer.decidable.numpy()
    features = probe_features(OracleLM(model), text, prompt=prompt).numpy()
    right = (head.predict(features) == answer.labels.numpy())[clear].mean()
    said = row_of(tree)["learned_accuracy"].item()
    spread = np.sqrt(right * (1 - right) * (1 / 400 + 1 / clear.sum()))
    assert abs(said - right) <= 5 * spread + 1 / 400


def test_it_is_better_than_what_was_constructed():
    without = audited(0)
    assert "/prompt/prompt-learned" not in without.groups
    assert row_of(without)["learned_accuracy"] <= row_of(audited())["learned_accuracy"]


def test_features_and_separability_are_those_after_the_learned_prompt():
    model, _ = undecided()
    tree = audited()
    prompt, _ = parts(tree)
    texts, found = tree["observed_data/tokens"].values, tree["exact_posterior"].to_dataset()
    features = probe_features(OracleLM(model), texts, prompt=prompt).numpy()
    np.testing.assert_allclose(tree["features/conditionals_after_prompt"].values, features, atol=1e-12)
    clear = found["decidable"].values == 1
    margin = separability(features[clear], found["label"].values[clear]).margin
    assert row_of(tree)["separation_margin"].item() == pytest.approx(margin, rel=1e-6, abs=1e-12)


def test_the_certificate_is_told_of_its_own_prompt():
    """Verdict, cause, reasons and counts are those of the search, learned prompt or not."""
    columns = ["verdict", "cause", "theorem", "reasons", "residual", "margin_error", "sigma_min"]
    columns += ["agreeing", "decidable", "undecidable"]
    xr.testing.assert_identical(row_of(audited())[columns], row_of(audited(0))[columns])


def test_the_verdict_says_so():
    tree = audited(2)
    (found,) = [each for each in answers(tree) if each.question == "prompt"]
    accuracy = row_of(tree)["learned_accuracy"].item()
    assert found.verdict == "undecided"
    assert f"A learned prompt of 2 tokens with its head is right on {accuracy:.2%} of new text" in found.sentence
    some = "some head is right" if row_of(tree)["separation_margin"] > 1e-9 else "no head is known to be right"
    assert f"after this prompt {some} on all texts that were read." in found.sentence
    assert "prompt/prompt-learned" in found.advice
    for group in ("prompt/prompt-learned", "head/prompt-learned"):
        assert f"/{group}" in tree.groups


def test_the_figure_shows_the_learned_prompt():
    model, _ = undecided()
    tree = audited()
    prompt, head = parts(tree)
    data = answers_data.prompt(tree)
    law = (model.initial @ model.transition).numpy()
    expected = (prompt.rows[0].numpy() * law) @ model.transition.numpy()
    np.testing.assert_allclose(data["law"].sel(question="head"), law, atol=1e-12)
    np.testing.assert_allclose(data["law"].sel(question="prompt"), expected / expected.sum(), atol=1e-12)
    found = tree["exact_posterior"].to_dataset()
    clear = found["decidable"].values == 1
    wrong = head.predict(tree["features/conditionals_after_prompt"].values) != found["label"].values
    assert data["wrong"].sel(question="prompt").item() == pytest.approx(wrong[clear].mean())
    assert data["head"].sel(question="prompt") == "learned"


def test_the_same_seed_learns_the_same():
    assert audit(*undecided(), **LITTLE).identical(audited())
    other = audit(*undecided(), **LITTLE | {"seed": 1})
    assert not audited()["prompt/prompt-learned"].to_dataset().equals(other["prompt/prompt-learned"].to_dataset())


NOTHING_TO_LEARN = {
    "constructed": lambda: (*example("aliased"), {"length": 4}),
    "one label": lambda: (random_hmm("dirichlet", 4, 3, 0), PosteriorTask([[0] * 4, [1, 1, 1, 2]]), {"length": 4}),
    "a single text": lambda: (*example("degenerate"), {"n_sequences": 1, "length": 5}),
    "position": lambda: (
        random_hmm("degenerate", 4, 3, 0, rank=2),
        PosteriorTask(np.eye(4)[:2], position=1),
        {"length": 4},
    ),
    "memory": lambda: (*example("memory"), {"length": 3, "n_sequences": 50}),
}


@pytest.mark.parametrize("name", NOTHING_TO_LEARN)
def test_nothing_is_learned_where_there_is_nothing_to_learn(name):
    model, task, options = NOTHING_TO_LEARN[name]()
    tree = audit(model, task, seed=0, **options)
    assert "/prompt/prompt-learned" not in tree.groups
    assert all("learned prompt" not in each.sentence for each in answers(tree))


def test_texts_with_ends_masks_and_impossible_contexts():
    model, task = undecided()
    text = sample(model, 300, 8, 5).tokens.numpy()
    rng = np.random.default_rng(0)
    text[rng.random(text.shape) < 0.2] = -1
    tree = audit(model, task, text, lengths=rng.integers(0, 9, size=300), seed=0)
    assert 0 <= row_of(tree)["learned_accuracy"] <= 1
    assert np.isfinite(tree["features/conditionals_after_prompt"]).all()
    cycle = HMM([1, 0, 0], np.roll(np.eye(3), 1, axis=1), [[0.5, 0.5], [0.5, 0.5], [0.3, 0.7]])
    with pytest.raises(InvalidInput, match="more than one possible state"):
        audit(cycle, PosteriorTask(np.eye(3)[:2]), length=4, seed=0)


@pytest.mark.parametrize("weights", [np.zeros((2, 3)), [[1, 2, 3]] * 2, [[0, 1, 0]] * 3])
def test_classes_of_equal_weights_are_refused(weights):
    with pytest.raises(InvalidInput, match="equal rows, so that every text is a tie; give each class weights"):
        audit(example("aliased")[0], PosteriorTask(weights), length=3, seed=0)


@pytest.mark.parametrize("number", [-1, 1.5, True, "2"])
def test_bad_numbers_of_prompt_tokens(number):
    with pytest.raises(InvalidInput, match="n_prompt_tokens: expected an integer of at least 0"):
        audit(*example("aliased"), length=3, seed=0, n_prompt_tokens=number)
