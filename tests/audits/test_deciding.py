"""Audits that decide prompts for their texts: what is found is right, what is proved is a proof, and both are kept."""

import functools
from itertools import product

import numpy as np
import pytest
from by_hand import conditionals

from ppl_hmm import (
    InvalidInput,
    LinearHead,
    PosteriorTask,
    Refutation,
    SoftPrompt,
    audit,
    example,
    open_audit,
    posterior,
    random_hmm,
    random_task,
    sample,
)
from ppl_hmm.audits import command
from ppl_hmm.audits.figures import catalogue
from ppl_hmm.audits.report import answers, as_json

LITTLE = {"length": 4, "seed": 0, "n_prompt_tokens": 1}


@functools.cache
def refuted():
    """Four states of two tokens: no prompt tells their parity."""
    model = random_hmm("dirichlet", 4, 2, seed=19)
    return audit(model, PosteriorTask([[0, 0, 0, 0], [1, -1, 1, -1]]), **LITTLE, prompt_seconds=20)


@functools.cache
def found():
    """More states than tokens, where Theorem P says nothing and some prompt does for short text."""
    model = random_hmm("wei2021", 12, 5, 0)
    task = random_task(model, 0, sample(model, 500, 12, 0).tokens)
    return model, task, audit(model, task, length=3, seed=0, prompt_seconds=20)


def prompt_answer(tree):
    (answer,) = [each for each in answers(tree) if each.question == "prompt"]
    return answer


def test_no_prompt_is_a_verdict_with_its_proof(tmp_path):
    tree = refuted()
    assert tree.ppl_hmm.verdict["prompt"] == "not recoverable"
    tree.to_netcdf(tmp_path / "audit.nc")
    for each in (tree, open_audit(tmp_path / "audit.nc")):
        refutation = each.ppl_hmm.refutation
        assert refutation.holds()
        assert refutation.holds_exactly()
    answer = prompt_answer(tree)
    n_texts = len(refutation.texts)
    assert answer.sentence.startswith(
        f"A prompt with a linear head cannot solve this task, however both are trained: {n_texts} texts prove it."
    )
    assert "that no prompt with any linear head classifies" in answer.why[0]
    assert answer.why[1].startswith("Theorem P")
    assert answer.advice.startswith("no prompt will do")
    assert {each["question"]: each["cause"] for each in as_json(tree)["answers"]}["prompt"] == "refutation"


def test_the_labels_of_a_proof_are_those_of_the_task():
    tree = refuted()
    refutation = tree.ppl_hmm.refutation
    task = PosteriorTask([[0, 0, 0, 0], [1, -1, 1, -1]])
    law = posterior(random_hmm("dirichlet", 4, 2, seed=19), refutation.texts)
    np.testing.assert_array_equal(task.labels(law).numpy(), refutation.labels)
    assert (task.margins(law).abs() > refutation.tolerance).all()


def test_a_prompt_that_separates_the_texts_is_named_and_kept():
    model, task, tree = found()
    assert tree.ppl_hmm.verdict["prompt"] == "separates these texts"
    assert tree.ppl_hmm.refutation is None
    prompt = SoftPrompt.from_dataset(tree["prompt/prompt-found"].to_dataset())
    head = LinearHead.from_dataset(tree["head/prompt-found"].to_dataset())
    texts = np.array(list(product(range(5), repeat=3)))
    law = posterior(model, texts)
    clear = (task.margins(law).abs() > 1e-9 * task.scale).numpy()
    scored = head.predict(conditionals(model, texts[clear], prompt.rows))
    np.testing.assert_array_equal(scored, task.labels(law)[clear].numpy())
    answer = prompt_answer(tree)
    assert "was found that is right on the texts that were read, which proves no more" in answer.sentence
    assert answer.advice.startswith("use the prompt and the head that were found, groups prompt/prompt-found")


def test_nothing_is_decided_unless_asked_or_where_a_theorem_has_decided():
    model, task, _ = found()
    assert audit(model, task, length=3, seed=0).ppl_hmm.verdict["prompt"] == "undecided"
    tree = audit(*example("aliased"), **LITTLE, prompt_seconds=5)
    assert tree.ppl_hmm.verdict["prompt"] == "recoverable"
    assert "prompt/prompt-found" not in tree


@pytest.mark.parametrize("seconds", [-1, float("nan"), "long"])
def test_seconds_that_are_none_are_refused(seconds):
    with pytest.raises(InvalidInput, match="prompt_seconds: expected a non-negative number"):
        audit(*example("aliased"), **LITTLE, prompt_seconds=seconds)


def test_the_command_writes_the_proof(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "available", lambda _: [])  # figures are tested where they are drawn
    command.printed(refuted(), tmp_path / "out", as_json_alone=False, verbose=False, width=80)
    assert Refutation.load(tmp_path / "out" / "refutation.json").holds_exactly()
