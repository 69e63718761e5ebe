"""Audits of labelled features and of language models: verdicts against hulls, accuracies against chance, bad input."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from ppl_hmm import (
    InvalidInput,
    LinearHead,
    OracleLM,
    audit_features,
    audit_language_model,
    example,
    find_witness,
    latent_posterior,
    open_audit,
    probe_features,
    sample,
    separability,
    validate,
)
from ppl_hmm.audits.report import as_json
from ppl_hmm.schema import Remedy

MODEL, TASK = example("aliased")


def labelled(n_texts, seed=0, length=10):
    tokens = sample(MODEL, n_texts, length, seed).tokens
    return tokens, TASK.labels(latent_posterior(MODEL, TASK, tokens)).numpy()


@pytest.fixture(scope="module")
def tokens_and_labels():
    return labelled(240)


@pytest.fixture(scope="module")
def tree(tokens_and_labels):
    return audit_language_model(OracleLM(MODEL), *tokens_and_labels, seed=0)


def test_verdicts_are_those_of_hulls(tree, tokens_and_labels):
    tokens, labels = tokens_and_labels
    features = probe_features(OracleLM(MODEL), tokens).numpy()
    assert tree.ppl_hmm.verdict["head"] == "not recoverable"
    witness = tree["recoverability/head/witness"]
    again = find_witness(witness["features"].values, witness["label"].values)
    assert again is not None
    np.testing.assert_array_equal(labels[witness["text"].values], witness["label"].values)
    np.testing.assert_allclose(features[witness["text"].values], witness["features"].values)
    assert separability(features, labels).margin == 0
    assert tree.ppl_hmm.verdict["prompt"] == "separates these texts"
    assert float(tree["recoverability/separation_margin"].sel(question="prompt")) > 0


def test_accuracies_are_of_texts_held_out(tree, tokens_and_labels):
    tokens, labels = tokens_and_labels
    held = tree["observed_data/held_out"].values == 1
    learned = tree["diagnostics/learned"]
    assert held.sum() == int(learned["n_tested"]) == 240 - int(learned["n_learned"])
    assert 0.25 < held.mean() < 0.35
    features = probe_features(OracleLM(MODEL), tokens).numpy()
    head = LinearHead.from_dataset(tree["head/head-learned"].to_dataset())
    accuracy = learned["accuracy"].sel(approach="head").item()
    assert accuracy == pytest.approx(head.score(features[held], labels[held]))
    assert learned["accuracy_low"].sel(approach="head") < accuracy < learned["accuracy_high"].sel(approach="head")
    again = LinearHead.from_dataset(tree["head/bag-of-tokens-learned"].to_dataset())
    counts = np.stack([(tokens == v).sum(1).numpy() for v in range(3)], axis=1)
    assert again.score(counts[held], labels[held]) == pytest.approx(learned["accuracy"].sel(approach="bag-of-tokens"))


def test_a_prompt_and_its_selectivity(tree):
    learned = tree["diagnostics/learned"].sel(approach="prompt")
    assert learned["accuracy"] > 0.95
    assert learned["selectivity_low"] > 0.2
    assert tree.ppl_hmm.remedy["recommended"] == "prompt"
    assert tree["prompt/prompt-learned/rows"].shape == (1, 3)


def test_random_labels_teach_nothing(tokens_and_labels):
    tokens, labels = tokens_and_labels
    shuffled = np.random.default_rng(1).permutation(labels)
    tree = audit_features(probe_features(OracleLM(MODEL), tokens), shuffled, seed=0)
    learned = tree["diagnostics/learned"]
    assert (learned["selectivity_low"] <= 0).all()
    assert (learned["selectivity_high"] >= 0).all()
    assert tree.ppl_hmm.remedy["recommended"] == Remedy.UNKNOWN
    assert "Nothing can be recommended" in tree.ppl_hmm.report()


def test_the_tree_is_an_audits(tree, tmp_path):
    validate(tree)
    tree.to_netcdf(tmp_path / "audit.nc")
    again = open_audit(tmp_path / "audit.nc")
    assert again.ppl_hmm.verdict == tree.ppl_hmm.verdict
    assert again.ppl_hmm.report(verbose=True) == tree.ppl_hmm.report(verbose=True)
    assert list(again.ppl_hmm.summary().index) == ["head", "log-probabilities", "prompt"]
    assert set(as_json(again)["diagnostics"]) == {"learned", "learning-curve"}
    for name in ("learned", "learning-curve"):
        assert again.ppl_hmm.plot(name).axes
    with pytest.raises(InvalidInput, match="learned, learning-curve"):
        again.ppl_hmm.plot("no such figure")
    with pytest.raises(InvalidInput):
        again.ppl_hmm.plot("simplex")
    assert all(len(line) <= 80 for line in tree.ppl_hmm.report().splitlines())


def test_the_same_seed_gives_the_same_tree(tokens_and_labels):
    features, labels = probe_features(OracleLM(MODEL), tokens_and_labels[0][:40]).log(), tokens_and_labels[1][:40]
    first, second = (audit_features(features, labels, seed=3) for _ in range(2))
    xr.testing.assert_identical(first, second)


def test_features_of_any_kind_and_labels_of_any_name():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    features = 5 * np.eye(3)[labels] + rng.normal(size=(90, 3)) - 40.0  # no laws: negative
    names = pd.Series(np.array(["low", "middle", "top"])[labels], index=[f"t{i}" for i in range(90)])
    frame = pd.DataFrame(features, index=names.index)
    tree = audit_features(frame, names.sample(frac=1, random_state=0), prompted=features[:, :2], seed=0)
    assert list(tree.ppl_hmm.verdict) == ["head", "prompt"]
    assert tree["diagnostics/learned/accuracy"].sel(approach="head") > 0.85
    assert tree["observed_data/class_name"].values.tolist() == ["low", "middle", "top"]
    assert separability(np.c_[features, np.ones(90)], labels).separable == (
        tree.ppl_hmm.verdict["head"] == "separates these texts"
    )


def test_groups_stay_on_one_side():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 10)
    labels = np.arange(12).repeat(10) % 2
    features = rng.normal(size=(12, 15))[groups] + 0.1 * rng.normal(size=(120, 15))  # tells groups, and nothing else
    tree = audit_features(features, labels, groups=[f"g{g}" for g in groups], seed=0)
    held = tree["observed_data/held_out"].values
    assert all(len(set(held[groups == g])) == 1 for g in range(12))
    grouped, alone = (each["diagnostics/learned"].sel(approach="head") for each in (
        tree, audit_features(features, labels, seed=0)))
    assert alone["accuracy"] > 0.95  # the same groups are learned from and tested on
    assert grouped["accuracy"] < 0.9
    width, of_texts = (each["accuracy_high"] - each["accuracy_low"] for each in (grouped, alone))
    assert width > 3 * of_texts


def test_a_causal_reader_and_a_batch():
    from ppl_hmm import CausalOracleLM

    tokens, labels = labelled(40)
    tree = audit_language_model(CausalOracleLM(MODEL), tokens, labels, reader="causal", seed=0)
    assert "prompt" not in tree.ppl_hmm.verdict
    with pytest.raises(InvalidInput, match="one language model"):
        audit_language_model(OracleLM(MODEL.stack([MODEL, MODEL])), tokens, labels, seed=0)
    with pytest.raises(InvalidInput, match=r"OracleLM\(model\)"):
        audit_language_model(MODEL, tokens, labels, seed=0)


class Logits:
    vocabulary_size, batch_shape = 3, ()

    def conditionals(self, tokens, *, prompt=None, positions=None, lengths=None):  # noqa: ARG002
        return torch.randn(len(tokens), len(positions), 3)


FEATURES, LABELS = np.random.default_rng(0).dirichlet([1, 1, 1], 30), np.arange(30) % 2


@pytest.mark.parametrize(
    "labels",
    [
        ["a", "b"] * 14 + ["a", None],
        ["a", "b"] * 14 + ["a", float("nan")],
        ["a", "b"] * 14 + ["a", ""],
        pd.Series(["a", "b"] * 14 + ["a", None], dtype="string"),
        np.array([0.0, 1.0] * 14 + [0.0, np.nan]),
        [True, False] * 14 + [True, None],
    ],
)
def test_a_missing_label_is_no_class(labels):
    with pytest.raises(InvalidInput, match="labels: expected a class for each text, got none for text 29; drop"):
        audit_features(FEATURES, labels, seed=0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [int, str])
def test_row_numbers_are_no_labels(kind):
    with pytest.raises(InvalidInput, match="got 30 classes of 30 texts; are these row numbers"):
        audit_features(FEATURES, [kind(number) for number in range(30)], seed=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: audit_features(np.where(FEATURES < 0.1, np.nan, FEATURES), LABELS, seed=0), "NaN or infinity"),
        (lambda: audit_features(FEATURES, 0 * LABELS, seed=0), "one class, 0"),
        (lambda: audit_features(FEATURES[:5], LABELS[:5], seed=0), "at least 20"),
        (lambda: audit_features(np.ones((30, 40)), LABELS, seed=0), "at least 41"),
        (lambda: audit_features(FEATURES, LABELS[:5], seed=0), r"labels: expected shape \(30,\)"),
        (lambda: audit_features(FEATURES, LABELS + 0.5, seed=0), "labels: expected classes"),
        (lambda: audit_features(FEATURES[0], LABELS, seed=0), "a row a text"),
        (lambda: audit_features(FEATURES, LABELS, prompted=FEATURES[:9], seed=0), "prompted: expected 30"),
        (lambda: audit_features(FEATURES, LABELS, groups=np.zeros(30), seed=0), "smaller groups"),
        (lambda: audit_features(FEATURES, LABELS, groups=[None, *range(29)], seed=0), "groups: .* none for text 0"),
        (lambda: audit_features(FEATURES, LABELS, tokens=[[1, 2]], seed=0), "tokens: expected 30"),
        (lambda: audit_language_model(Logits(), [[0, 1]] * 30, LABELS, n_prompt_tokens=0, seed=0), "softmax"),
        (lambda: audit_language_model(Logits(), [[0, 3]] * 30, LABELS, n_prompt_tokens=0, seed=0), "out of range"),
        (lambda: audit_language_model(Logits(), [[0, 1]] * 30, LABELS, reader="both", seed=0), "reader"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
