"""Verdicts that rounding, underflow or a contradiction must not produce."""

import dataclasses
import warnings

import numpy as np
import pytest
import rational
import torch

from ppl_hmm import (
    HMM,
    LinearHead,
    OracleLM,
    PosteriorTask,
    Witness,
    audit,
    constant_certificate,
    example,
    find_witness,
    head_certificate,
    memory_certificate,
    posterior,
    probe_features,
    prompt_certificate,
)
from ppl_hmm.audits import questions
from ppl_hmm.recoverability.conditioning import spectra
from ppl_hmm.recoverability.entering import entering_law, states_entered
from ppl_hmm.schema import Cause
from ppl_hmm.storage.layout import validate

# A tiny coordinate of G that tells texts apart is no rounding.


@pytest.mark.parametrize("tiny", [5e-15, 1e-17, 1e-40, 1e-200, 5e-324])
@pytest.mark.parametrize("noise", [[0.0, 0.0], [0.3, 0.7]])
def test_texts_that_a_tiny_coordinate_separates_have_no_witness(tiny, noise):
    features = np.array([[*noise, 1, 0], [*noise, 1, tiny], [*noise, 1, 3 * tiny]])
    for labels in ([0, 1, 1], [0, 0, 1], [0, 1, 2]):
        assert find_witness(features, labels) is None


@pytest.mark.parametrize("tiny", [5e-15, 1e-40, 1e-200])
def test_tiny_coordinates_leave_a_witness_where_no_head_exists(tiny):
    features = np.array([[1, 0], [1, tiny], [1, 2 * tiny]])
    witness = find_witness(features, [1, 0, 1])
    assert witness.relative_residual <= 1e-15
    np.testing.assert_allclose(witness.weights, [[0.25, 0], [0, 0.5], [0.25, 0]], rtol=1e-12)
    three = find_witness(np.r_[features, features], [1, 0, 1, 2, 2, 2])
    assert three.relative_residual <= 1e-14


def test_units_of_coordinates_do_not_matter():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(40):
        features, labels = rng.dirichlet(np.ones(4), size=9), rng.integers(2, size=9)
        units = 2.0 ** rng.integers(-200, 200, size=4)
        witness, scaled = find_witness(features, labels), find_witness(features * units, labels)
        assert (witness is None) == (scaled is None)
        found += witness is not None
    assert 5 <= found <= 35


def nearly_silent(rare):
    """States 0 and 1 differ by a token of probability ``rare`` alone, and in where they lead."""
    transition = [[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0]]
    emission = np.array([[1, 0, 0, 0], [1 - rare, rare, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    return HMM([0.5, 0.5, 0, 0], transition, emission), PosteriorTask([[1.0, 0, 0, 0], [0, 1, 0, 0]])


@pytest.mark.parametrize("rare", [1e-9, 2e-15, 1e-16, 1e-30, 1e-90])
def test_the_rank_of_rows_does_not_depend_on_the_unit_of_a_token(rare):
    model, task = nearly_silent(rare)
    tree = audit(model, task, length=3, n_sequences=64, seed=0)
    head = tree["recoverability"].to_dataset().sel(question="head")
    assert head["verdict"] == "recoverable"
    assert head["agreeing"] == head["decidable"] > 0
    told = tree["exact_posterior"]["decidable"].values == 1
    constructed = LinearHead.from_dataset(tree["head/head"].to_dataset())
    labels = tree["exact_posterior"]["label"].values
    assert constructed.score(tree["features/conditionals"].values[told], labels[told]) == 1


# An offset that all classes share.

THREE_COINS = HMM([1 / 3] * 3, np.eye(3), [[0.6, 0.4], [0.4, 0.6], [0.5, 0.5]])


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e6, 1e8])
@pytest.mark.parametrize("permutation", [[0, 1, 2], [2, 0, 1]])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_common_offset_makes_no_label_constant(offset, permutation, swapped):
    """Long text is sure of a coin, and two coins differ from the third in their labels, the third by 1e-6 only."""
    weights = np.array([[0, 0, 1e-6], [1, 1, 0]]) + offset
    weights, permuted = weights[::-1] if swapped else weights, np.array(permutation)
    model = HMM([1 / 3] * 3, np.eye(3), THREE_COINS.emission[permuted])
    task = PosteriorTask(weights[:, permuted].copy())
    assert constant_certificate(model, task) is None
    of_each_coin = np.repeat([[0] * 10, [1] * 10, [0, 1] * 5], 80, axis=1)
    answers = task.answers(posterior(model, of_each_coin))
    assert answers.labels.tolist() == ([0, 0, 1] if swapped else [1, 1, 0])
    assert answers.decidable.all()


def test_an_audit_finds_no_constant_label_at_an_offset():
    tree = audit(THREE_COINS, PosteriorTask([[1e8, 1e8, 1e8 + 1e-6], [1e8 + 1, 1e8 + 1, 1e8]]), length=2000,
                 n_sequences=150, seed=1)
    table = tree["recoverability"].to_dataset()
    assert table["verdict"].values[0] == "not recoverable"
    assert (table["theorem"] != "constant label").all()


@pytest.mark.parametrize("offset", [0.0, 1e8, -1e12])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_common_offset_hides_no_constant_label(offset, n_classes):
    weights = np.array([[0, 0, 0], [1, 2, 0.5], [0.5, 1, 0]])[:n_classes] + offset
    expected = [1, 1] if n_classes == 2 else [[0, 0], [1, 1], [0, 0]]
    assert constant_certificate(THREE_COINS, PosteriorTask(weights)).weights.tolist() == expected


def test_no_label_is_constant_where_its_proof_underflows():
    """Texts that begin with 0 have class 1 by a weight of 1e-340: no float, and no zero."""
    emission = [[1e-170, 1.0, 0], [1e-170, 0, 1.0], [0, 0.5, 0.5]]
    model = HMM([1e-170, 1e-170, 1.0], np.eye(3), emission)
    task = PosteriorTask([[0, 1.0, 0], [1.0, 0, 0]])
    assert task.labels(posterior(model, [[0, 1], [0, 2]])).tolist() == [1, 0]
    assert constant_certificate(model, task) is None


# Laws that no float holds.


def underflowing(small):
    """State 3 is entered with probability small², and token 0 makes it as likely as the others after two steps."""
    transition = [[1.0, 0, 0, 0], [0, 1.0, 0, 0], [1.0, 0, 0, small], [0, 0, 0, 1.0]]
    emission = [[small / 10, 0.8, 0.2], [small / 5, 0.2, 0.8], [0, 0.5, 0.5], [0.5, 0.5, 0]]
    return HMM([0.5, 0.5, small, 0], transition, emission), PosteriorTask([[0.0, 0, 0, 0], [1.0, -1, 0, 0]])


def exact_margin_error(model, weights, contrast, prompt=None):
    """max_h |Aᵀ(q∘Wb − π₀∘μ)|_h / (π₀A)_h in rationals; states with (π₀A)_h = 0 left out."""
    exact = rational.ExactModel(model, prompt)
    initial, transition, emission = (
        rational.fractions(array.numpy()) for array in (model.initial, model.transition, model.emission)
    )
    law = initial @ transition
    if prompt is not None:
        law = np.array([rational.Fraction(int(each), int(exact.law.sum())) for each in exact.law])
    error = (law * (emission @ rational.fractions(weights)) - initial * rational.fractions(contrast)) @ transition
    first = initial @ transition
    return max(float(abs(e) / p) for e, p in zip(error, first, strict=True) if p)


@pytest.mark.parametrize("small", [1e-120, 1e-165, 1e-250])
def test_states_that_are_entered_below_the_smallest_float_count(small):
    model, task = underflowing(small)
    assert states_entered(model).tolist() == [True, True, False, True]
    assert spectra(model)["emission_entered"].n_rows == 3
    certificate, contrast = head_certificate(model, task), task.contrast.numpy()
    exact = exact_margin_error(model, certificate.weights.numpy(), contrast)
    assert certificate.recoverable
    assert exact <= certificate.margin_error < 1e-12
    text = [[0, 0], [1, 1], [2, 2], [0, 1]]
    agreement = certificate.sign_agreement(text)
    assert agreement.agreeing == agreement.decidable == 4
    scores = probe_features(OracleLM(model), text) @ certificate.weights
    assert torch.equal((scores >= 0).long(), task.labels(posterior(model, text)))


def test_the_margin_error_of_a_head_that_reads_a_state_below_floats_is_seen():
    """A head that is right on all states but the one that is entered with probability 1e-330."""
    model, task = underflowing(1e-165)
    emission = model.emission.clone()
    emission[3] = emission[0] = torch.tensor([1e-166, 0.8, 0.2])  # its rows cannot be told apart
    model = HMM(model.initial, model.transition, emission)
    certificate = head_certificate(model, task)
    assert entering_law(model).tolist()[3] == 0
    assert not certificate.recoverable
    exact = exact_margin_error(model, certificate.weights.numpy(), task.contrast.numpy())
    assert certificate.margin_error == pytest.approx(exact, rel=1e-9)
    assert certificate.margin_error > 0.1


def random_rows(rng, n_rows, n_columns):
    exponents = rng.random((n_rows, n_columns)) * rng.choice([0, 300], n_columns)
    rows = rng.random((n_rows, n_columns)) * 10.0**-exponents
    return rows / rows.sum(1, keepdims=True)


@pytest.mark.parametrize("prompted", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_margin_errors_are_right_down_to_1e_300(seed, prompted):
    rng = np.random.default_rng(seed)
    n_states = int(rng.integers(2, 5))
    model = HMM(random_rows(rng, 1, n_states)[0], random_rows(rng, n_states, n_states), random_rows(rng, n_states, 4))
    task = PosteriorTask(rng.normal(size=(2, n_states)))
    prompt = random_rows(rng, 2, n_states) if prompted else None
    certificate = head_certificate(model, task, prompt)
    exact = exact_margin_error(model, certificate.weights.numpy(), task.contrast.numpy(), prompt)
    summed = float(task.scale) + np.abs(certificate.weights.numpy()).sum()
    assert certificate.margin_error == pytest.approx(exact, rel=1e-9, abs=1e-13 * summed)


def test_tiny_weights_and_priors_leave_the_search_for_prompts_whole():
    model = HMM([1e-320, 1.0], [[0.5, 0.5], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]])
    for scale in (1.0, 1e-200, 1e200):
        certificate = prompt_certificate(model, PosteriorTask(np.array([[1.0, -2.0], [0.0, 0.0]]) * scale))
        assert np.isfinite(certificate.residual)


# What an audit counts must not contradict its verdicts.


@pytest.fixture
def divided():
    """Return a model and a task that a head solves."""
    return HMM([0.5, 0.5], np.eye(2), [[0.8, 0.2], [0.2, 0.8]]), PosteriorTask([[1.0, 0.0], [0.0, 1.0]])


def audited(model, task):
    """Return an audit, its table, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tree = audit(model, task, length=3, n_sequences=20, seed=0)
    return tree, tree["recoverability"].to_dataset(), [str(each.message) for each in caught]


def assert_withdrawn(tree, table, messages, question, verdict):
    row = table.sel(question=question)
    assert row["verdict"] == "undecided"
    assert f"the verdict {verdict!r} was withdrawn" in row["reasons"].item()
    assert f"/recoverability/{question}/witness" not in tree.groups
    assert f"/head/{question}" not in tree.groups
    validate(tree)
    assert "withdrawn" in tree.ppl_hmm.report()
    (message,) = [each for each in messages if f"question {question!r}" in each]
    assert "please report" in message


def test_an_audit_withdraws_a_certificate_whose_head_is_wrong(divided, monkeypatch):
    def wrong(model, task, **options):
        right = head_certificate(model, task, **options)
        return dataclasses.replace(right, weights=-right.weights)

    monkeypatch.setattr(questions, "head_certificate", wrong)
    tree, table, messages = audited(*divided)
    assert_withdrawn(tree, table, messages, "head", "recoverable")
    assert "wrong on 8 of 8 texts" in table["reasons"].values[0]
    assert table["verdict"].sel(question="prompt") == "recoverable"
    assert len(messages) == 1


@pytest.mark.parametrize("found", ["constructed", "learned"])
def test_an_audit_withdraws_a_witness_that_a_head_refutes(divided, monkeypatch, found):
    def undecided(model, task, **options):
        right = head_certificate(model, task, **options)
        weights = right.weights if found == "constructed" else torch.zeros_like(right.weights)
        return dataclasses.replace(right, weights=weights, cause=Cause.CONDITION_FAILS, sigma_min=0.0)

    def false_witness(features, labels, n_classes):
        return Witness(np.arange(2), features[:2], labels[:2], np.full((2, n_classes), 0.25))

    monkeypatch.setattr(questions, "head_certificate", undecided)
    monkeypatch.setattr(questions, "fewest_masks", undecided)
    monkeypatch.setattr(questions, "find_witness", false_witness)
    tree, table, messages = audited(*divided)
    assert_withdrawn(tree, table, messages, "head", "not recoverable")
    assert f"the {found} head is right on all 2 texts of the witness" in table["reasons"].values[0]


def test_attention_is_held_to_its_counts(monkeypatch):
    model, task = example("memory")
    assert memory_certificate(model, task).recoverable

    def wrong(model, task, **options):
        right = memory_certificate(model, task, **options)
        return dataclasses.replace(right, weights=right.weights.flip(0))

    monkeypatch.setattr(questions, "memory_certificate", wrong)
    tree, table, messages = audited(model, task)
    assert_withdrawn(tree, table, messages, "attention", "recoverable")


def test_consistent_audits_warn_of_nothing(divided):
    _, table, messages = audited(*divided)
    assert table["verdict"].values.tolist() == ["recoverable"] * 3
    assert messages == []
