"""Certificates: an abstract base whose leaves are final, each with a count that is right, a cause and its verdict."""

import dataclasses
import inspect

import numpy as np
import oracle
import pytest
import torch

from ppl_hmm import (
    Certificate,
    MemoryCertificate,
    MemoryTask,
    OracleLM,
    PosteriorTask,
    audit,
    constant_certificate,
    example,
    find_witness,
    head_certificate,
    memory_certificate,
    position_certificate,
    probe_features,
    prompt_certificate,
    random_hmm,
    random_memory_hmm,
)
from ppl_hmm.audits import questions
from ppl_hmm.recoverability.channel import ChannelCertificate
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.schema import Cause, Verdict
from ppl_hmm.storage.layout import validate

LEAVES = (HeadCertificate, MemoryCertificate, ChannelCertificate)


def test_the_base_is_abstract_and_the_leaves_are_final():
    assert inspect.isabstract(Certificate)
    assert set(Certificate.__subclasses__()) == set(LEAVES)
    for leaf in LEAVES:
        assert leaf.__final__
        assert not inspect.isabstract(leaf)


@pytest.mark.parametrize("leaf", LEAVES)
def test_no_leaf_changes_what_its_base_does(leaf):
    own = {name for name, value in vars(leaf).items() if inspect.isfunction(value) or isinstance(value, property)}
    of_base = {name for name in vars(Certificate) if not name.startswith("__")} - Certificate.__abstractmethods__
    assert {name for name in own & of_base if not name.startswith("__")} == set()


def test_attention_has_no_count_of_a_linear_head():
    assert not {"agreement_on", "sure", "refuted_by", "beyond_float64"} & set(dir(MemoryCertificate))


def test_attention_is_counted_as_by_hand():
    # Tokens 3 and 4 come from state 1 alone, which H* is: a text that has one is claimed if its margin is not zero.
    model, task = example("memory")
    certificate = memory_certificate(model, task)
    assert certificate.recoverable_states == (1,)
    text = oracle.all_texts(model.vocabulary_size, 3)
    law = oracle.memory_truth(model, text).memory[:, 0]
    margins = law[:, 0] - law[:, 1]
    claimed = (np.abs(margins) > 1e-12) & (text >= 3).any(1)
    assert (certificate.task.labels(torch.from_numpy(law)).numpy() == (margins >= 0))[claimed].all()
    assert certificate.sign_agreement(text) == (claimed.sum(), claimed.sum(), (~claimed).sum())
    assert claimed.sum() > 60


@pytest.mark.parametrize("seed", range(4))
def test_attention_agrees_wherever_it_claims_a_sure_state(seed):
    model = random_memory_hmm("recoverable", 3, 2, 6, seed, n_cells=2)
    task = MemoryTask(np.random.default_rng(seed).normal(size=(2, 2)), 0)
    certificate = memory_certificate(model, task)
    text = oracle.all_texts(model.vocabulary_size, 2)
    truth = oracle.memory_truth(model, text)
    margins = truth.memory[:, 0] @ (task.weights[1] - task.weights[0]).numpy()
    recoverable = truth.smoothed[..., list(certificate.recoverable_states)].sum(-1).max(-1)
    sure = (np.abs(margins) > 1e-9) & (recoverable > 1 - 1e-13)
    found = certificate.sign_agreement(text)
    assert found.agreeing == found.decidable >= sure.sum() > 0


def of_position():
    return position_certificate(random_hmm("dirichlet", 3, 5, 0), PosteriorTask([[1, 0, 0], [0, 0, 1]], position=-1))


def refuted():
    model, task = example("aliased")
    text = oracle.all_texts(model.vocabulary_size, 4)
    features = probe_features(OracleLM(model), text).numpy()
    law = torch.from_numpy(np.stack([oracle.marginals(model, each)[0] for each in text]))
    told = task.decidable(law).numpy()
    return head_certificate(model, task).refuted_by(find_witness(features[told], task.labels(law).numpy()[told]))


FAILING = head_certificate(*example("aliased"))
CASES = {
    "condition holds": (lambda: prompt_certificate(*example("aliased")), Cause.CONDITION_HOLDS, "recoverable"),
    "condition fails": (lambda: FAILING, Cause.CONDITION_FAILS, "undecided"),
    "position": (of_position, Cause.CONDITION_HOLDS, "recoverable"),
    "memory": (lambda: memory_certificate(*example("memory")), Cause.CONDITION_HOLDS, "recoverable"),
    "constant": (
        lambda: constant_certificate(example("aliased")[0], PosteriorTask([[0, 0, 0], [1, 1, 1]])),
        Cause.CONSTANT_LABEL,
        "recoverable",
    ),
    "refuted": (refuted, Cause.WITNESS, "not recoverable"),
    "rounding": (FAILING.beyond_float64, Cause.ROUNDING, "undecided"),
    "withdrawn": (lambda: FAILING.withdrawn("as a test"), Cause.CONTRADICTED, "undecided"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_cause_says_what_decided_the_verdict(name):
    make, cause, verdict = CASES[name]
    certificate = make()
    assert certificate.cause is cause
    assert certificate.verdict is Verdict(verdict)
    assert certificate.verdict == verdict  # a string, to whoever compares it with one
    assert certificate.recoverable == (verdict == "recoverable")
    assert (certificate.witness is not None) == (cause is Cause.WITNESS)


def test_withdrawing_a_refutation_drops_its_witness_and_its_reason():
    withdrawn = refuted().withdrawn("a learned head is right")
    assert withdrawn.witness is None
    assert withdrawn.reasons[:-1] == FAILING.reasons
    assert withdrawn.reasons[-1] == "the verdict 'not recoverable' was withdrawn: a learned head is right"


def test_a_flattened_model_that_is_too_large_is_a_cause(monkeypatch):
    monkeypatch.setattr(questions, "FLATTENED_LIMIT", 3)
    tree = audit(*example("memory"), length=3, n_sequences=200, seed=0)
    assert tree["recoverability"]["cause"].sel(question="head").item() in (Cause.TOO_LARGE, Cause.WITNESS)
    assert tree["recoverability"]["verdict"].sel(question="head").item() != Verdict.RECOVERABLE


def test_trees_hold_the_cause_as_plain_text_and_may_lack_it():
    tree = audit(*example("aliased"), length=4, seed=0)
    causes = tree["recoverability"]["cause"]
    assert causes.values.tolist() == ["witness", "condition holds", "condition holds"]
    assert causes.dtype.kind == "U"
    assert {type(each) for each in causes.values.tolist()} == {str}
    validate(tree)
    older = tree.copy()
    older["recoverability"].dataset = tree["recoverability"].to_dataset().drop_vars("cause")
    validate(older)


def test_weights_are_labelled_by_each_leaf():
    head, attention = head_certificate(*example("degenerate")), memory_certificate(*example("memory"))
    assert head.to_dataset()["weights"].sizes == {"score": 1, "token": 3}
    assert of_position().to_dataset()["weights"].sizes == {"score": 1, "observed_token": 6, "token": 5}
    read = attention.to_dataset()
    assert read["weights"].sizes == {"memory_value": 2, "state": 1, "token": 5}
    assert read["state"].values.tolist() == list(attention.recoverable_states)


@pytest.mark.parametrize("leaf", LEAVES)
def test_certificates_are_frozen_records_of_named_fields(leaf):
    names = {field.name for field in dataclasses.fields(leaf)}
    assert {field.name for field in dataclasses.fields(Certificate)} <= names
    assert "verdict" not in names  # it follows from the cause
