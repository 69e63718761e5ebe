"""The attention head: what it computes, what it learns, what it refuses."""

import numpy as np
import oracle
import pytest
import torch
from sklearn.base import clone

from ppl_hmm import (
    HMM,
    MASK,
    AttentionHead,
    ConditionNotMet,
    ImpossibleText,
    InvalidInput,
    MaskedFeatures,
    MemoryHMM,
    MemoryTask,
    OracleLM,
    SoftPrompt,
    constructed_attention,
    constructed_prompt,
    fit_prompt,
    load,
    masked_conditionals,
    masked_features,
    memory_certificate,
    memory_posterior,
    posterior,
    random_memory_hmm,
    random_task,
    sample,
    save,
)

OPTIONS = [
    {"attention": attention, "scores": scores, "positional": positional}
    for attention in ("softmax", "hard")
    for scores in ("conditional", "token")
    for positional in (False, True)
]


@pytest.fixture(scope="module")
def data():
    """A memory model of the paper's regime with a task, features and labels; 600 texts."""
    model = random_memory_hmm("wei2021-memory", 4, 3, 10, seed=0)
    text = sample(model, 600, 20, seed=0).tokens
    task = random_task(model, 0, text)
    return masked_features(OracleLM(model), text), task.labels(posterior(model, text)).numpy()


def random_features(seed=0, n_texts=7, length=5, n_tokens=4):
    """Random G, tokens with masks, and lengths with a zero."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(-1, n_tokens, size=(n_texts, length))
    lengths = rng.integers(1, length + 1, size=n_texts)
    lengths[0] = 0
    conditionals = oracle.random_rows(rng, n_texts, length, n_tokens)
    return MaskedFeatures(*map(torch.tensor, (conditionals, tokens, lengths)))


def random_head(seed=0, n_tokens=4, n_scores=1, **options):
    rng = np.random.default_rng(seed)
    return AttentionHead.from_weights(
        rng.normal(size=(n_tokens + 1, n_tokens)), rng.normal(size=(n_scores, n_tokens + 1, n_tokens)), **options
    )


# What it computes, by plain loops.


@pytest.mark.parametrize("attention", ["softmax", "hard"])
@pytest.mark.parametrize("scores", ["token", "posterior"])
@pytest.mark.parametrize("n_scores", [1, 3])
def test_the_decision_is_the_attended_mean_of_values(attention, scores, n_scores):
    head, features = random_head(1, n_scores=n_scores, attention=attention, scores=scores), random_features(2)
    decision = head.decision_function(features).reshape(len(features), n_scores)
    for b in range(len(features)):
        n_positions = int(features.lengths[b])
        G, tokens = features.conditionals[b].numpy(), features.tokens[b].numpy()
        score = np.array([head.score_weights_[x] @ g for x, g in zip(tokens, G, strict=True)])  # -1 is the last row
        if scores == "posterior":
            score = score / [1.0 if x == MASK else g[x] for x, g in zip(tokens, G, strict=True)]
        score = score[:n_positions]
        alpha = np.exp(score) if attention == "softmax" else (score >= score.max(initial=-np.inf) - 1e-9).astype(float)
        alpha = alpha / alpha.sum() if n_positions else alpha
        padded = np.pad(alpha, (0, len(tokens) - n_positions))
        np.testing.assert_allclose(head.attend(features)[b], padded, rtol=0, atol=1e-12)
        values = np.array([head.value_weights_[:, x] @ g for x, g in zip(tokens, G, strict=True)])
        np.testing.assert_allclose(decision[b], padded @ values, rtol=0, atol=1e-12)


def test_ties_go_to_the_higher_class():
    features = random_features()
    for n_scores, highest in ((1, 1), (3, 2)):
        head = AttentionHead.from_weights(np.zeros((5, 4)), np.zeros((n_scores, 5, 4)))
        assert head.predict(features).tolist() == [highest] * len(features)


def test_hard_attention_shares_among_the_best():
    features = MaskedFeatures(torch.full((1, 4, 2), 0.5), torch.tensor([[0, 1, 0, 1]]), torch.tensor([3]))
    head = AttentionHead.from_weights([[2.0, 2.0], [1.0, 1.0], [9.0, 9.0]], np.ones((1, 3, 2)), attention="hard")
    assert head.attend(features).tolist() == [[0.5, 0, 0.5, 0]]


# Features.


def test_features_are_masked_conditionals_after_the_prompt():
    case = oracle.random_memory_case(5)
    features = masked_features(
        OracleLM(case.model), case.tokens, prompt=case.prompt, lengths=case.lengths, impossible="mask"
    )
    expected = masked_conditionals(case.model, case.tokens, prompt=case.prompt, lengths=case.lengths, impossible="mask")
    assert torch.equal(features.conditionals, expected)
    assert features.tokens.tolist() == case.masked_tokens.tolist()


def test_features_of_impossible_text_are_named():
    model = HMM([1.0, 0.0], np.eye(2), np.eye(2))
    with pytest.raises(ImpossibleText, match="context of sequence 1"):
        masked_features(OracleLM(model), [[0, 0], [0, 1]])
    assert (masked_features(OracleLM(model), [[1, 1]], impossible="mask").conditionals == 0).all()


# What it learns.


@pytest.mark.parametrize("options", OPTIONS)
def test_learned_heads_recover_the_task(options, data):
    features, labels = data
    head = AttentionHead(C=1e6, **options).fit(features[:400], labels[:400])
    attention = head.attend(features)
    np.testing.assert_allclose(attention.sum(1), 1, rtol=0, atol=1e-12)
    assert (attention >= 0).all()
    chance = max(labels[400:].mean(), 1 - labels[400:].mean())
    assert head.score(features[400:], labels[400:]) > (1 + chance) / 2  # more than half of what there is to learn


def test_learned_attention_does_not_see_past_an_end(data):
    features, labels = data
    half = MaskedFeatures(features.conditionals, features.tokens, torch.full((len(features),), 10))
    other = features.conditionals.clone()
    other[:, 10:] = 0.1
    changed = MaskedFeatures(other, torch.where(torch.arange(20) < 10, features.tokens, 0), half.lengths)
    one, same = (AttentionHead().fit(each[:200], labels[:200]) for each in (half, changed))
    np.testing.assert_array_equal(one.decision_function(half), same.decision_function(changed))


def test_fitting_is_deterministic_and_cloneable(data):
    features, labels = data
    head = AttentionHead(attention="hard", C=10.0)
    one, same = clone(head).fit(features, labels), clone(head).fit(features, labels)
    np.testing.assert_array_equal(one.score_weights_, same.score_weights_)
    np.testing.assert_array_equal(one.value_weights_, same.value_weights_)


def test_labels_may_have_any_names_and_number(data):
    features, labels = data
    names = np.array(["cat", "dog"])[labels]
    head = AttentionHead().fit(features, names)
    assert set(head.predict(features)) <= {"cat", "dog"}
    first = features.tokens[:, 0].numpy() % 3
    three = AttentionHead(scores="token", positional=True, C=1e6).fit(features, first)
    assert three.decision_function(features).shape == (len(features), 3)
    assert three.score(features, first) > max(np.bincount(first)) / len(first) + 0.1


def test_select_takes_the_best_on_validation(data):
    features, labels = data
    train, held_out = (features[:400], labels[:400]), (features[400:], labels[400:])
    chosen = AttentionHead.select(*train, *held_out, attention="hard")
    for C in (1.0, 1e2, 1e4, 1e6):
        alone = AttentionHead(attention="hard", C=C).fit(*train)
        assert chosen.score(*held_out) >= alone.score(*held_out)
        if chosen.C == C:
            np.testing.assert_array_equal(chosen.value_weights_, alone.value_weights_)


# Storage.


@pytest.mark.parametrize("positional", [False, True])
def test_heads_are_stored(positional, data, tmp_path):
    features, labels = data
    head = AttentionHead(attention="hard", scores="token", positional=positional).fit(features, labels)
    save(head, tmp_path / "head.nc")
    again = load(tmp_path / "head.nc")
    assert isinstance(again, AttentionHead)
    assert again.get_params() == head.get_params()
    np.testing.assert_array_equal(again.decision_function(features), head.decision_function(features))


def test_a_stored_head_with_other_shapes_is_refused(data):
    dataset = AttentionHead().fit(*data).to_dataset()
    with pytest.raises(InvalidInput, match="value_weights of an AttentionHead: expected finite numbers of shape"):
        AttentionHead.from_dataset(dataset.isel(score=[0, 0]))


# Theorem M's head.


@pytest.mark.parametrize("scores", ["posterior", "conditional"])
@pytest.mark.parametrize("n_cells", [1, 2])
def test_the_constructed_head_is_right_where_a_state_is_certain(scores, n_cells):
    model = random_memory_hmm("recoverable", 5, 2, 9, seed=1, n_cells=n_cells, n_recoverable=2)
    text = sample(model, 500, 6, seed=0).tokens
    task = MemoryTask([[0.0, 0.0], [1.0, -0.3]], 0)  # both labels occur
    head = constructed_attention(model, task, scores=scores)
    certificate = memory_certificate(model, task)
    exact = posterior(model, text)
    features = masked_features(OracleLM(model), text)
    if scores == "posterior":
        certain = certificate.coverage(text) >= 1 - 1e-12
    else:
        cavity = (features.conditionals @ certificate.weights.sum((0, 1))).amax(-1)
        certain = cavity >= 1 - 1e-10
    certain &= task.decidable(exact, 1e-9)
    assert certain.sum() >= (50 if scores == "posterior" else 0)
    assert (head.predict(features) == task.labels(exact).numpy())[certain.numpy()].all()


def test_the_constructed_head_after_a_prompt():
    model = random_memory_hmm("dirichlet", 4, 3, 9, seed=1)
    task = MemoryTask([[0.0, 0, 0], [1, -1, 0]], 0)  # needs two of three values: 8 rows of 12, for 9 tokens
    with pytest.raises(ConditionNotMet, match="span") as caught:
        constructed_attention(model, task)
    assert not caught.value.certificate.recoverable
    prompt = constructed_prompt(model, task)
    text = sample(model, 300, 6, seed=0).tokens
    features = masked_features(OracleLM(model), text, prompt=prompt)
    exact = posterior(model, text)
    right = constructed_attention(model, task, prompt).predict(features) == task.labels(exact).numpy()
    assert right[task.decidable(exact, 1e-6).numpy()].all()


def test_a_prompt_for_a_memory_is_learned_as_one():
    model = random_memory_hmm("dirichlet", 2, 2, 4, seed=0)
    text = sample(model, 120, 5, seed=0).tokens
    law = memory_posterior(model, text)[:, 0, 0]
    labels = law > law.median()
    fit = fit_prompt(OracleLM(model), text, labels.long(), validation=(text, labels.long()), restarts=2, seed=0)
    assert fit.prompt.rows.shape == (1, 2, 2)
    assert fit.prompt.to_dataset().rows.dims == ("prompt_position", "memory_value", "state")


# What it refuses.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "mean"}, "value of 'attention': expected"),
        ({"scores": "x"}, "value of 'scores': expected"),
        ({"scores": "posterior"}, "scores of a learned head: expected 'conditional' or 'token'"),
        ({"tolerance": -1.0}, "tolerance: expected a non-negative number, got -1.0"),
        ({"tolerance": "1"}, "tolerance: expected a non-negative number, got '1'"),
    ],
)
def test_bad_options(options, message, data):
    with pytest.raises(InvalidInput, match=message):
        AttentionHead(**options).fit(*data)


def test_bad_data(data):
    features, labels = data
    head = AttentionHead()
    with pytest.raises(InvalidInput, match="data of an AttentionHead: expected MaskedFeatures of B texts"):
        head.fit(features.conditionals, labels)
    with pytest.raises(InvalidInput, match="data of an AttentionHead"):
        head.fit(features, labels[:-1])
    with pytest.raises(InvalidInput, match="labels: expected at least two classes"):
        head.fit(features, np.zeros_like(labels))
    with pytest.raises(InvalidInput, match="grid: expected at least one value of C"):
        AttentionHead.select(features, labels, features, labels, grid=())
    with pytest.raises(InvalidInput, match=r"features of an attention head: expected conditionals \(B, T, V\)"):
        MaskedFeatures(features.conditionals, features.tokens[:, 1:], features.lengths)
    with pytest.raises(InvalidInput, match=r"features of an AttentionHead: expected MaskedFeatures \(B, T, 4\)"):
        random_head().predict(features)
    positional = AttentionHead(positional=True).fit(features, labels)
    shorter = MaskedFeatures(features.conditionals[:, 1:], features.tokens[:, 1:], features.lengths - 1)
    with pytest.raises(InvalidInput, match="positions of an AttentionHead with positional scores: expected 20, got 19"):
        positional.predict(shorter)
    with pytest.raises(InvalidInput, match="masked_features: expected one language model"):
        masked_features(OracleLM(MemoryHMM.stack([random_memory_hmm("dirichlet", 2, 2, 3, 0)] * 2)), [[0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conditionals": np.full((7, 5, 4), np.nan)}, "conditionals: expected finite numbers"),
        ({"conditionals": [[0.5], [0.5, 0.5]]}, "conditionals: expected a rectangular array"),
        ({"tokens": np.full((7, 5), 4)}, r"tokens of an attention head: expected integers in -1..3, got 4..4"),
        ({"tokens": np.full((7, 5), -2)}, r"tokens of an attention head: expected integers in -1..3, got -2..-2"),
        ({"tokens": np.zeros((7, 5))}, "tokens of an attention head: expected integers in -1..3, got torch.float64"),
        ({"lengths": np.full(7, 6)}, r"lengths of an attention head: expected integers in 0..5, got 6..6"),
    ],
)
def test_bad_features(change, message):
    with pytest.raises(InvalidInput, match=message):
        MaskedFeatures(**{**vars(random_features()), **change})


def test_features_may_be_any_arrays():
    features = random_features()
    same = MaskedFeatures(features.conditionals.tolist(), features.tokens.numpy(), features.lengths.tolist())
    np.testing.assert_array_equal(random_head().decision_function(same), random_head().decision_function(features))


def test_bad_weights():
    with pytest.raises(InvalidInput, match=r"score_weights of an AttentionHead: expected .* shape \(2, 1\), got shape"):
        AttentionHead.from_weights(1.0, 1.0)


def test_bad_arguments_of_constructions():
    model = random_memory_hmm("recoverable", 2, 2, 5, seed=0)
    task = MemoryTask([[0.0, 0], [1, -1]], 0)
    with pytest.raises(InvalidInput, match="support_threshold with conditional scores: expected 0"):
        constructed_attention(model, task, scores="conditional", support_threshold=0.1)
    with pytest.raises(InvalidInput, match="prompt_length for a memory model: expected None, got 1"):
        constructed_prompt(model, task, prompt_length=1)
    with pytest.raises(InvalidInput, match="a single MemoryHMM"):
        constructed_attention(model.flatten(), task)
    with pytest.raises(InvalidInput, match="prompt: expected shape"):
        constructed_attention(model, task, SoftPrompt([[1.0, 1.0]]))
