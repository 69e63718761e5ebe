"""Verdicts on hostile models, each held against rational arithmetic on all short texts.

Zeros, repeated and nearly repeated rows, entries down to 1e-300, margins near a tie, offsets, K = 1, V = 1, C > 2.
"""

from collections import Counter

import numpy as np
import pytest
import rational
from sweeps import sweep

from ppl_hmm import (
    HMM,
    InvalidInput,
    OracleLM,
    PosteriorTask,
    constant_certificate,
    find_witness,
    head_certificate,
    posterior,
    probe_features,
    prompt_certificate,
)

LONGEST = 3
EPS = np.finfo(float).eps


def hostile_rows(rng, n_rows, n_columns):
    """Return rows that sum to one: dense, with zeros, of many orders of magnitude, or nearly one another's copies."""
    rows = rng.dirichlet(np.ones(n_columns), size=n_rows)
    kind = rng.integers(5)
    if kind == 1:
        rows = rows * (rng.random(rows.shape) >= 0.4)
    if kind == 2:
        rows = rows * 10.0 ** -(rng.choice([0, 16, 100, 300], size=rows.shape) * rng.random(rows.shape))
    if kind == 3 and n_rows > 1:
        rows[1] = rows[0] * (1 + rng.choice([0, 1e-16, 1e-14, 1e-10]) * rng.normal(size=n_columns))
    if kind == 4:
        rows = np.eye(n_columns)[rng.integers(n_columns, size=n_rows)] + rows * rng.choice([0, 1e-16, 1e-200])
    rows[rows.sum(1) == 0, 0] = 1
    return rows / rows.sum(1, keepdims=True)


def hostile_case(seed):
    """Return a model, and a task of two or three classes; half the tasks nearly tie on some text."""
    rng = np.random.default_rng(seed)
    n_states, n_tokens = int(rng.choice([1, 2, 3, 4], p=[0.05, 0.25, 0.35, 0.35])), int(rng.integers(1, 4))
    model = HMM(
        hostile_rows(rng, 1, n_states)[0],
        hostile_rows(rng, n_states, n_states),
        hostile_rows(rng, n_states, n_tokens),
    )
    n_classes = int(rng.choice([2, 3], p=[0.8, 0.2]))
    weights = rng.normal(size=(n_classes, n_states)) * (rng.random((n_classes, n_states)) < 0.8)
    texts = rational.texts(n_tokens, LONGEST)
    exact = rational.ExactModel(model).of(texts[rng.integers(len(texts))])
    if rng.random() < 0.5 and exact is not None:  # move the boundary near this text
        law = exact.shares.astype(float)
        weights = weights - (weights @ law)[:, None] + rng.normal(size=(n_classes, 1)) * 10.0 ** -rng.uniform(6, 18)
    weights = weights * 10.0 ** rng.choice([0, 0, -100, 100])
    return model, PosteriorTask(weights + (rng.random() < 0.2) * 1e3 * np.abs(weights).max())


def share(n_tokens, n_states, n_columns):
    """Return what rounding may take from a sum over states and tokens, twice: a bound on scores without a sign."""
    return 2 * EPS * (1.05 * ((n_tokens + 2) * (n_states + 3) + n_tokens + 1) + 2 * (n_states + n_columns + 3))


class Truth:
    """All possible short texts of a case: exact labels and margins, and exact features after a prompt."""

    def __init__(self, model, task, prompt=None):
        exact_model, contrasts = rational.ExactModel(model, prompt), rational.contrasts(task.weights.numpy())
        found = [(text, exact_model.of(text)) for text in rational.texts(model.vocabulary_size, LONGEST)]
        self.texts = [text for text, exact in found if exact is not None]
        self.conditionals = [exact.conditionals for _, exact in found if exact is not None]
        decisions = [rational.decision(contrasts, exact.shares) for _, exact in found if exact is not None]
        self.labels = [label for label, _, _ in decisions]
        self.margins = [margin for _, margin, _ in decisions]

    def wrong(self, certificate, tolerance):
        """Return how many texts the constructed head claims, and those of them that it classifies wrongly."""
        heads = rational.fractions(np.atleast_2d(certificate.weights.numpy()))
        n_prompt = 0 if certificate.prompt is None else len(certificate.prompt.rows)
        n_claimed, wrong = 0, []
        for text, read, label, margin in zip(self.texts, self.conditionals, self.labels, self.margins, strict=True):
            if read is None or margin <= max(certificate.margin_error, tolerance):
                continue
            chosen, lead, size = rational.decision(heads, read)
            if lead > share(len(text) + n_prompt, certificate.model.n_states, len(read)) * size:
                n_claimed += 1
                wrong += [text] if chosen != label else []
        return n_claimed, wrong


def as_batch(texts):
    """Return texts (B,T), masked past their ends."""
    return np.array([[*text, *[-1] * (LONGEST - len(text))] for text in texts])


def check(seed):
    """Hold all verdicts of a case against the truth; return what they were."""
    model, task = hostile_case(seed)
    if (model.initial > 0).sum() == 1:  # nothing to learn of H₀
        with pytest.raises(InvalidInput, match="more than one possible state"):
            head_certificate(model, task)
        return Counter()
    truth, tolerance, seen = Truth(model, task), float(task.tolerance), Counter()
    tokens = as_batch(truth.texts)
    answers = task.answers(posterior(model, tokens))
    decidable = answers.decidable.numpy()
    labels = np.array(truth.labels)
    assert (answers.labels.numpy() == labels)[decidable].all(), seed
    seen["decidable texts"], seen["undecidable texts"] = int(decidable.sum()), int((~decidable).sum())

    head = head_certificate(model, task)
    for name, certificate in (
        ("head", head),
        ("constant", constant_certificate(model, task)),
        ("prompt", prompt_certificate(model, task)),
    ):
        if certificate is None or not certificate.recoverable:
            continue
        prompt = None if certificate.prompt is None else certificate.prompt.rows.numpy()
        claimed, wrong = (truth if prompt is None else Truth(model, task, prompt)).wrong(certificate, tolerance)
        assert not wrong, (seed, name, wrong, certificate.margin_error)
        agreement = certificate.sign_agreement(tokens)
        assert agreement.agreeing == agreement.decidable, (seed, name, agreement)
        seen[f"{name}: recoverable"] += 1
        seen[f"{name}: texts claimed"] += claimed

    features = probe_features(OracleLM(model), tokens, impossible="mask").numpy()
    told = decidable & (features.sum(1) > 0)
    witness = find_witness(features[told], labels[told], n_classes=task.n_classes) if told.any() else None
    if witness is not None:
        seen["witness"] += 1
        seen["witness beside a recoverable head"] += head.recoverable
        chosen = np.flatnonzero(told)[witness.texts]
        check_witness(model, witness, [truth.conditionals[i] for i in chosen], labels[chosen], seed)
    seen["undecided"] += witness is None and not head.recoverable
    return seen


def check_witness(model, witness, conditionals, labels, seed):
    """Verify in rationals that no head classifies these texts but by rounding: both sides agree in every coordinate."""
    weights, read = rational.fractions(witness.weights), np.array(conditionals)
    own_class = labels[:, None] == np.arange(weights.shape[1])
    own, other = (own_class * weights.sum(1, keepdims=True)).T @ read, weights.T @ read
    bound = 1e-14 + 2 * share(LONGEST, model.n_states, model.vocabulary_size)
    assert (weights >= 0).all()
    assert weights.sum() > 0
    assert (abs(own - other) <= bound * (own + other)).all(), seed


@pytest.mark.parametrize("block", sweep(4, quick=2))
def test_verdicts_on_hostile_models(block):
    seen = sum((check(seed) for seed in range(20 * block, 20 * block + 20)), Counter())
    assert seen["decidable texts"] > 0
    assert seen["head: recoverable"] > 0
    assert seen["head: texts claimed"] > 0
