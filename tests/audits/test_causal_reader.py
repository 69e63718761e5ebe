"""Audits of a causal reader: heads on the next-token law, prompts after the text, channel prompts."""

import numpy as np
import oracle
import pytest

from ppl_hmm import (
    HMM,
    CausalOracleLM,
    InvalidInput,
    LinearHead,
    PosteriorTask,
    SoftPrompt,
    audit,
    constructed_head,
    constructed_prompt,
    example,
    latent_posterior,
    next_token_features,
    open_audit,
    random_hmm,
)
from ppl_hmm.audits.figures.catalogue import available
from ppl_hmm.cli import main

ALIASED, ON_FIRST = example("aliased")
ON_LAST = PosteriorTask(ON_FIRST.weights, position=-1)


@pytest.fixture(scope="module")
def first():
    return audit(ALIASED, ON_FIRST, length=5, seed=0, reader="causal")


def test_a_task_on_the_first_state_is_answered_by_likelihoods_alone(first):
    assert first.ppl_hmm.verdict == {"head": "not recoverable", "prompt": "undecided", "channel": "recoverable"}
    assert (first.ppl_hmm.remedy["recommended"], first.ppl_hmm.remedy["basis"]) == ("channel", "proof")
    table = first["recoverability"].to_dataset().sel(question="channel")
    decidable = first["exact_posterior"]["decidable"].values.sum()
    assert table["agreeing"] == table["decidable"] == decidable


def test_the_report_says_what_a_causal_reader_knows(first):
    words = " ".join(first.ppl_hmm.report().split())
    for sentence in (
        "A linear head on the next-token law cannot solve this task, however it is trained: 3 texts prove it.",
        "What it reads depends on the text through the law of the last state alone.",
        "A comparison of how likely channel prompts make the text solves this task",
        "reader: a causal language model, whose heads read the law of the next token",
        "It reads each text after 2 prompts of one token each.",
    ):
        assert sentence in words
    assert "mask" not in words.replace("read a masked language model", "")
    assert "mask" not in " ".join(first.ppl_hmm.report(verbose=True).split()).replace("masked language model", "")


def test_the_witness_is_one_of_next_token_laws(first):
    found = first["recoverability/head/witness"].to_dataset()
    tokens = found["tokens"].values
    read = next_token_features(CausalOracleLM(ALIASED), tokens)
    np.testing.assert_allclose(found["conditionals"], read, atol=1e-15)
    np.testing.assert_array_equal(found["label"], ON_FIRST.labels(latent_posterior(ALIASED, ON_FIRST, tokens)))


def test_files_keep_the_reader(first, tmp_path):
    first.to_netcdf(tmp_path / "audit.nc")
    found = open_audit(tmp_path / "audit.nc")
    assert found.ppl_hmm.report(verbose=True) == first.ppl_hmm.report(verbose=True)
    assert set(available(found)) == {"singular-values", "margins", "simplex", "linear-map", "lengths", "transfer"}
    with pytest.raises(InvalidInput, match="expected a masked reader, got a causal one"):
        found.ppl_hmm.plot("prompt")


@pytest.mark.parametrize("seed", range(3))
def test_verdicts_hold_on_every_text(seed):
    rng = np.random.default_rng(seed)
    model = random_hmm("dirichlet", 6, 4, seed)
    contrast = np.zeros(6)
    contrast[:3] = rng.normal(size=3)
    task = PosteriorTask.of_next_state(np.stack([0 * contrast, contrast]), model)
    tree = audit(model, task, length=5, n_sequences=2000, seed=0, reader="causal")
    table = tree["recoverability"].to_dataset().sel(question="prompt")
    assert table["verdict"] == "recoverable"
    assert table["agreeing"] == table["decidable"] > 0
    assert tree.ppl_hmm.remedy["recommended"] == "prompt"
    prompt = SoftPrompt.from_dataset(tree["prompt/prompt"].to_dataset())
    head = LinearHead.from_dataset(tree["head/prompt"].to_dataset())
    texts = oracle.all_texts(4, 4)
    answers = task.answers(latent_posterior(model, task, texts), 1e-9)
    read = next_token_features(CausalOracleLM(model), texts, prompt)
    assert (head.predict(read) == answers.labels.numpy())[answers.decidable.numpy()].all()
    assert constructed_prompt(model, task, reader="causal").identical(prompt)
    np.testing.assert_array_equal(constructed_head(model, task, prompt, reader="causal").coef_, head.coef_)


def test_more_than_two_classes_and_earlier_states():
    model = random_hmm("dirichlet", 3, 4, 0)
    tree = audit(model, PosteriorTask(np.eye(3), position=-1), length=4, seed=0, reader="causal")
    assert tree.ppl_hmm.verdict == {"head": "recoverable", "prompt": "recoverable"}
    tree = audit(model, PosteriorTask(np.eye(3)[:2], position=0), length=4, seed=0, reader="causal")
    assert "recoverable" not in tree.ppl_hmm.verdict.values()
    assert "the law of the last state alone" in " ".join(tree.ppl_hmm.report().split())


def test_constant_tasks():
    tree = audit(ALIASED, PosteriorTask([[0, 0, 0], [1, 2, 3]]), length=4, seed=0, reader="causal")
    assert set(tree.ppl_hmm.verdict.values()) == {"recoverable"}
    assert tree.ppl_hmm.remedy["recommended"] == "nothing"


def test_what_is_refused():
    with pytest.raises(InvalidInput, match="unknown reader: expected one of causal, masked"):
        audit(ALIASED, ON_FIRST, seed=0, reader="bidirectional")
    with pytest.raises(InvalidInput, match=r"audit of a causal reader: expected an HMM, got MemoryHMM.*flatten"):
        audit(*example("memory"), seed=0, reader="causal")
    with pytest.raises(InvalidInput, match="a causal reader hides no token"):
        audit(ALIASED, PosteriorTask(ON_FIRST.weights, -1, "context"), seed=0, reader="causal")
    with pytest.raises(InvalidInput, match=r"n_masks before a causal reader: expected None, got 2; leave them out"):
        constructed_head(ALIASED, ON_LAST, n_masks=2, reader="causal")
    with pytest.raises(InvalidInput, match="support_threshold for a causal reader"):
        constructed_head(ALIASED, ON_LAST, support_threshold=0.1, reader="causal")
    with pytest.raises(InvalidInput, match="prompt_length and support_threshold of a causal reader"):
        constructed_prompt(ALIASED, ON_LAST, prompt_length=2, reader="causal")


def test_no_channel_where_the_first_token_cannot_come_from_a_state():
    transition = [[0, 0.5, 0.5], [0, 0.9, 0.1], [0, 0.2, 0.8]]
    model = HMM([0.4, 0.3, 0.3], transition, [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    tree = audit(model, PosteriorTask([[0.4, 0, 0], [0, 1, 0]]), length=3, seed=0, reader="causal")
    assert tree.ppl_hmm.verdict["channel"] == "undecided"
    assert "give moves to every state that the task needs a small probability" in " ".join(
        tree.ppl_hmm.report().split()
    )


def test_command_line(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["audit", "--example", "aliased", "--length", "3", "--reader", "causal"])
    assert ended.value.code == 0
    assert "the likelihoods of channel prompts (channel): RECOVERABLE" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["audit", "--example", "aliased", "--reader", "none"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("ppl-hmm: unknown reader: expected one of causal, masked")
