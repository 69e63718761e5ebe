"""Prompts for more than two classes, of any names, of ragged text; heads by multinomial Newton steps."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from ppl_hmm.base.tokens import MASK
from ppl_hmm.errors import InvalidInput
from ppl_hmm.heads.logistic import PENALTY
from ppl_hmm.heads.projection import head_problem
from ppl_hmm.inference.queries import posterior
from ppl_hmm.inference.sampling import sample
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.models import HMM
from ppl_hmm.prompts.fitted import fit_prompt
from ppl_hmm.regimes import random_hmm

NAMES = np.array(["rain", "snow", "sun"])


@pytest.fixture(scope="module")
def data():
    """Whether P(H_0=0 | x) is small, middling or large, beside other text; 80 of 120 texts to learn from."""
    model = random_hmm("dirichlet", 6, 4, 3, concentration=0.3)
    model = HMM(np.full(6, 1 / 6), model.transition, model.emission)
    tokens = sample(model, 120, 8, 0).tokens
    law = posterior(model, tokens).initial[:, 0].contiguous()
    return model, tokens, torch.bucketize(law, law.quantile(torch.tensor([1 / 3, 2 / 3], dtype=law.dtype)))


def fit(data, names=None, lengths=None, restarts=2, tokens=None):
    model, text, labels = data
    tokens = text if tokens is None else tokens
    labels = labels if names is None else names[labels]
    return fit_prompt(
        OracleLM(model),
        tokens[:80],
        labels[:80],
        lengths=None if lengths is None else lengths[:80],
        validation=(tokens[80:], labels[80:], *([] if lengths is None else [lengths[80:]])),
        restarts=restarts,
        seed=0,
    )


def test_three_classes_whatever_their_names(data):
    plain = fit(data)
    fitted = {"words": fit(data, NAMES), "ints": fit(data, np.array([-7, 5, 900]))}
    assert plain.head.coef_.shape == (3, 4)
    assert (plain.history[-1] < plain.history[0]).all()
    assert plain.validation_score > np.bincount(data[2][80:]).max() / 40
    for other in fitted.values():
        assert torch.equal(other.prompt.rows, plain.prompt.rows)
        assert torch.equal(other.history, plain.history)
        np.testing.assert_array_equal(other.head.coef_, plain.head.coef_)
    assert fitted["words"].head.classes_.tolist() == NAMES.tolist()
    assert fitted["ints"].head.classes_.tolist() == [-7, 5, 900]


def test_two_classes_whatever_their_names(data):
    model, tokens, labels = data
    binary = model, tokens, (labels > 0).long()
    plain, words = fit(binary), fit(binary, np.array(["no", "yes"]))
    assert torch.equal(words.prompt.rows, plain.prompt.rows)
    assert words.head.classes_.tolist() == ["no", "yes"]
    assert words.validation_score == plain.validation_score


def test_lengths_are_masks_past_each_end(data):
    lengths = torch.arange(120) % 8 + 1
    masked = torch.where(torch.arange(8) < lengths[:, None], data[1], MASK)
    by_lengths, by_masks = fit(data, lengths=lengths, restarts=1), fit(data, restarts=1, tokens=masked)
    assert torch.equal(by_lengths.prompt.rows, by_masks.prompt.rows)
    assert by_lengths.validation_score == by_masks.validation_score
    assert not torch.equal(by_lengths.prompt.rows, fit(data, restarts=1).prompt.rows)


def test_models_of_a_batch_may_lack_classes(data):
    """The second model's text has two of the three classes; validation has a class that nobody learned."""
    model, tokens, labels = data
    lm, both = OracleLM(HMM.stack([model, model])), np.stack([NAMES[labels], NAMES[labels.clamp(max=1)]])
    unknown = both[:, 80:].copy()
    unknown[:, 0] = "zephyr"
    batch = fit_prompt(lm, tokens[:80], both[:, :80], validation=(tokens[80:], unknown), restarts=1, seed=0)
    assert [head.classes_.tolist() for head in batch.head] == [NAMES.tolist(), NAMES[:2].tolist()]
    assert (batch.validation_score < 1).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 120, "training labels: expected at least two classes, for every model, got one class"),
        (np.linspace(0, 1, 120), "labels: expected classes, got Unknown label type: continuous"),
        ([None, "a"] * 60, "labels: expected classes"),
        (NAMES[np.arange(119) % 3], r"labels: expected shape \(40,\), got shape \(39,\); label every sequence"),
    ],
)
def test_labels_that_name_no_classes(labels, message, data):
    model, tokens, _ = data
    with pytest.raises(InvalidInput, match=message):
        fit_prompt(OracleLM(model), tokens[:80], labels[:80], validation=(tokens[80:], labels[80:]), seed=0)


@pytest.mark.parametrize("validation", [([[0]],), ([[0]], [0], [1], [2]), "ab c", None])
def test_validation_of_another_form(validation, data):
    with pytest.raises(InvalidInput, match=r"validation: expected \(tokens, labels\) or \(tokens, labels, lengths\)"):
        fit_prompt(OracleLM(data[0]), data[1], data[2], validation=validation, seed=0)


# The inner problem.


def random_problem(seed, n_classes, n_texts=40, n_features=3, batch=(2, 2)):
    rng = np.random.default_rng(seed)
    features = torch.tensor(rng.dirichlet(np.ones(n_features), size=(*batch, n_texts)))
    return features, torch.tensor(rng.integers(n_classes, size=(batch[-1], n_texts)))


@pytest.mark.parametrize("n_classes", [3, 5])
def test_multinomial_heads_are_those_of_scikit_learn(n_classes):
    features, labels = random_problem(n_classes, n_classes)
    problem = head_problem(labels, n_classes)
    weights = problem.improve(features, problem.start(features), steps=30)
    assert weights.shape == (2, 2, n_classes, 3)
    for r, p in np.ndindex(2, 2):
        regression = LogisticRegression(C=1 / (PENALTY * 40), fit_intercept=False, tol=1e-12, max_iter=10_000)
        regression.set_params(solver="newton-cg").fit(features[r, p], labels[p])
        law = (features @ weights.mT).softmax(-1)[r, p]
        np.testing.assert_allclose(law, regression.predict_proba(features[r, p]), rtol=0, atol=1e-6)


def test_multinomial_loss_and_its_least_value():
    """By a loss written out, minimised without derivatives of ours."""
    features, labels = random_problem(1, 3, n_texts=12, n_features=2, batch=(1,))
    problem = head_problem(labels, 3)
    weights = problem.improve(features, problem.start(features), steps=30)

    def penalised(flat):
        scores = features[0].numpy() @ flat.reshape(3, 2).T
        terms = [np.log(np.exp(s - s[y]).sum()) for s, y in zip(scores, labels[0], strict=True)]
        return np.mean(terms) + PENALTY / 2 * (flat**2).sum()

    least = minimize(penalised, np.zeros(6), method="BFGS", options={"gtol": 1e-10}).fun
    ours = weights.numpy().reshape(-1)
    assert penalised(ours) == pytest.approx(least, abs=1e-9)
    assert problem.loss(features, weights).item() == pytest.approx(penalised(ours) - PENALTY / 2 * (ours**2).sum())


def test_two_classes_as_multinomial_are_the_binary_problem():
    features, labels = random_problem(4, 2)
    binary, two = head_problem(labels, 2), head_problem(labels, 3)  # of a third class there is nothing
    one, rows = (p.improve(features, p.start(features), steps=40) for p in (binary, two))
    np.testing.assert_allclose(two.loss(features, rows), binary.loss(features, one), rtol=0, atol=1e-4)
    assert torch.equal(two.predict(features, rows), binary.predict(features, one))


def test_ties_go_to_the_higher_class():
    features, labels = random_problem(0, 4)
    for n_classes in (2, 4):
        problem = head_problem(labels.clamp(max=n_classes - 1), n_classes)
        assert (problem.predict(features, problem.start(features)) == n_classes - 1).all()
